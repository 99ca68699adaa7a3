"""What needs a person, by cause: how many rows share it, and the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, case, func, select

from tasks.ledger.conditions import FOUND_BY_STATE, IS_OPEN, found_that_need_a_person
from tasks.ledger.open_work import SINCE, batches_to_look_at
from tasks.ledger.queries import REPORTED, report_row_of
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import ReportRow


class OpenExample(NamedTuple):
    """One of the first rows of a batch that need a person for the same cause."""

    batch_id: int
    since: float  #: as `OpenRow.since`, of the oldest of all that share the cause
    rows: int  #: how many these are, said by the first of them; 0: by another
    row: ReportRow


class OpenCauses(LedgerPart):
    """Counts open rows by cause, in the database."""

    def first_rows(self, batch_id: int | None = None, most: int = 5) -> Iterator[OpenExample]:
        """Yield the first rows of each cause of what `open_rows` yields, at most so many, in the order of the file.

        The database counts: a program that looks at fifty thousand rows keeps everybody else from a page meanwhile. It
        holds no transaction while somebody looks at what was found.
        """
        here = self.scope.of_account if batch_id is None else and_(self.scope.of_account, batches.c.id == batch_id)
        with self.engine.read() as connection:
            looked_at = batches_to_look_at(connection, here)
        for number, state in looked_at:
            with self.engine.read() as connection:
                found = connection.execute(_examples(number, state, most)).all()
            for rows_of, since, *row in found:
                yield OpenExample(number, float(since), int(rows_of), report_row_of(row))


#: What a cause is made of: all that is said about a row, and all that one action solves, goes by these.
_CAUSE: tuple[ColumnElement[Any], ...] = (
    rows.c.state,
    rows.c.code,
    rows.c.parameter,
    rows.c.reasons,
    rows.c.payment_method,
    rows.c.attempts > 0,
    rows.c.source_id.is_(None),
    rows.c.not_before.is_(None),
)


def _examples(batch_id: int, state: str, most: int) -> Select[Any]:
    """Return how many rows share a cause, since when, and the values of `REPORTED`, of the first rows of each."""
    placed = (
        select(
            rows.c.record,
            func.row_number().over(partition_by=_CAUSE, order_by=rows.c.record).label("place"),
            func.count().over(partition_by=_CAUSE).label("alike"),
            func.min(SINCE).over(partition_by=_CAUSE).label("since"),
        )
        .select_from(FOUND_BY_STATE.join(batches, batches.c.id == rows.c.batch_id))
        .where(found_that_need_a_person(batch_id, state), IS_OPEN)
    ).subquery()
    counted = case((placed.c.place == 1, placed.c.alike), else_=0)
    return (
        select(counted, placed.c.since, *REPORTED)
        .select_from(placed.join(rows, rows.c.record == placed.c.record))
        .where(placed.c.place <= most, rows.c.batch_id == batch_id)
        .order_by(placed.c.record)
    )
