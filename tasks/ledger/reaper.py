"""Recovers rows leased by dead workers, and what holds for a whole batch: closed methods, wrong keys, witnesses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from tasks.ledger.conditions import GENERATION
from tasks.ledger.schema import batches, closed_methods, history, rows, workers
from tasks.ledger.store import Store
from tasks.models import (
    ENDED_STATUSES,
    LeasedRow,
    RowState,
    reference_of,
)

#: The code of a row whose refusal was about the key.
TAKEN_BACK = "refusal_taken_back"


class ClosedMethod(NamedTuple):
    """A payment method that elepay does not take in this batch."""

    payment_method: str
    resource: str  #: "" for whatever resource
    code: str
    line: int
    until: float | None


class Witness(NamedTuple):
    """A row whose source elepay surely has."""

    customer_id: str
    reference: str
    sent_at: float


class Sweeping(Store):
    """Takes back, closes, and remembers."""

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
            self._make_due(connection, batch_id)
        return len(waiting) + len(unclear)

    def close_method(self, row: LeasedRow, *, resource: str, code: str, until: float | None) -> None:
        """Remember that elepay does not take a row's payment method: for good, or `until` a time."""
        values = {
            "batch_id": row.batch_id,
            "payment_method": row.payment_method,
            "resource": resource,
            "code": code,
            "line": row.line,
            "until": until,
        }
        statement = self.engine.insert(closed_methods).values(values)
        changed = {"code": code, "line": row.line, "until": until}
        keep_for_good = closed_methods.c.until.is_not(None)
        statement = statement.on_conflict_do_update(
            index_elements=["batch_id", "payment_method", "resource"], set_=changed, where=keep_for_good
        )
        with self.engine.write() as connection:
            connection.execute(statement)

    def closed_methods(self, batch_id: int) -> list[ClosedMethod]:
        """Return what is closed in a batch now."""
        query = select(
            closed_methods.c.payment_method,
            closed_methods.c.resource,
            closed_methods.c.code,
            closed_methods.c.line,
            closed_methods.c.until,
        ).where(
            closed_methods.c.batch_id == batch_id,
            or_(closed_methods.c.until.is_(None), closed_methods.c.until > self.engine.now()),
        )
        with self.engine.read() as connection:
            return [ClosedMethod(*row) for row in connection.execute(query)]

    def all_answers_say(self, batch_id: int, code: str, at_least: int) -> bool:
        """Tell whether the batch has at least so many answers and every one of them is a refusal with this code."""
        answered = and_(rows.c.batch_id == batch_id, rows.c.state.in_([RowState.CREATED, RowState.REFUSED]))
        query = select(func.count(), func.count().filter(rows.c.code == code)).where(answered)
        with self.engine.read() as connection:
            total, saying = connection.execute(query).one()
        return bool(total >= at_least and total == saying)

    def take_back_refusals(self, batch_id: int, code: str) -> int:
        """Let rows refused with this code wait again: the refusal was about the key, not about them.

        Until they are sent again their code says so.
        """
        with self.engine.write() as connection:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.state == RowState.REFUSED, rows.c.code == code)
                .values(state=RowState.WAITING, code=TAKEN_BACK, parameter=None, request_id=None, yielded=None)
            ).rowcount
            self._make_due(connection, batch_id)
        return changed

    def witnesses(self, batch_id: int, record: int, payment_method: str, *, after: float) -> list[Witness]:
        """Return a few rows whose source elepay surely has, to see what its lists show.

        First the one that was sent the soonest `after` a time, of those with a neighbouring or a high record number
        and of those in newer batches; then others, the youngest first: of this batch, else of others of this account. A
        source that was found in a list by a row never sent counts only if it was pending then, as a new one is: lists
        may hide those.
        """
        batch = batches.alias()
        base = (
            select(rows.c.customer_id, rows.c.identity, GENERATION, rows.c.sent_at)
            .where(
                rows.c.state == RowState.CREATED,
                rows.c.payment_method == payment_method,
                or_(rows.c.adopted.is_not(True), and_(rows.c.attempts == 0, rows.c.source_status == "pending")),
                rows.c.customer_id.is_not(None),
                rows.c.source_status.not_in(sorted(ENDED_STATUSES)),
                rows.c.identity.is_not(None),
                or_(rows.c.sent_at.is_not(None), rows.c.attempts == 0),
            )
            .limit(_NEIGHBOURS)
        )
        here = base.where(rows.c.batch_id == batch_id)
        elsewhere = base.join(batch, batch.c.id == rows.c.batch_id).where(
            batch.c.live == self.account.live, batch.c.address == self.account.address, rows.c.batch_id != batch_id
        )
        queries = [
            here.where(rows.c.record > record).order_by(rows.c.record),
            here.order_by(rows.c.record.desc()),
            elsewhere.order_by(rows.c.batch_id.desc(), rows.c.record.desc()),
        ]
        with self.engine.read() as connection:
            found = [[_witness(row) for row in connection.execute(query)] for query in queries]
        services = {one for part in found[:2] for one in part}
        others = set(found[2])
        younger = sorted((one for one in services | others if one.sent_at > after), key=_sent_at)
        older = {one for one in services if one.sent_at <= after} or {one for one in others if one.sent_at <= after}
        return [*younger[:1], *sorted(older, key=_sent_at, reverse=True)[:2]]


#: Rows that are looked at to find witnesses.
_NEIGHBOURS = 200


def _witness(row: Any) -> Witness:
    return Witness(str(row[0]), reference_of(bytes(row[1]), row[2]), float(row[3] or 0.0))


def _sent_at(one: Witness) -> float:
    return one.sent_at
