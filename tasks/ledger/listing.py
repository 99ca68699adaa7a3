"""Batches and rows page by page, for people who look through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Select, and_, func, literal, not_, or_, select

from tasks.ledger.batches import Batches
from tasks.ledger.open_work import IS_CARRIED, IS_DISMISSED, need_a_person
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
        query: Select[Any] = (
            select(func.coalesce(rows.c.customer_id, ""), *REPORTED)
            .where(rows.c.batch_id == batch_id, rows.c.record > after, *self._of_row(wanted))
            .order_by(rows.c.record)
            .limit(limit)
        )
        with self.engine.read() as connection:
            if wanted.needs_person:
                state = connection.execute(select(batches.c.state).where(batches.c.id == batch_id)).scalar_one()
                query = query.where(need_a_person(batch_id, state), ~IS_CARRIED, ~IS_DISMISSED)
            found = connection.execute(query).all()
        return [ListedRow(customer_id, report_row_of(row)) for customer_id, *row in found]

    def _of_row(self, wanted: RowFilter) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if wanted.state == "open":
            conditions.append(rows.c.state.in_(sorted(OPEN_STATES)))
        elif wanted.state:
            conditions.append(rows.c.state == wanted.state)
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
