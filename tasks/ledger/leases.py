"""A worker's rows: claimed, marked, recorded, released, all by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)

from tasks.identities import reference_of
from tasks.ledger.engine import UnwritableValue
from tasks.ledger.outcome_writes import OutcomeWrites
from tasks.ledger.schema import batches, rows, slices
from tasks.ledger.scope import LedgerPart
from tasks.ledger.worker_leases import WorkerLeases
from tasks.models import BatchState, LeasedRow, Outcome, RowState, Slice


class MarkResult(NamedTuple):
    """What the ledger says when rows are marked: which may be sent, and which batches have stopped."""

    marked: set[tuple[int, int]]  #: (batch, record) that are now `sending`
    stopped: set[int]  #: batches that no longer run
    lease_kept: bool  #: False: this worker was given up for dead, its rows are no longer its own
    at: float  #: when they were marked
    doubted: int = 0  #: outcomes that were recorded as `unclear`, because another created row holds their source

    def take(self, row: LeasedRow) -> bool:
        """Return, once for each mark, whether a row may be sent."""
        key = row.batch_id, row.record
        if key not in self.marked:
            return False
        self.marked.remove(key)
        return True


@dataclass(frozen=True, slots=True)
class Leases(LedgerPart):
    """A worker's rows: claimed, marked, recorded, released."""

    workers: WorkerLeases
    outcomes: OutcomeWrites

    def claim(self, slice_: Slice, worker: int) -> list[LeasedRow]:
        """Take every row of the slice that is due: to be sent, or to be looked up.

        Nothing is taken while the batch does not run, or if it is not this process's to send, and nothing is taken to
        be sent before the batch's sample was looked up, nor behind its canary rows before they are approved, whatever a
        message says. Raises LedgerReplaced. In a batch that verifies, a row that was
        never sent becomes `unclear` first, which is looked up: as one whose request, of a ledger that was lost, ended
        before the batch was accepted.
        """
        now = self.engine.now()
        in_slice = and_(
            rows.c.batch_id == slice_.batch_id,
            rows.c.record.between(slice_.first_record, slice_.last_record),
            rows.c.worker.is_(None),
        )
        runs = exists().where(
            batches.c.id == slice_.batch_id, batches.c.state == BatchState.RUNNING, self.scope.may_send
        )
        sampled = exists().where(batches.c.id == slice_.batch_id, batches.c.sample_due_at.is_(None))
        canary = select(batches.c.canary).where(batches.c.id == slice_.batch_id).scalar_subquery()
        approved = or_(canary == 0, rows.c.record <= canary)
        is_due = or_(
            and_(
                rows.c.state == RowState.WAITING,
                sampled,
                approved,
                or_(rows.c.not_before.is_(None), rows.c.not_before <= now),
            ),
            and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before <= now),
        )
        verifies = exists().where(batches.c.id == slice_.batch_id, batches.c.verify)
        unverified = and_(rows.c.state == RowState.WAITING, rows.c.attempts == 0, rows.c.resends == 0, verifies)
        accepted_at = select(batches.c.created_at).where(batches.c.id == slice_.batch_id).scalar_subquery()
        claim = (
            update(rows)
            .where(in_slice, is_due, runs)
            .values(
                worker=worker,
                state=case(
                    (unverified, literal(RowState.UNCLEAR.value)),
                    (rows.c.state == RowState.WAITING, literal(RowState.CLAIMED.value)),
                    else_=rows.c.state,
                ),
                not_before=case((unverified, now), else_=rows.c.not_before),
                ended_at=case((unverified, accepted_at), else_=rows.c.ended_at),
            )
            .returning(rows)
        )
        with self.engine.write() as connection:
            self.engine.memory.look(connection)
            claimed = connection.execute(claim).all()
            connection.execute(
                update(slices)
                .where(slices.c.batch_id == slice_.batch_id, slices.c.first_record == slice_.first_record)
                .values(rung=False)
            )
        return sorted(map(_leased_row, claimed), key=lambda row: row.record)

    def record_and_mark(
        self,
        worker: int,
        outcomes: Sequence[Outcome],
        to_send: Sequence[LeasedRow],
        lease_seconds: float,
        *,
        look_up_delay_seconds: float = 0.0,
    ) -> MarkResult:
        """Write outcomes and mark rows `sending`, in one transaction that also renews the worker's lease.

        Only the rows in `marked` may be sent; `attempts` of those has been raised by one. Outcomes that are not
        recorded as they are (their source is another row's, or the database cannot hold a value) are changed in place:
        those rows are `unclear` and unleased, to be looked up after `look_up_delay_seconds`. Raises
        LedgerReplaced, with nothing written, if rows are to be marked in a ledger that has forgotten some.
        """
        now = self.engine.now()
        look_up_at = now + look_up_delay_seconds
        each = self.outcomes.write_one_by_one
        try:
            return self._record_and_mark(worker, outcomes, to_send, lease_seconds, now, look_up_at, self.outcomes.write)
        except UnwritableValue:
            return self._record_and_mark(worker, outcomes, to_send, lease_seconds, now, look_up_at, each)

    def _record_and_mark(
        self,
        worker: int,
        outcomes: Sequence[Outcome],
        to_send: Sequence[LeasedRow],
        lease_seconds: float,
        now: float,
        look_up_at: float,
        write: Callable[[Connection, Sequence[Outcome], float, float], int],
    ) -> MarkResult:
        batch_ids = {row.batch_id for row in to_send}
        with self.engine.write(remembered=bool(outcomes or to_send)) as connection:
            doubted = write(connection, outcomes, now, look_up_at)
            lease_kept = self.workers.renew_within(connection, worker, lease_seconds)
            stopped: set[int] = set()
            marked: set[tuple[int, int]] = set()
            if lease_kept and to_send:
                self.engine.memory.look(connection)
                running = select(batches.c.id).where(batches.c.id.in_(batch_ids), batches.c.state == BatchState.RUNNING)
                stopped = batch_ids - set(connection.execute(running).scalars())
                marked = self._mark(connection, worker, [row for row in to_send if row.batch_id not in stopped], now)
        return MarkResult(marked, stopped, lease_kept, now, doubted)

    def _mark(
        self, connection: Connection, worker: int, to_send: Sequence[LeasedRow], now: float
    ) -> set[tuple[int, int]]:
        if not to_send:
            return set()
        keys = [{"b": row.batch_id, "r": row.record, "w": worker, "now": now} for row in to_send]
        changed = self.engine.execute_many(connection, _MARK, keys)
        if changed == len(to_send):
            return {(row.batch_id, row.record) for row in to_send}
        marked = set()  # somebody else has moved a row, or the driver does not count: look at each
        for row in to_send:
            is_ours = select(rows.c.record).where(
                rows.c.batch_id == row.batch_id,
                rows.c.record == row.record,
                rows.c.state == RowState.SENDING,
                rows.c.worker == worker,
                rows.c.attempts == row.attempts + 1,
            )
            if connection.execute(is_ours).one_or_none() is not None:
                marked.add((row.batch_id, row.record))
        return marked

    def release(self, worker: int, leased: Sequence[LeasedRow], not_before: Mapping[tuple[int, int], float]) -> None:
        """Give back rows that were not sent (or not looked up), some not to be touched before a time."""
        if not leased:
            return
        give_back = (
            update(rows)
            .where(
                rows.c.batch_id == bindparam("b"),
                rows.c.record == bindparam("r"),
                rows.c.worker == worker,
                or_(rows.c.state == RowState.CLAIMED, rows.c.state == RowState.UNCLEAR),
            )
            .values(
                worker=None,
                state=case((rows.c.state == RowState.CLAIMED, literal(RowState.WAITING.value)), else_=rows.c.state),
                not_before=func.coalesce(bindparam("nb"), rows.c.not_before),
            )
        )
        keys = [
            {"b": row.batch_id, "r": row.record, "nb": not_before.get((row.batch_id, row.record))} for row in leased
        ]
        with self.engine.write() as connection:
            connection.execute(give_back, keys)


_MARK = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.state == RowState.CLAIMED,
        rows.c.worker == bindparam("w"),
    )
    .values(
        state=RowState.SENDING,
        attempts=rows.c.attempts + 1,
        sent_at=bindparam("now"),
    )
)


def _leased_row(row: Row[Any]) -> LeasedRow:
    return LeasedRow(
        batch_id=row.batch_id,
        record=row.record,
        line=row.line,
        reference=reference_of(bytes(row.identity), row.generation),
        customer_id=row.customer_id,
        payment_method=row.payment_method,
        resource=row.resource,
        request=bytes(row.request or b"{}"),
        attempts=row.attempts,
        look_ups=row.look_ups,
        resends=row.resends,
        sent_at=row.sent_at,
        code=row.code,
        ended_at=row.ended_at,
        absent_at=row.absent_at,
        look_up=row.state == RowState.UNCLEAR,
    )
