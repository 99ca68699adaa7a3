"""A ledger that somebody accepts as it is, after a restore: nothing in it is taken for unsent any more."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, not_, null, or_, select, update

from tasks.ledger.dispatch import Dispatch
from tasks.ledger.history import History
from tasks.ledger.memory import ACCEPTED_AHEAD, Seen, name_ledger
from tasks.ledger.schema import batches, ledger_identity, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, RowState

_ENDED = [BatchState.FINISHED, BatchState.CANCELLED, BatchState.UNUSABLE]


@dataclass(frozen=True, slots=True)
class Acceptance(LedgerPart):
    """Accepts a ledger as it is."""

    dispatch: Dispatch
    history: History

    def accept_as_it_is(self, who: str) -> list[int]:
        """Know this ledger from now on, although it is older than before, or another one; return its open batches.

        1. its counter goes on ahead of all that was ever seen of it, so that it is accepted in every home at once
        2. from now on all its batches verify: what they have not sent may have been sent since
        3. rows of unfinished batches that wait, or were to be looked up, begin as look-ups of a request that may have
           ended only now
        4. the history says so, of each unfinished batch and of the ledger itself (batch 0)

        Whoever works on it must have been stopped.
        """
        now = self.engine.now()
        self.engine.wait_for_ever()  # every row may change
        with self.engine.write() as connection:
            copied, found = self.engine.memory.copied(), name_ledger(connection)
            seen = Seen(found.ledger_id, max(found.counter, copied.counter if copied else 0) + ACCEPTED_AHEAD)
            connection.execute(update(ledger_identity).values(change_counter=seen.counter))
            connection.execute(update(batches).values(verify=True, sample_due_at=None))
            unfinished = not_(batches.c.state.in_(_ENDED))
            open_batches = list(connection.execute(select(batches.c.id).where(unfinished)).scalars())
            connection.execute(
                update(rows)
                .where(rows.c.batch_id.in_(open_batches), _UNSENT_OR_IN_DOUBT)
                .values(state=RowState.UNCLEAR, worker=None, look_ups=0, not_before=now, ended_at=now, absent_at=null())
            )
            for batch_id in open_batches:
                self.dispatch.make_due(connection, batch_id)
            for batch_id in (0, *open_batches):
                self.history.add(connection, batch_id, 0, "the ledger was accepted as it is, and is verified", who)
        self.engine.memory.adopt(seen)
        return open_batches


_UNSENT_OR_IN_DOUBT: ColumnElement[bool] = or_(
    rows.c.state.in_([RowState.WAITING, RowState.CLAIMED]),
    and_(rows.c.state == RowState.UNCLEAR, or_(rows.c.not_before.is_not(None), rows.c.worker.is_not(None))),
)
