"""What people decide about rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    case,
    exists,
    func,
    or_,
    select,
    update,
)

from tasks.errors import LedgerError
from tasks.identities import reference_of
from tasks.ledger.conditions import FOUND_BY_STATE, GIVEN_UP, UNDECIDED, indexed
from tasks.ledger.dispatch import Dispatch
from tasks.ledger.held_sources import HeldSources, Holder
from tasks.ledger.history import History
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import RowState


class UnclearRow(NamedTuple):
    """A row that waits for a person's word."""

    batch_id: int
    record: int
    line: int
    customer_id: str
    payment_method: str
    reference: str
    code: str
    sent_at: float | None


class DoubtTimes(NamedTuple):
    """When what happened that put a row in doubt."""

    sent_at: float | None
    ended_at: float | None  #: when its request ended, whose outcome is unclear
    absent_at: float | None  #: when a complete list first lacked its source since then


@dataclass(frozen=True, slots=True)
class Resolution(LedgerPart):
    """Rows that wait for the decision of a person."""

    dispatch: Dispatch
    history: History
    held_sources: HeldSources

    def unclear_rows(
        self, batch_id: int | None = None, limit: int | None = 1000, after: tuple[int, int] = (0, 0)
    ) -> list[UnclearRow]:
        """Return rows that nothing but a person can settle, behind a batch and record, in the order of both."""
        batch, record = after
        query = (
            select(rows)
            .select_from(FOUND_BY_STATE)
            .where(_waits_for_a_person(batch_id))
            .where(indexed.c.batch_id >= batch, or_(indexed.c.batch_id > batch, indexed.c.record > record))
            .order_by(indexed.c.batch_id, indexed.c.record)
            .limit(limit)
        )
        with self.engine.read() as connection:
            return [
                UnclearRow(
                    row.batch_id,
                    row.record,
                    row.line,
                    row.customer_id,
                    row.payment_method,
                    reference_of(bytes(row.identity), row.generation),
                    row.code or "",
                    row.sent_at,
                )
                for row in connection.execute(query)
            ]

    def count_unclear(self, batch_id: int | None = None) -> int:
        """Count the rows that nothing but a person can settle, of one batch or of all."""
        query = select(func.count()).select_from(FOUND_BY_STATE).where(_waits_for_a_person(batch_id))
        with self.engine.read() as connection:
            return int(connection.execute(query).scalar_one())

    def record_before(self, batch_id: int, line: int) -> tuple[int, int] | None:
        """Return (record, line) of the last record that starts on a physical line or before it."""
        query = select(rows.c.record, rows.c.line).where(
            rows.c.batch_id == batch_id, rows.c.line <= line, rows.c.record <= line
        )  # a record has a line of its own at least: what is looked at begins near it, not with the last of a million
        with self.engine.read() as connection:
            found = connection.execute(query.order_by(rows.c.record.desc()).limit(1)).one_or_none()
        return None if found is None else (int(found.record), int(found.line))

    def customer_of(self, batch_id: int, record: int) -> str:
        """Return the customer id of a record; "" if it has none, or it was dropped."""
        query = select(rows.c.customer_id).where(rows.c.batch_id == batch_id, rows.c.record == record)
        with self.engine.read() as connection:
            return str(connection.execute(query).scalar_one() or "")

    def doubt_times(self, batch_id: int, record: int) -> DoubtTimes:
        """Return when a row was sent, and what was seen since."""
        query = select(rows.c.sent_at, rows.c.ended_at, rows.c.absent_at)
        with self.engine.read() as connection:
            found = connection.execute(query.where(rows.c.batch_id == batch_id, rows.c.record == record)).one()
        return DoubtTimes(*found)

    def resolve(
        self,
        batch_id: int,
        record: int,
        state: RowState,
        *,
        source_id: str | None,
        who: str,
        reason: str = "",
    ) -> None:
        """Settle an unclear row by a person's word: created (with its source), waiting (send it again), or given up.

        A row that is given up stays `unclear` and keeps its identity: a source may exist, so no later file may bring
        it again. Raises LedgerError if the row does not wait for a person, or the source belongs to another row.
        """
        values: dict[str, Any] = {"state": state, "source_id": source_id, "code": None, "not_before": None}
        settled = UNDECIDED
        if state is RowState.CREATED:
            values.update(adopted=True, follow_up_at=self.engine.now())
        elif state is RowState.WAITING:
            never_sent = rows.c.attempts == 0  # else a batch that verifies would look it up once more
            values.update(look_ups=0, resends=case((never_sent, 1), else_=0))
        else:
            values["code"] = GIVEN_UP
            settled = and_(UNDECIDED, rows.c.code.is_distinct_from(GIVEN_UP))
        with self.engine.write() as connection:
            if source_id is not None:
                self._refuse_known_source(connection, source_id)
            changed = connection.execute(
                update(rows).where(rows.c.batch_id == batch_id, rows.c.record == record, settled).values(values)
            ).rowcount
            if not changed:
                raise LedgerError(
                    "line {line} of batch {batch} (record {record}) does not wait for a person",
                    line=_line(connection, batch_id, record),
                    batch=batch_id,
                    record=record,
                )
            if source_id is not None:
                self.held_sources.refile(connection, source_id, Holder(batch_id, record, adopted=True))
            line = f"resolved: {values['code'] or state}" + (f", source {source_id}" if source_id else "")
            line += f", because: {reason}" if reason else ""
            self.history.add(connection, batch_id, record, line, who)
            if state is RowState.WAITING:
                self.dispatch.reopen(connection, batch_id)
            if state is RowState.CREATED:
                self._leave_nothing_personal(connection, batch_id, record)

    @staticmethod
    def _leave_nothing_personal(connection: Connection, batch_id: int, record: int) -> None:
        """Drop a settled row's personal data if that of its batch was dropped while the row was in doubt."""
        dropped = exists().where(batches.c.id == batch_id, batches.c.dropped_at.is_not(None))
        connection.execute(
            update(rows)
            .where(rows.c.batch_id == batch_id, rows.c.record == record, dropped)
            .values(customer_id=None, request=None)
        )

    def _refuse_known_source(self, connection: Connection, source_id: str) -> None:
        holder = self.held_sources.holder_of(connection, source_id)
        if holder is not None:
            raise LedgerError(
                "source {source} belongs to line {line} of batch {batch} (record {record}) already",
                source=source_id,
                line=_line(connection, holder.batch_id, holder.record),
                batch=holder.batch_id,
                record=holder.record,
            )

    def count_to_look_up(self, batch_id: int) -> int:
        """Return how many rows of a batch `look_up_again` would change."""
        query = select(func.count()).select_from(rows).where(_is_looked_up_again(batch_id))
        with self.engine.read() as connection:
            return int(connection.execute(query).scalar_one())

    def look_up_again(self, batch_id: int, who: str) -> int:
        """Let every row of a batch that waits for a person be looked up once more; return how many."""
        with self.engine.write() as connection:
            changed = connection.execute(
                update(rows)
                .where(_is_looked_up_again(batch_id))
                .values(not_before=self.engine.now(), look_ups=0, resends=0, absent_at=None)
            ).rowcount
            if changed:
                self.history.add(connection, batch_id, 0, f"{changed} unclear rows are looked up again", who)
                self.dispatch.reopen(connection, batch_id)
        return changed


def _waits_for_a_person(batch_id: int | None) -> ColumnElement[bool]:
    every = select(batches.c.id)  # named so that the index of states serves: it begins with the batch
    here = indexed.c.batch_id.in_(every) if batch_id is None else indexed.c.batch_id == batch_id
    return and_(here, indexed.c.state == RowState.UNCLEAR, UNDECIDED, rows.c.code.is_distinct_from(GIVEN_UP))


def _is_looked_up_again(batch_id: int) -> ColumnElement[bool]:
    return and_(
        rows.c.batch_id == batch_id,
        rows.c.state == RowState.UNCLEAR,
        rows.c.not_before.is_(None),
        rows.c.worker.is_(None),
    )


def _line(connection: Connection, batch_id: int, record: int) -> int:
    """Return the line on which a record starts: people type lines."""
    query = select(rows.c.line).where(rows.c.batch_id == batch_id, rows.c.record == record)
    return int(connection.execute(query).scalar_one())
