"""Which slices are due: what a message is sent for."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import (
    bindparam,
    case,
    func,
    select,
    update,
)

from tasks.ledger.conditions import NOT_SETTLED
from tasks.ledger.store import Store
from tasks.models import (
    BatchState,
    Slice,
)
from tasks.schema import batches, rows, slices

#: A rung slice that nobody took is rung again after this; the broker may have lost its message.
RING_AGAIN_SECONDS = 20.0


#: Messages that may lie unread in the broker: few, so that a small file need not queue behind a large one.
RUNG_AT_ONCE = 24


class Doorbell(Store):
    """Rings for slices, fairly between batches."""

    def ring(self, room: int = RUNG_AT_ONCE) -> list[Slice]:
        """Take slices that are due, fairly between the running batches, at most so many that `room` lie unread.

        The caller sends a message for each. One that gets lost is due again after RING_AGAIN_SECONDS.
        """
        now = self.now()
        running = (
            select(slices.c.batch_id)
            .join(batches, batches.c.id == slices.c.batch_id)
            .where(slices.c.due_at <= now, batches.c.state == BatchState.RUNNING)
            .distinct()
        )
        with self._read() as connection:
            due_batches = connection.execute(running.order_by(slices.c.batch_id)).scalars().all()
        if not due_batches:
            return []
        with self._write() as connection:
            unread = connection.execute(select(func.count()).where(slices.c.rung, slices.c.due_at > now)).scalar_one()
            queues = []
            for batch_id in due_batches:
                query = (
                    select(slices.c.batch_id, slices.c.first_record, slices.c.last_record)
                    .where(slices.c.batch_id == batch_id, slices.c.due_at <= now)
                    .order_by(slices.c.due_at, slices.c.first_record)
                    .limit(max(0, room - unread))
                    .with_for_update(skip_locked=True)
                )
                queues.append([Slice(*row) for row in connection.execute(query)])
            taken = [one for turn in _turns(queues) for one in turn][: max(0, room - unread)]
            if taken:
                connection.execute(
                    update(slices)
                    .where(slices.c.batch_id == bindparam("b"), slices.c.first_record == bindparam("f"))
                    .values(rung=True, due_at=now + RING_AGAIN_SECONDS),
                    [{"b": one.batch_id, "f": one.first_record} for one in taken],
                )
        return taken

    def ring_again(self, one: Slice | None = None) -> None:
        """Make slices whose message nobody will act on due at once: one, or (the broker is new and empty) all."""
        again = update(slices).where(slices.c.rung)
        if one is not None:
            again = again.where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record)
        with self._write() as connection:
            connection.execute(again.values(rung=False, due_at=self.now()))

    def put_off(self, one: Slice, until: float) -> None:
        """Make a slice due at a time, because nobody may work on it before."""
        later = update(slices).where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record)
        with self._write() as connection:
            connection.execute(later.values(rung=False, due_at=until))

    def finish_slice(self, one: Slice) -> None:
        """Say when the slice is due again, by its rows; not at all if all of them are settled.

        A row that somebody holds is looked after in a while: its holder may give it back and die before it says so.
        """
        held_until = self.now() + RING_AGAIN_SECONDS
        when = case((rows.c.worker.is_(None), func.coalesce(rows.c.not_before, 0.0)), else_=held_until)
        due = select(func.min(when)).where(
            rows.c.batch_id == one.batch_id,
            rows.c.record.between(one.first_record, one.last_record),
            NOT_SETTLED,
        )
        with self._write() as connection:
            connection.execute(
                update(slices)
                .where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record, ~slices.c.rung)
                .values(due_at=due.scalar_subquery())
            )


def _turns(queues: list[list[Slice]]) -> Iterator[list[Slice]]:
    """Yield one slice of every queue, then the next of each."""
    for turn in range(max(map(len, queues), default=0)):
        yield [queue[turn] for queue in queues if turn < len(queue)]
