"""What the decision about a row means for its batch: closed payment methods, halted and paused batches."""

from __future__ import annotations

from collections import deque

import structlog

from tasks import stop_texts
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.ledger import Ledger
from tasks.models import BatchState, LeasedRow, RowState, Stop, StopCode
from tasks.send.outcomes import Decision, Effect

log = structlog.get_logger("onboard")

#: A small batch may have been closed by another process in the instant between its last answers and their effect.
_MAY_BE_WRONG = (BatchState.RUNNING, BatchState.FINISHED)


class BatchGuards:
    """What a process knows of the batches that it works on, beyond their rows."""

    def __init__(self, ledger: Ledger, *, guard_answers: int, breaker_answers: int, breaker_share: float) -> None:
        self._ledger = ledger
        self._guard_answers = guard_answers
        self._breaker_answers, self._breaker_share = breaker_answers, breaker_share
        self._closed: dict[int, dict[tuple[str, str], tuple[int, float | None]]] = {}
        self._last_answers: dict[int, deque[bool]] = {}
        self._answers_differ: set[int] = set()

    def read_closed(self, batch_id: int) -> None:
        """Learn which payment methods are closed in a batch, by whomever."""
        self._closed[batch_id] = {
            (closed.payment_method, closed.resource): (closed.line, closed.until)
            for closed in self._ledger.guards.closed_methods(batch_id)
        }

    def closed(self, row: LeasedRow) -> tuple[int, float | None] | None:
        """Return (line, until) if the row's method is closed now: by the row on `line`, for good if until is None."""
        closed = self._closed.get(row.batch_id)
        if not closed:
            return None
        for key in ((row.payment_method, ""), (row.payment_method, row.resource)):
            by = closed.get(key)
            if by is not None and (by[1] is None or by[1] > self._ledger.now()):
                return by
        return None

    def take_effect(self, row: LeasedRow, decision: Decision) -> None:
        """Let a decision that is in the ledger act on its batch or payment method."""
        self._pause_on_refusals(row, decision)
        if decision.effect is Effect.HALT:
            if self._ledger.lifecycle.change_state(
                row.batch_id, BatchState.HALTED, decision.stop, only_from=[BatchState.RUNNING]
            ):
                log.error("batch halted", batch=row.batch_id, line=row.line, why=stop_texts.sentence(decision.stop))
        elif decision.effect is Effect.CLOSE_METHOD:
            until = None if decision.again_after is None else self._ledger.now() + decision.again_after
            code = decision.outcome.code or ""
            self._closed.setdefault(row.batch_id, {})[row.payment_method, decision.resource] = (row.line, until)
            self._ledger.guards.close_method(row, resource=decision.resource, code=code, until=until)
            log.warning("payment method closed", batch=row.batch_id, line=row.line, code=code, for_good=until is None)
        elif decision.outcome.code == DOES_NOT_EXIST and self._guard_answers:
            self._halt_on_wrong_key(row)
        elif decision.outcome.state is RowState.CREATED:
            self._answers_differ.add(row.batch_id)

    def _pause_on_refusals(self, row: LeasedRow, decision: Decision) -> None:
        """Pause a batch when more than a share of its last answers are refusals: something is wrong with all of it."""
        state, batch_id = decision.outcome.state, row.batch_id
        if state not in (RowState.CREATED, RowState.REFUSED) or not self._breaker_answers:
            return
        last = self._last_answers.setdefault(batch_id, deque(maxlen=self._breaker_answers))
        last.append(state is RowState.REFUSED and decision.outcome.code != "method_closed")
        if len(last) < self._breaker_answers or sum(last) <= self._breaker_share * len(last):
            return
        go_on = "approve" if self._ledger.batches.get(batch_id).canary else "resume"
        values = {"refused": sum(last), "answers": len(last), "batch": batch_id, "go_on": go_on}
        stop = Stop(StopCode.BREAKER, values)
        last.clear()
        if self._ledger.lifecycle.pause(batch_id, stop):
            log.error("batch paused", batch=batch_id, why=stop_texts.sentence(stop))

    def _halt_on_wrong_key(self, row: LeasedRow) -> None:
        """Halt a batch whose first answers all say "does not exist": the key is of another mode or account (§8.8)."""
        if row.batch_id in self._answers_differ:
            return
        halted = self._ledger.batches.get(row.batch_id).state is BatchState.HALTED  # then this answer came late
        if not self._ledger.guards.all_answers_say(row.batch_id, DOES_NOT_EXIST, 1 if halted else self._guard_answers):
            return
        stop = Stop(StopCode.GUARD, {"answers": self._guard_answers, "code": DOES_NOT_EXIST})
        now = self._ledger.lifecycle.change_state(row.batch_id, BatchState.HALTED, stop, only_from=_MAY_BE_WRONG)
        self._ledger.guards.take_back_refusals(row.batch_id, DOES_NOT_EXIST)
        if now:
            log.error("batch halted", batch=row.batch_id, why=stop_texts.sentence(stop))
