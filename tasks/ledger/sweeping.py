"""The rescue of the abandoned, and what holds for a whole batch: closed methods, wrong keys, witnesses."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import (
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from tasks.ledger.adding import ENDED_STATUSES
from tasks.ledger.store import Store
from tasks.models import (
    HeldRow,
    RowState,
    reference_of,
)
from tasks.schema import closed_methods, history, rows, workers


class ClosedMethod(NamedTuple):
    """A payment method that elepay does not take in this batch."""

    payment_method: str
    resource: str  #: "" for whatever resource
    code: str
    line: int
    until: float | None


class Sweeping(Store):
    """Takes back, closes, and remembers."""

    def sweep(self, *, total_timeout_seconds: float, look_up_delay_seconds: float) -> int:
        """Take back what dead workers hold; return how many rows.

        Claimed rows wait again at once. Rows being sent become `unclear` once no request of theirs can still be under
        way: at once for a worker that surely is dead (`end_worker`), else a request's longest time after its lease.
        """
        now = self.now()
        expired = select(workers.c.id).where(workers.c.lease_ends_at <= self._now)
        overdue = select(workers.c.id).where(
            or_(workers.c.lease_ends_at <= 0, workers.c.lease_ends_at + total_timeout_seconds <= self._now)
        )
        known = select(workers.c.id)
        with self._read() as connection:
            anything = connection.execute(
                select(or_(exists(expired), exists().where(rows.c.worker.is_not(None), rows.c.worker.not_in(known))))
            ).scalar_one()
        if not anything:
            return 0
        nobodys = rows.c.worker.not_in(known)
        with self._write() as connection:
            free = connection.execute(
                update(rows)
                .where(rows.c.worker.is_not(None), or_(rows.c.worker.in_(expired), nobodys))
                .where(rows.c.state.in_([RowState.CLAIMED, RowState.UNCLEAR]))
                .values(
                    worker=None,
                    state=case((rows.c.state == RowState.CLAIMED, literal(RowState.WAITING.value)), else_=rows.c.state),
                )
                .returning(rows.c.batch_id)
            ).all()
            unclear = connection.execute(
                update(rows)
                .where(rows.c.worker.is_not(None), or_(rows.c.worker.in_(overdue), nobodys))
                .where(rows.c.state == RowState.SENDING)
                .values(
                    worker=None,
                    state=RowState.UNCLEAR,
                    code="worker_died",
                    not_before=now + look_up_delay_seconds,
                )
                .returning(rows.c.batch_id, rows.c.record, rows.c.attempts)
            ).all()
            if unclear:
                connection.execute(
                    insert(history).values(
                        at=now, what="worker died before the outcome was written", code="worker_died"
                    ),
                    [{"batch_id": row[0], "record": row[1], "attempt": row[2]} for row in unclear],
                )
            for batch_id in {row[0] for row in free} | {row[0] for row in unclear}:
                self._make_due(connection, batch_id)
            empty_handed = ~exists().where(rows.c.worker == workers.c.id)
            connection.execute(delete(workers).where(workers.c.id.in_(overdue), empty_handed))
        return len(free) + len(unclear)

    def close_method(self, row: HeldRow, *, resource: str, code: str, until: float | None) -> None:
        """Remember that elepay does not take a row's payment method: for good, or `until` a time."""
        values = {
            "batch_id": row.batch_id,
            "payment_method": row.payment_method,
            "resource": resource,
            "code": code,
            "line": row.line,
            "until": until,
        }
        statement = self._dialect_insert(closed_methods).values(values)
        changed = {"code": code, "line": row.line, "until": until}
        keep_for_good = closed_methods.c.until.is_not(None)
        statement = statement.on_conflict_do_update(
            index_elements=["batch_id", "payment_method", "resource"], set_=changed, where=keep_for_good
        )
        with self._write() as connection:
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
            or_(closed_methods.c.until.is_(None), closed_methods.c.until > self.now()),
        )
        with self._read() as connection:
            return [ClosedMethod(*row) for row in connection.execute(query)]

    def all_answers_say(self, batch_id: int, code: str, at_least: int) -> bool:
        """Tell whether the batch has at least so many answers and every one of them is a refusal with this code."""
        answered = and_(rows.c.batch_id == batch_id, rows.c.state.in_([RowState.CREATED, RowState.REFUSED]))
        query = select(func.count(), func.count().filter(rows.c.code == code)).where(answered)
        with self._read() as connection:
            total, saying = connection.execute(query).one()
        return bool(total >= at_least and total == saying)

    def take_back_refusals(self, batch_id: int, code: str) -> int:
        """Let rows refused with this code wait again: the refusal was about the key, not about them."""
        with self._write() as connection:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.state == RowState.REFUSED, rows.c.code == code)
                .values(state=RowState.WAITING, code=None, parameter=None, request_id=None, first_sent_at=None)
            ).rowcount
            self._make_due(connection, batch_id)
        return changed

    def witnesses(self, batch_id: int, payment_method: str) -> list[tuple[str, str]]:
        """Return (customer, reference) of up to three rows whose source elepay surely has, newest first.

        A look-up must find these, else its "absent" proves nothing. Rows of this batch come first, then of any other.
        """
        base = (
            select(rows.c.customer_id, rows.c.identity, rows.c.generation)
            .where(
                rows.c.state == RowState.CREATED,
                rows.c.payment_method == payment_method,
                rows.c.adopted.is_not(True),
                rows.c.source_status.not_in(sorted(ENDED_STATUSES)),
                rows.c.identity.is_not(None),
            )
            .order_by(rows.c.record.desc())
            .limit(3)
        )
        with self._read() as connection:
            found = connection.execute(base.where(rows.c.batch_id == batch_id)).all()
        return [(str(row[0]), reference_of(bytes(row[1]), row[2])) for row in found]
