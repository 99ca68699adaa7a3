"""Counting and paging: what reports and screens are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    exists,
    func,
    select,
)

from tasks.identities import reference_of
from tasks.ledger.conditions import FOUND_BY_STATE, GENERATION, indexed
from tasks.ledger.schema import batches, deliveries, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import OPEN_STATES, BatchState, ReportRow, RowCounts, RowState, decode_reasons

#: A batch in one of these has rows that are still to be done.
_UNFINISHED = (BatchState.READING, BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)


class Overview(NamedTuple):
    """How everything stands at one moment."""

    batches: Mapping[BatchState, int]  #: unfinished batches by state
    rows: Mapping[RowState, int]  #: their rows by state
    oldest_open_at: float | None  #: when the oldest of them that has an open row was accepted
    last_finished_at: float | None  #: when a batch last came to its end
    failing: int  #: deliveries whose first try failed and that wait for another


class RowTimes(NamedTuple):
    """When what happened to a row, as far as it did."""

    accepted_at: float  #: its batch
    sent_at: float | None  #: last
    latency_ms: int | None  #: of the last answer
    ended_at: float | None  #: the last request, whose outcome is unclear
    not_before: float | None  #: it is sent, or looked up, not before
    status_at: float | None  #: elepay was seen to have another status of its source than at first
    follow_up_at: float | None  #: elepay is asked for that status next


class RecentlySent(NamedTuple):
    """Rows of a batch that left a short time ago."""

    rows: int
    first_at: float | None  #: when the first of them left


class LookUpsToCome(NamedTuple):
    """Unclear rows of a batch that wait for their next look-up."""

    rows: int
    last_at: float  #: when the last of them is due


@dataclass(frozen=True, slots=True)
class Queries(LedgerPart):
    """Counts and pages; changes nothing."""

    def overview(self) -> Overview:
        """Count what is unfinished, by the indexes; a million rows take a while."""
        unfinished = (
            select(batches.c.id, batches.c.state, batches.c.created_at)
            .where(batches.c.state.in_([state.value for state in _UNFINISHED]))
            .order_by(batches.c.created_at)
        )
        by_state: dict[BatchState, int] = {}
        by_row: dict[RowState, int] = {}
        oldest = None
        with self.engine.read() as connection:
            for batch_id, state, created_at in connection.execute(unfinished).all():
                by_state[BatchState(state)] = by_state.get(BatchState(state), 0) + 1
                query = select(rows.c.state, func.count()).where(rows.c.batch_id == batch_id).group_by(rows.c.state)
                for row_state, count in connection.execute(query):
                    by_row[RowState(row_state)] = by_row.get(RowState(row_state), 0) + int(count)
                    if row_state in OPEN_STATES and oldest is None and state != BatchState.READING:
                        oldest = float(created_at)
            last = connection.execute(
                select(func.max(batches.c.finished_at)).where(batches.c.state == BatchState.FINISHED)
            ).scalar_one()
            failing = connection.execute(
                select(func.count()).where(deliveries.c.due_at.is_not(None), deliveries.c.tries > 0)
            ).scalar_one()
        return Overview(by_state, by_row, oldest, last, int(failing))

    def count_states(self, batch_id: int) -> dict[RowState, int]:
        """Return how many rows of a batch are in each state (states without rows are left out)."""
        query = select(rows.c.state, func.count()).where(rows.c.batch_id == batch_id).group_by(rows.c.state)
        with self.engine.read() as connection:
            return {RowState(row[0]): int(row[1]) for row in connection.execute(query)}

    def has_unsent(self, batch_id: int) -> bool:
        """Return whether a batch has rows that are still to be sent."""
        unsent = [RowState.WAITING, RowState.CLAIMED]
        query = select(exists(select(rows.c.record).where(rows.c.batch_id == batch_id, rows.c.state.in_(unsent))))
        with self.engine.read() as connection:
            return bool(connection.execute(query).scalar_one())

    def sent_since(self, batch_id: int, since: float, most: int = 2000) -> RecentlySent:
        """Count the last rows of a batch, by the order of the file, that left after a time and have a definite answer.

        Rows leave in about that order, and this is found by the indexes.
        """
        found = []
        with self.engine.read() as connection:
            for state in (RowState.CREATED, RowState.REFUSED):
                last = (
                    select(rows.c.sent_at)
                    .select_from(FOUND_BY_STATE)
                    .where(indexed.c.batch_id == batch_id, indexed.c.state == state)
                    .order_by(indexed.c.record.desc())
                    .limit(most)
                ).subquery()
                query = select(func.count(), func.min(last.c.sent_at)).where(last.c.sent_at > since)
                found.append(connection.execute(query).one())
        first = min((float(at) for _, at in found if at is not None), default=None)
        return RecentlySent(sum(int(count) for count, _ in found), first)

    def look_ups_to_come(self, batch_id: int) -> LookUpsToCome | None:
        """Return which unclear rows of a batch wait for their next look-up, if any."""
        query = (
            select(func.count(), func.max(rows.c.not_before))
            .select_from(FOUND_BY_STATE)
            .where(indexed.c.batch_id == batch_id, indexed.c.state == RowState.UNCLEAR, rows.c.not_before.is_not(None))
        )
        with self.engine.read() as connection:
            waiting, last_at = connection.execute(query).one()
        return LookUpsToCome(int(waiting), float(last_at)) if waiting else None

    def counts(self, batch_id: int) -> RowCounts:
        """Return how many records the file has, and how many rows stand in each state of the reconciliation."""
        count = self.count_states(batch_id)
        return RowCounts(
            records=self._records(batch_id),
            created=count.get(RowState.CREATED, 0),
            skipped=count.get(RowState.SKIPPED, 0),
            invalid=count.get(RowState.INVALID, 0),
            refused=count.get(RowState.REFUSED, 0),
            unclear=count.get(RowState.UNCLEAR, 0),
            open=sum(count.get(state, 0) for state in (RowState.WAITING, RowState.CLAIMED, RowState.SENDING)),
        )

    def _records(self, batch_id: int) -> int:
        with self.engine.read() as connection:
            return int(connection.execute(select(batches.c.records).where(batches.c.id == batch_id)).scalar_one())

    def count_skipped(self, batch_id: int) -> dict[str, int]:
        """Return how many skipped rows of a batch carry each code, the most frequent first."""
        skipped = (
            select(rows.c.code, func.count())
            .select_from(FOUND_BY_STATE)
            .where(indexed.c.batch_id == batch_id, indexed.c.state == RowState.SKIPPED, rows.c.code.is_not(None))
            .group_by(rows.c.code)
            .order_by(func.count().desc(), rows.c.code)
        )
        with self.engine.read() as connection:
            return {str(row[0]): int(row[1]) for row in connection.execute(skipped)}

    def latencies(self, batch_id: int) -> dict[int, int]:
        """Return milliseconds -> rows of a batch whose last answer took so long."""
        query = (
            select(rows.c.latency_ms, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.latency_ms.is_not(None))
            .group_by(rows.c.latency_ms)
        )
        with self.engine.read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def sent_per_second(self, batch_id: int) -> dict[int, int]:
        """Return epoch second -> rows whose last attempt left in it."""
        second = func.floor(rows.c.sent_at)
        query = (
            select(second, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.sent_at.is_not(None))
            .group_by(second)
            .order_by(second)
        )
        with self.engine.read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def report_row(self, batch_id: int, record: int) -> ReportRow:
        """Return one row as the reports show it."""
        query = select(*REPORTED).where(rows.c.batch_id == batch_id, rows.c.record == record)
        with self.engine.read() as connection:
            return report_row_of(connection.execute(query).one())

    def row_times(self, batch_id: int, record: int) -> RowTimes:
        """Return the times of one row."""
        query = (
            select(batches.c.created_at, *(rows.c[name] for name in RowTimes._fields[1:]))
            .join(rows, rows.c.batch_id == batches.c.id)
            .where(rows.c.batch_id == batch_id, rows.c.record == record)
        )
        with self.engine.read() as connection:
            return RowTimes(*connection.execute(query).one())

    def report_rows(self, batch_id: int, page: int = 5000) -> Iterator[ReportRow]:
        """Yield every row of a batch in the order of records, page by page, holding no transaction meanwhile."""
        last = 0
        while True:
            query = (
                select(*REPORTED)
                .where(rows.c.batch_id == batch_id, rows.c.record > last)
                .order_by(rows.c.record)
                .limit(page)
            )
            with self.engine.read() as connection:
                found = connection.execute(query).all()
            yield from map(report_row_of, found)
            if len(found) < page:
                return
            last = found[-1].record


#: What `report_row_of` takes, in its order: a name for each value of a million rows would take seconds.
REPORTED: tuple[Any, ...] = (
    rows.c.record,
    rows.c.line,
    rows.c.state,
    rows.c.identity,
    GENERATION,
    rows.c.payment_method,
    rows.c.source_id,
    rows.c.source_status,
    rows.c.adopted,
    rows.c.code,
    rows.c.parameter,
    rows.c.request_id,
    rows.c.attempts,
    rows.c.reasons,
    rows.c.not_before,
    rows.c.worker,
    rows.c.customer_id,
)


def report_row_of(row: Sequence[Any]) -> ReportRow:
    """Return a row as the reports show it, from the values of `REPORTED`."""
    record, line, state, identity, generation, method, source, status, adopted, code, parameter, request = row[:12]
    attempts, reasons, not_before, worker, customer = row[12:]
    return ReportRow(
        record,
        line,
        state,
        reference_of(identity, generation) if identity else "",
        method or "",
        source or "",
        status or "",
        bool(adopted),
        code or "",
        parameter or "",
        request or "",
        attempts,
        decode_reasons(reasons) if reasons else (),
        state == RowState.UNCLEAR and not_before is None and worker is None,
        customer or "",
    )
