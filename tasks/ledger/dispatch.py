"""Which slices are due: what a message is sent for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, exists, func, or_, select, update

from tasks.ledger.conditions import NOT_SETTLED, TO_DO
from tasks.ledger.schema import batches, rows, slices
from tasks.ledger.scope import LedgerPart
from tasks.models import (
    BatchState,
    Slice,
)
from tasks.send_window import Window

#: A dispatched slice that nobody took is dispatched again after this; the broker may have lost its message.
DISPATCH_AGAIN_SECONDS = 20.0


#: Messages that may lie unread in the broker: few, so that a small file need not queue behind a large one.
DISPATCHED_AT_ONCE = 24


@dataclass(frozen=True, slots=True)
class Dispatch(LedgerPart):
    """Says which slices a message is sent for, fairly between batches."""

    def take_due(self, room: int = DISPATCHED_AT_ONCE) -> list[Slice]:
        """Take slices that are due, fairly between the running batches, at most so many that `room` lie unread.

        Only of batches that are this process's to send, and while their own windows are open.

        The batch with the fewest unread messages comes first, so that a small file need not wait for the slices of a
        large one. The caller sends a message for each slice. One that gets lost is due again after
        DISPATCH_AGAIN_SECONDS.
        """
        now = self.engine.now()
        due_batches = (
            select(slices.c.batch_id, batches.c.window)
            .join(batches, batches.c.id == slices.c.batch_id)
            .where(slices.c.due_at <= now, batches.c.state == BatchState.RUNNING, self.scope.may_send)
            .distinct()
        )
        unread_messages = (
            select(slices.c.batch_id, func.count())
            .join(batches, batches.c.id == slices.c.batch_id)
            .where(slices.c.rung, slices.c.due_at > now, self.scope.may_send)
            .group_by(slices.c.batch_id)
        )
        with self.engine.read() as connection:
            found = connection.execute(due_batches).all()
        due = [batch_id for batch_id, window in found if Window.parse(window).is_open(now)]
        if not due:
            return []
        with self.engine.write() as connection:
            unread = {row[0]: int(row[1]) for row in connection.execute(unread_messages)}
            places = max(0, room - sum(unread.values()))
            queues = {}
            for batch_id in sorted(due, key=lambda batch_id: (unread.get(batch_id, 0), batch_id))[:places]:
                query = (
                    select(slices.c.batch_id, slices.c.first_record, slices.c.last_record)
                    .where(slices.c.batch_id == batch_id, slices.c.due_at <= now)
                    .order_by(slices.c.due_at, slices.c.first_record)
                    .limit(places)
                    .with_for_update(skip_locked=True)
                )
                queues[batch_id] = [Slice(*row) for row in connection.execute(query)]
            taken = _fewest_first(queues, unread)[:places]
            if taken:
                connection.execute(
                    update(slices)
                    .where(slices.c.batch_id == bindparam("b"), slices.c.first_record == bindparam("f"))
                    .values(rung=True, due_at=now + DISPATCH_AGAIN_SECONDS),
                    [{"b": slice_.batch_id, "f": slice_.first_record} for slice_ in taken],
                )
        return taken

    def has(self, slice_: Slice) -> bool:
        """Return whether the ledger has a slice, as a message names it."""
        there = exists().where(
            slices.c.batch_id == slice_.batch_id,
            slices.c.first_record == slice_.first_record,
            slices.c.last_record == slice_.last_record,
        )
        with self.engine.read() as connection:
            return bool(connection.execute(select(there)).scalar_one())

    def repeat(self, slice_: Slice | None = None) -> None:
        """Make slices whose message will reach nobody due at once: one, or (the broker is new and empty) all."""
        again = update(slices).where(slices.c.rung)
        if slice_ is None:
            again = again.where(slices.c.batch_id.in_(select(batches.c.id).where(self.scope.may_send)))
        else:
            again = again.where(slices.c.batch_id == slice_.batch_id, slices.c.first_record == slice_.first_record)
        with self.engine.write() as connection:
            connection.execute(again.values(rung=False, due_at=self.engine.now()))

    def window_of(self, batch_id: int) -> Window:
        """Return when rows of a batch may be sent."""
        with self.engine.read() as connection:
            window = connection.execute(select(batches.c.window).where(batches.c.id == batch_id)).scalar_one()
        return Window.parse(window)

    def put_off(self, slice_: Slice, until: float) -> None:
        """Make a slice due at a time, because nobody may work on it before."""
        later = update(slices).where(slices.c.batch_id == slice_.batch_id, slices.c.first_record == slice_.first_record)
        with self.engine.write() as connection:
            connection.execute(later.values(rung=False, due_at=until))

    def finish(self, slice_: Slice) -> None:
        """Set when the slice is due again, by its rows; never if all of them are settled.

        A leased row is looked at again later: its worker may release it and die before it finishes the slice.
        """
        held_until = self.engine.now() + DISPATCH_AGAIN_SECONDS
        when = case((rows.c.worker.is_(None), func.coalesce(rows.c.not_before, 0.0)), else_=held_until)
        due = select(func.min(when)).where(
            rows.c.batch_id == slice_.batch_id,
            rows.c.record.between(slice_.first_record, slice_.last_record),
            NOT_SETTLED,
        )
        with self.engine.write() as connection:
            connection.execute(
                update(slices)
                .where(
                    slices.c.batch_id == slice_.batch_id, slices.c.first_record == slice_.first_record, ~slices.c.rung
                )
                .values(due_at=due.scalar_subquery())
            )

    def make_due(self, connection: Connection, batch_id: int) -> None:
        """Make every slice with something to do due now."""
        to_do = exists().where(
            rows.c.batch_id == batch_id,
            rows.c.record.between(slices.c.first_record, slices.c.last_record),
            TO_DO,
        )
        due = func.min if self.engine.is_sqlite else func.least
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        connection.execute(
            update(slices)
            .where(slices.c.batch_id == batch_id, ~slices.c.rung, to_do)
            .where(or_(canary == 0, slices.c.last_record <= canary))
            .values(due_at=due(func.coalesce(slices.c.due_at, self.engine.now()), self.engine.now()))
        )

    def reopen(self, connection: Connection, batch_id: int) -> None:
        """Reopen a finished batch, because one of its rows is to be sent or looked up."""
        connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, batches.c.state == BatchState.FINISHED)
            .values(state=BatchState.RUNNING, finished_at=None, dropped_at=None, runner=self.scope.runner)
        )
        self.make_due(connection, batch_id)

    def forget_messages(self, connection: Connection, batch_ids: Sequence[int]) -> None:
        """Make the slices due whose messages lie on the queue of a command that has ended, or of whoever had them."""
        unread = update(slices).where(slices.c.batch_id.in_(batch_ids), slices.c.rung)
        connection.execute(unread.values(rung=False, due_at=self.engine.now()))


def _fewest_first(queues: Mapping[int, Sequence[Slice]], unread: Mapping[int, int]) -> list[Slice]:
    """Return the slices in the order in which they keep the batches' unread messages equal."""
    turns = [
        (unread.get(batch_id, 0) + turn, batch_id, slice_)
        for batch_id, queue in queues.items()
        for turn, slice_ in enumerate(queue)
    ]
    return [slice_ for _, _, slice_ in sorted(turns)]
