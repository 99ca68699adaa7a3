"""The life of a batch: started, stopped, resumed, closed; every step is a compare-and-set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import EllipsisType
from typing import Any

import orjson
from sqlalchemy import and_, exists, func, insert, or_, select, true, update

from tasks import stop_texts
from tasks.ledger.batches import WATCH, hold_reading, stop_columns
from tasks.ledger.conditions import NOT_SETTLED, some_not_settled
from tasks.ledger.dispatch import Dispatch
from tasks.ledger.held_sources import HeldSources
from tasks.ledger.history import History
from tasks.ledger.open_work import Key, OpenWork
from tasks.ledger.outbox import Outbox
from tasks.ledger.sampling import Sampling
from tasks.ledger.schema import batches, rows, slices
from tasks.ledger.scope import LedgerPart
from tasks.models import HOLDS_ALL, BatchState, NotificationKind, RowState, Stop, StopCode

#: What people are notified of when a batch gets into this state.
_NOTIFIED_OF = {BatchState.PAUSED: NotificationKind.PAUSED, BatchState.HALTED: NotificationKind.HALTED}


class Approval(Enum):
    """What became of an approval."""

    GIVEN = auto()  #: the batch goes on
    FIRST = auto()  #: it is stored; the batch goes on when somebody else approves it, too
    REPEATED = auto()  #: the same person gave the first one
    NOT_WAITED_FOR = auto()  #: the batch does not wait for approval


@dataclass(frozen=True, slots=True)
class Lifecycle(LedgerPart):
    """Moves batches from one state to the next."""

    dispatch: Dispatch
    held_sources: HeldSources
    sampling: Sampling
    history: History
    outbox: Outbox
    open_work: OpenWork

    def start(
        self,
        batch_id: int,
        slice_rows: int,
        *,
        canary_rows: int = 0,
        warnings: Sequence[Sequence[Any]] = (),
        sample: bool = False,
        taken_up: Mapping[Key, Key] | None = None,
        needs_approval: bool = False,
    ) -> None:
        """Cut the batch's waiting rows into slices that are due now, and let it run.

        With `sample` some of its rows are to be looked up before any is sent, if it has enough of them
        (`tasks/send/sampling.py`). Raises LedgerReplaced.

        With `canary_rows` the first so many rows are a slice of their own, and only that one is due before `approve`;
        with `needs_approval` a batch without canary rows waits for it before its first row, and so does one all of
        whose rows would be canary rows. `warnings` are what the reports say of the file besides its rows, as JSON-able
        lists. `taken_up` are rows of earlier batches whose work rows of this one take up (`WorkMatcher`).
        """
        query = (
            select(rows.c.record)
            .where(rows.c.batch_id == batch_id, rows.c.state == RowState.WAITING)
            .order_by(rows.c.record)
            .execution_options(yield_per=10_000)
        )
        now = self.engine.now()
        with self.engine.write() as connection:
            hold_reading(connection, batch_id)
            self.engine.memory.look(connection)
            self.open_work.carry_over(connection, taken_up or {})
            waiting = connection.execute(query).scalars()
            canary = list(itertools.islice(waiting, canary_rows))
            parts = itertools.chain(
                [canary] if canary else [], iter(lambda: list(itertools.islice(waiting, slice_rows)), [])
            )
            ranges = [
                {
                    "batch_id": batch_id,
                    "first_record": part[0],
                    "last_record": part[-1],
                    "due_at": None if canary and part is not canary else now,
                }
                for part in parts
            ]
            canary_end = canary[-1] if canary and len(ranges) > 1 else 0
            holds = needs_approval and bool(ranges) and not canary_end
            if holds:
                ranges = [{**each, "due_at": None} for each in ranges]
            if ranges:
                connection.execute(insert(slices).values(rung=False), ranges)
            records = connection.execute(select(func.count()).where(rows.c.batch_id == batch_id)).scalar_one()
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
                .values(
                    state=BatchState.PAUSED if holds else BatchState.RUNNING,
                    **stop_columns(stop := Stop(StopCode.APPROVAL, {"batch": batch_id}) if holds else None),
                    records=records,
                    reader=None,
                    canary=HOLDS_ALL if holds else canary_end,
                    sample_due_at=now if sample and self.sampling.is_worthwhile(connection, batch_id) else None,
                    warnings=orjson.dumps(list(warnings)).decode(),
                )
            )
            if stop is not None:
                self.outbox.enqueue(connection, NotificationKind.PAUSED, batch_id, why=stop.encode())

    def change_window(self, batch_id: int, window: str, who: str) -> None:
        """Give a batch another window, as `window.Window` writes it."""
        with self.engine.write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(window=window))
            self.history.add(connection, batch_id, 0, f"is sent {window}" if window else "is sent at any time", who)
            self.dispatch.make_due(connection, batch_id)

    def set_deadline(self, batch_id: int, deadline_at: float | None) -> None:
        """Give a batch another deadline, or none."""
        with self.engine.write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(deadline_at=deadline_at))

    def verify_from_now_on(self, batch_id: int) -> None:
        """Have those rows of a batch that were never sent looked up before they are; then it needs no sample."""
        with self.engine.write() as connection:
            verify = update(batches).where(batches.c.id == batch_id)
            connection.execute(verify.values(verify=True, sample_due_at=None))

    def pause_after_canary(self, batch_id: int) -> bool:
        """Pause a running batch whose canary rows have all come to an end; True for the one caller that did it."""
        if not self.waits_for_approval(batch_id):
            return False
        with self.engine.read() as connection:
            canary = connection.execute(select(batches.c.canary).where(batches.c.id == batch_id)).scalar_one()
        code = StopCode.APPROVAL if canary == HOLDS_ALL else StopCode.CANARY
        return self.pause(batch_id, Stop(code, {"batch": batch_id}))

    def waits_for_approval(self, batch_id: int) -> bool:
        """Return whether all canary rows of a batch have come to an end, and nobody has approved the others."""
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        left = exists().where(rows.c.batch_id == batch_id, rows.c.record <= canary, NOT_SETTLED)
        with self.engine.read() as connection:
            return bool(connection.execute(select(and_(canary != 0, ~left))).scalar_one())

    def approve(self, batch_id: int, who: str, *, one_of_two: str | None = None) -> Approval:
        """Let this process's command, or the fleet, go on with a batch after its canary rows, or before its first row.

        With `one_of_two`, the key of a person, two people have to approve: the first approval is only stored. Whatever
        two people do at the same time, each step is a compare-and-set.
        """
        waits = update(batches).where(
            batches.c.id == batch_id,
            batches.c.canary != 0,
            batches.c.state == BatchState.PAUSED,
            or_(batches.c.sample_due_at.is_(None), batches.c.canary == HOLDS_ALL),
        )
        with self.engine.write(remembered=True) as connection:
            self.engine.memory.look(connection)
            if one_of_two is not None:
                first = waits.where(batches.c.first_approver.is_(None)).values(first_approver=one_of_two)
                if connection.execute(first).rowcount:
                    self.history.add(connection, batch_id, 0, "approved by the first of two people", who)
                    return Approval.FIRST
                repeated = waits.where(batches.c.first_approver == one_of_two).values(first_approver=one_of_two)
                if connection.execute(repeated).rowcount:
                    return Approval.REPEATED
            approved = connection.execute(
                waits.values(
                    canary=0, state=BatchState.RUNNING, state_reason="", stop_code=None, runner=self.scope.runner
                )
            ).rowcount
            if approved:
                self.dispatch.forget_messages(connection, [batch_id])
                self.dispatch.make_due(connection, batch_id)
                self.history.add(connection, batch_id, 0, "approved", who)
        return Approval.GIVEN if approved else Approval.NOT_WAITED_FOR

    def pause_overdue(self) -> list[int]:
        """Pause every running batch whose deadline has passed; return them. What was not sent goes on waiting."""
        now = self.engine.now()
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING, batches.c.deadline_at <= now)
        with self.engine.read() as connection:
            overdue = connection.execute(query).scalars().all()
        return [batch_id for batch_id in overdue if self.pause(batch_id, Stop(StopCode.DEADLINE, {"batch": batch_id}))]

    def pause(self, batch_id: int, stop: Stop, who: str = "") -> bool:
        """Pause a running batch; False if it does not run."""
        return self.change_state(batch_id, BatchState.PAUSED, stop, only_from=[BatchState.RUNNING], who=who)

    def resume(self, batch_id: int, who: str, *, stopped_by: StopCode | EllipsisType | None = ...) -> bool:
        """Let this process's command, or the fleet, go on with a batch that is stopped, or that nobody works on.

        False if it is neither, or if it is not stopped for the reason `stopped_by`, where that is given. Its slices are
        due at once. Raises LedgerReplaced.
        """
        expected = true() if stopped_by is ... else batches.c.stop_code.is_not_distinct_from(stopped_by)
        stopped = batches.c.state.in_([BatchState.PAUSED.value, BatchState.HALTED.value])
        abandoned = and_(batches.c.state == BatchState.RUNNING, ~self.scope.is_worked_on)
        with self.engine.write(remembered=True) as connection:
            self.engine.memory.look(connection)
            resumed = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, self.scope.of_account, or_(stopped, abandoned), expected)
                .values(state=BatchState.RUNNING, state_reason="", stop_code=None, runner=self.scope.runner)
            ).rowcount
            if resumed:
                self.dispatch.forget_messages(connection, [batch_id])
                self.dispatch.make_due(connection, batch_id)
                self.history.add(connection, batch_id, 0, str(BatchState.RUNNING), who)
        return resumed == 1

    def change_state(
        self,
        batch_id: int,
        to: BatchState,
        stop: Stop | None,
        *,
        only_from: Iterable[BatchState],
        who: str = "",
    ) -> bool:
        """Stop or cancel a batch if it is where the caller believes it is; return whether it was."""
        now = self.engine.now()
        with self.engine.write(remembered=True) as connection:
            moved = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state.in_([state.value for state in only_from]))
                .values(
                    state=to,
                    **stop_columns(stop),
                    finished_at=now if to is BatchState.CANCELLED else None,
                )
            ).rowcount
            if moved and to is BatchState.CANCELLED:
                self.held_sources.file(connection, batch_id)
            if moved:
                self.history.add(
                    connection, batch_id, 0, f"{to}: {stop_texts.sentence(stop)}" if stop else str(to), who
                )
            if moved and to in _NOTIFIED_OF:
                self.outbox.enqueue(connection, _NOTIFIED_OF[to], batch_id, why=stop.encode() if stop else "")
        return moved == 1

    def close(self, batch_id: int) -> bool:
        """Finish a running batch in which nothing is left to send or look up; True for the one caller that did it.

        Before that all its sources are filed, those of a cancelled batch as well; a row whose source is another's is
        left to be looked up.
        """
        left = some_not_settled(batch_id)
        with self.engine.read() as connection:
            query = select(batches.c.state, left).where(batches.c.id == batch_id)
            state, unsettled = connection.execute(query).one()
        if unsettled and state != BatchState.CANCELLED:
            return False
        with self.engine.write() as connection:
            self.held_sources.file(connection, batch_id)
            closed = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING, ~left)
                .values(state=BatchState.FINISHED, finished_at=self.engine.now(), state_reason="")
            ).rowcount
            if closed:
                self.outbox.enqueue(connection, NotificationKind.FINISHED, batch_id)
        return closed == 1

    def that_may_have_ended(self) -> list[int]:
        """Return the running batches that `close` or `pause_after_canary` may change, by one statement for all."""
        may = or_(batches.c.canary != 0, ~some_not_settled(batches.c.id))
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING, may).order_by(batches.c.id)
        with self.engine.read() as connection:
            return list(connection.execute(query).scalars())

    def take(self, batch_id: int) -> bool:
        """Make an unfinished batch this process's to send, unless others work on it; return whether it is now."""
        with self.engine.write() as connection:
            free = and_(batches.c.id == batch_id, self.scope.of_account, ~self.scope.is_worked_on)
            if connection.execute(update(batches).where(free).values(runner=self.scope.runner)).rowcount:
                self.dispatch.forget_messages(connection, [batch_id])
            return bool(
                connection.execute(select(exists().where(batches.c.id == batch_id, self.scope.may_send))).scalar_one()
            )

    def return_to_drop_folder(self) -> int:
        """Give what a watcher brought back to watchers and fleet, if the command that went on with it is gone."""
        query = select(batches.c.id).where(
            batches.c.state == BatchState.RUNNING,
            batches.c.brought_by == WATCH,
            batches.c.runner.is_not(None),
            ~self.scope.is_worked_on,
        )
        with self.engine.read() as connection:
            found = connection.execute(query).scalars().all()
        if not found:
            return 0
        with self.engine.write() as connection:
            again = update(batches).where(batches.c.id.in_(found), ~self.scope.is_worked_on)
            returned = connection.execute(again.values(runner=None)).rowcount
            self.dispatch.forget_messages(connection, found)
        return returned
