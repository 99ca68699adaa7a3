"""Recovers rows leased by dead workers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from tasks.ledger.dispatch import Dispatch
from tasks.ledger.schema import history, rows, workers
from tasks.ledger.scope import LedgerPart
from tasks.models import (
    RowState,
)


@dataclass(frozen=True, slots=True)
class Reaper(LedgerPart):
    """Recovers what workers hold that are dead, or that do not know of it."""

    dispatch: Dispatch

    def reap(self, *, look_up_delay_seconds: float) -> int:
        """Take back what dead workers hold; return how many rows.

        Claimed rows wait again at once. Rows being sent become `unclear` once no request of theirs can still be under
        way: at once for a worker that surely is dead (`end_worker`), else its longest request after its lease.
        """
        expired = select(workers.c.id).where(workers.c.lease_ends_at <= self.engine.sql_now)
        overdue = select(workers.c.id).where(
            or_(
                workers.c.lease_ends_at <= 0,
                workers.c.lease_ends_at + workers.c.longest_request_seconds <= self.engine.sql_now,
            )
        )
        known = select(workers.c.id)
        with self.engine.read() as connection:
            anything = connection.execute(
                select(or_(exists(expired), exists().where(rows.c.worker.is_not(None), rows.c.worker.not_in(known))))
            ).scalar_one()
        if not anything:
            return 0
        self.engine.end_frozen_sessions()
        nobodys = rows.c.worker.not_in(known)
        with self.engine.write() as connection:
            reaped = self._take_back(
                connection,
                free=or_(rows.c.worker.in_(expired), nobodys),
                lost=or_(rows.c.worker.in_(overdue), nobodys),
                look_up_delay_seconds=look_up_delay_seconds,
            )
            empty_handed = ~exists().where(rows.c.worker == workers.c.id)
            connection.execute(delete(workers).where(workers.c.id.in_(overdue), empty_handed))
        return reaped

    def give_back_unknown(self, worker: int, known: Collection[tuple[int, int]], look_up_delay_seconds: float) -> int:
        """Take back what a living worker holds without knowing: all but the `known` (batch, record); return how many.

        Only that worker may call it, and only while it claims nothing.
        """
        query = select(rows.c.batch_id, rows.c.record).where(rows.c.worker == worker)
        with self.engine.read() as connection:
            unknown = [key for row in connection.execute(query) if (key := (row[0], row[1])) not in known]
        taken = 0
        for start in range(0, len(unknown), 500):
            these = and_(
                rows.c.worker == worker, tuple_(rows.c.batch_id, rows.c.record).in_(unknown[start : start + 500])
            )
            with self.engine.write() as connection:
                taken += self._take_back(
                    connection, free=these, lost=these, look_up_delay_seconds=look_up_delay_seconds
                )
        return taken

    def _take_back(
        self,
        connection: Connection,
        *,
        free: ColumnElement[bool],
        lost: ColumnElement[bool],
        look_up_delay_seconds: float,
    ) -> int:
        """Let held rows go: those `free` that were not being sent, and those `lost` that were, as `unclear`."""
        now = self.engine.now()
        waiting = connection.execute(
            update(rows)
            .where(rows.c.worker.is_not(None), free)
            .where(rows.c.state.in_([RowState.CLAIMED, RowState.UNCLEAR]))
            .values(
                worker=None,
                state=case((rows.c.state == RowState.CLAIMED, literal(RowState.WAITING.value)), else_=rows.c.state),
            )
            .returning(rows.c.batch_id)
        ).all()
        unclear = connection.execute(
            update(rows)
            .where(rows.c.worker.is_not(None), lost)
            .where(rows.c.state == RowState.SENDING)
            .values(
                worker=None,
                state=RowState.UNCLEAR,
                code="worker_died",
                ended_at=now,
                absent_at=None,
                not_before=now + look_up_delay_seconds,
            )
            .returning(rows.c.batch_id, rows.c.record, rows.c.attempts)
        ).all()
        if unclear:
            connection.execute(
                insert(history).values(at=now, what="worker died before the outcome was written", code="worker_died"),
                [{"batch_id": row[0], "record": row[1], "attempt": row[2]} for row in unclear],
            )
        for batch_id in {row[0] for row in waiting} | {row[0] for row in unclear}:
            self.dispatch.make_due(connection, batch_id)
        return len(waiting) + len(unclear)
