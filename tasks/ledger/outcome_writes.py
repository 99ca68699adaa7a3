"""Outcomes on their way into the ledger: what an answer or a look-up said about a leased row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from tasks.ledger.engine import BAD_VALUES
from tasks.ledger.held_sources import HeldSources
from tasks.ledger.schema import history, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import OWNING_STATES, Outcome, RowState


@dataclass(frozen=True, slots=True)
class OutcomeWrites(LedgerPart):
    """Writes outcomes within the transaction of whoever marks rows."""

    held_sources: HeldSources

    def write_one_by_one(
        self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float
    ) -> int:
        """Write each outcome by itself; one that the database cannot hold leaves its row `unclear`, without values."""
        doubted = 0
        for outcome in outcomes:
            try:
                with connection.begin_nested():
                    doubted += self.write(connection, [outcome], now, look_up_at)
            except BAD_VALUES:
                _drop_values(outcome, now, look_up_at)
                self.write(connection, [outcome], now, look_up_at)
        return doubted

    def write(self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float) -> int:
        """Write outcomes; return how many were changed to `unclear`, because their source is another row's."""
        if not outcomes:
            return 0
        doubted = self.held_sources.doubt_taken(connection, outcomes, now, look_up_at)
        changed = self.engine.execute_many(connection, _RECORD, [_outcome_values(outcome, now) for outcome in outcomes])
        refused = [
            {"b": outcome.batch_id, "r": outcome.record} for outcome in outcomes if outcome.state is RowState.REFUSED
        ]
        if refused:  # a statement that names `yielded` for all would write every row's place in `rows_one_owner` anew
            self.engine.execute_many(connection, _YIELD, refused)
        unclear = [
            {
                "b": each.batch_id,
                "r": each.record,
                "token": each.attempts,
                "ended": each.ended_at,
                "absent": each.absent_at,
            }
            for each in outcomes
            if each.state is RowState.UNCLEAR
        ]
        if unclear:
            self.engine.execute_many(connection, _NOTE_END, unclear)
        noted = [outcome for outcome in outcomes if outcome.what]
        if changed != len(outcomes):
            noted = noted + self._late(connection, outcomes)
        if noted:
            connection.execute(
                insert(history),
                [
                    {
                        "batch_id": outcome.batch_id,
                        "record": outcome.record,
                        "at": now,
                        "what": outcome.what,
                        "attempt": outcome.attempts,
                        "code": outcome.code,
                        "request_id": outcome.request_id,
                        "latency_ms": outcome.latency_ms,
                    }
                    for outcome in noted
                ],
            )
        return doubted

    @staticmethod
    def _late(connection: Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return, for the history, the sources whose answers came after the row had moved on: nobody may lose them."""
        late = []
        for outcome in outcomes:
            if outcome.source_id is None:
                continue
            known = connection.execute(
                select(rows.c.source_id).where(rows.c.batch_id == outcome.batch_id, rows.c.record == outcome.record)
            ).scalar_one_or_none()
            if known != outcome.source_id:
                outcome.what = f"late answer: source {outcome.source_id}, not recorded because the row had moved on"
                late.append(outcome)
        return late


#: A row that was taken from its worker may have moved on to any of these, but as long as nobody has sent it again
#: (`attempts`), what the worker learns at last is the truth about it.
_NOT_ENDED = OWNING_STATES - {RowState.CREATED}


_RECORDED = (
    "state",
    "worker",
    "source_id",
    "source_status",
    "adopted",
    "code",
    "parameter",
    "request_id",
    "latency_ms",
    "not_before",
    "look_ups",
    "resends",
    "follow_up_at",
    "source_generation",
)


_RECORD = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.attempts == bindparam("token"),
        or_(*(rows.c.state == state for state in sorted(_NOT_ENDED))),
    )
    .values({name: bindparam(f"new_{name}") for name in _RECORDED})
)


#: A refused row's identity is free for another file.
_YIELD = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.state == RowState.REFUSED,
    )
    .values(yielded=True)
)


#: Only a row in doubt has these times; the few that have them are written by themselves.
_NOTE_END = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.attempts == bindparam("token"),
        rows.c.state == RowState.UNCLEAR,
    )
    .values(ended_at=bindparam("ended"), absent_at=bindparam("absent"))
)


def _outcome_values(outcome: Outcome, now: float) -> dict[str, Any]:
    values: dict[str, Any] = {f"new_{name}": getattr(outcome, name, None) for name in _RECORDED}
    values.update(b=outcome.batch_id, r=outcome.record, token=outcome.attempts)
    if outcome.follow_up_after is not None:
        values["new_follow_up_at"] = now + outcome.follow_up_after
    return values


def _drop_values(outcome: Outcome, now: float, look_up_at: float) -> None:
    """Change an outcome in place to `unclear`, to be looked up, keeping nothing of the answer."""
    outcome.state, outcome.worker, outcome.code = RowState.UNCLEAR, None, "internal_error"
    outcome.source_id = outcome.source_status = outcome.adopted = outcome.source_generation = None
    outcome.parameter = outcome.request_id = outcome.latency_ms = outcome.follow_up_after = outcome.absent_at = None
    outcome.ended_at, outcome.not_before = now, look_up_at
    outcome.what = "the outcome could not be written, to be looked up"
