"""Batches and rows page by page, for people who look through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Connection, Select, and_, func, literal, not_, or_, select

from tasks.ledger.batches import Batches
from tasks.ledger.conditions import (
    FOUND_BY_STATE,
    IS_CARRIED,
    IS_DISMISSED,
    NEEDS_PERSON,
    indexed,
    states_that_need_a_person,
)
from tasks.ledger.queries import REPORTED, report_row_of
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import OPEN_STATES, Batch, BatchState, ReportRow, RowState


class BatchFilter(NamedTuple):
    """Which batches are looked for; what is left at its default is not asked for."""

    state: BatchState | None = None
    live: bool | None = None
    since: float | None = None  #: accepted then or later
    until: float | None = None  #: accepted before


class RowFilter(NamedTuple):
    """Which rows of a batch are looked for; what is left at its default is not asked for."""

    state: str = ""  #: `open` for all three open ones
    code: str = ""  #: of a reason as the reports name it
    column: str = ""  #: what that reason objects to
    needs_person: bool = False  #: still open: not carried over, nor dismissed


class ListedRow(NamedTuple):
    """A row of a batch, and its customer."""

    customer_id: str
    row: ReportRow


#: Codes that the reports give to rows whose `code` is empty, as conditions.
_UNSAID: dict[str, ColumnElement[bool]] = {
    "lost_answer": rows.c.code.is_(None),
    "to_be_sent_again": and_(rows.c.code.is_(None), rows.c.attempts > 0),
    "not_attempted": and_(rows.c.code.is_(None), rows.c.attempts == 0),
    "in_another_batch": and_(rows.c.code == "onboarded_before", rows.c.source_id.is_(None)),
    "onboarded_before": and_(rows.c.code == "onboarded_before", rows.c.source_id.is_not(None)),
}


@dataclass(frozen=True, slots=True)
class Listing(LedgerPart):
    """Pages by key, so that the last page of a million rows costs as much as the first."""

    batches: Batches

    def batches_page(self, wanted: BatchFilter, *, before: int | None, limit: int) -> list[Batch]:
        """Return batches with a number below `before`, newest first."""
        conditions = [*self._state_of(wanted.state)]
        if wanted.live is not None:
            conditions.append(batches.c.live == wanted.live)
        if wanted.since is not None:
            conditions.append(batches.c.created_at >= wanted.since)
        if wanted.until is not None:
            conditions.append(batches.c.created_at < wanted.until)
        if before is not None:
            conditions.append(batches.c.id < before)
        return self.batches.matching(and_(True, *conditions), limit)

    def unfinished(self, limit: int) -> list[Batch]:
        """Return batches that have not come to their end, newest first."""
        states = (BatchState.READING, BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)
        return self.batches.matching(batches.c.state.in_(states), limit)

    def _state_of(self, state: BatchState | None) -> list[ColumnElement[bool]]:
        """Return the condition of a state; one that runs, and whose command is gone, is interrupted."""
        gone = and_(batches.c.runner.is_not(None), not_(self.scope.is_worked_on))
        match state:
            case None:
                return []
            case BatchState.INTERRUPTED:
                return [batches.c.state == BatchState.RUNNING, gone]
            case BatchState.RUNNING:
                return [batches.c.state == state, not_(gone)]
        return [batches.c.state == state]

    def children(self, batch_id: int) -> list[Batch]:
        """Return the batches that retry or correct a batch, newest first."""
        return self.batches.matching(batches.c.parent_id == batch_id, 100)

    def rows_page(self, batch_id: int, wanted: RowFilter, *, after: int, limit: int) -> list[ListedRow]:
        """Return rows of a batch behind a record, in the order of records."""
        query: Select[Any] = select(func.coalesce(rows.c.customer_id, ""), *REPORTED).where(*self._of_row(wanted))
        with self.engine.read() as connection:
            states = self._states(connection, batch_id, wanted)
            in_order = [each.limit(limit) for each in _in_order(query, batch_id, after, states)]
            found = [row for each in in_order for row in connection.execute(each)]
        listed = [ListedRow(customer_id, report_row_of(row)) for customer_id, *row in found]
        return sorted(listed, key=lambda each: each.row.record)[:limit]

    @staticmethod
    def _states(connection: Connection, batch_id: int, wanted: RowFilter) -> Sequence[str]:
        """Return the states to look in; none: in whatever state."""
        if wanted.state:
            return sorted(OPEN_STATES) if wanted.state == "open" else [wanted.state]
        if not wanted.needs_person:
            return []
        state = connection.execute(select(batches.c.state).where(batches.c.id == batch_id)).scalar_one()
        return states_that_need_a_person(state)

    def _of_row(self, wanted: RowFilter) -> list[ColumnElement[bool]]:
        conditions = [NEEDS_PERSON, ~IS_CARRIED, ~IS_DISMISSED] if wanted.needs_person else []
        if wanted.code:
            conditions.append(or_(self._carries(wanted), *self._answered(wanted)))
        return conditions

    @staticmethod
    def _answered(wanted: RowFilter) -> list[ColumnElement[bool]]:
        """Return the conditions of rows with one code, ours or elepay's."""
        code = _UNSAID.get(wanted.code, rows.c.code == wanted.code)
        if not wanted.column:
            return [code]
        of = rows.c.payment_method if wanted.code == "method_closed" else rows.c.parameter
        return [and_(code, rows.c.state != RowState.INVALID, of == wanted.column)]

    def _carries(self, wanted: RowFilter) -> ColumnElement[bool]:
        """Return the condition of rows one of whose reasons has a code and a column.

        Reasons are kept as JSON, where a quote within a text is escaped: no other text can look like their beginning.
        """
        beginning = orjson.dumps([wanted.code, wanted.column] if wanted.column else [wanted.code])[:-1] + b","
        if self.engine.is_sqlite:
            return func.instr(rows.c.reasons, beginning) > 0
        return func.position(literal(beginning).op("IN")(rows.c.reasons)) > 0


def _in_order(query: Select[Any], batch_id: int, after: int, states: Sequence[str]) -> list[Select[Any]]:
    """Return what asks for the rows of a batch behind a record, in the order of records: one query for each state."""
    if not states:
        return [query.where(rows.c.batch_id == batch_id, rows.c.record > after).order_by(rows.c.record)]
    found = query.select_from(FOUND_BY_STATE).where(indexed.c.batch_id == batch_id, indexed.c.record > after)
    return [found.where(indexed.c.state == state).order_by(indexed.c.record) for state in states]
