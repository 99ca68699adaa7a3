"""Finds rows over all batches: by customer, by source, by the reference that a source carries."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from sqlalchemy import Select, and_, func, insert, select

from tasks.identities import identity_and_generation, reference_of
from tasks.ledger.batches import hold_reading
from tasks.ledger.open_work import these
from tasks.ledger.schema import batches, customer_pages, rows, sources
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, NewRow, RowState

#: Batches whose sources are not filed yet.
_UNFINISHED = (BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)


#: A record is smaller.
_RECORDS = 1 << 31
#: Numbers of one page.
_PAGE = 4096
#: Rows of one customer that are shown.
_MOST = 1000


class FoundRow(NamedTuple):
    """A row of any batch of this account."""

    batch_id: int
    file: str
    record: int
    line: int
    state: str
    customer_id: str
    payment_method: str
    reference: str
    source_id: str
    source_status: str
    code: str


class CustomerIndex:
    """The customers of a batch that is being read, 8 bytes a row."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def add(self, new_rows: Sequence[NewRow]) -> None:
        """Take the customers of some more rows."""
        self._numbers.extend([_number(row.customer_id, row.record) for row in new_rows if row.customer_id])

    def pages(self) -> Iterator[array[int]]:
        """Yield all numbers, sorted."""
        self._numbers = array("Q", sorted(self._numbers))
        return (self._numbers[at : at + _PAGE] for at in range(0, len(self._numbers), _PAGE))


def _number(customer_id: str, record: int) -> int:
    """Return a number of 63 bits; two customers may share it, so the row itself must confirm it."""
    return crc32(customer_id.encode()) << 31 | record


@dataclass(frozen=True, slots=True)
class Finder(LedgerPart):
    """Answers from an index whatever the number of rows; only a source of an unfinished batch takes a look at each."""

    def file(self, batch_id: int, index: CustomerIndex) -> None:
        """Let the rows of a batch that is being read be found by their customers."""
        pages = [{"batch_id": batch_id, "first_number": page[0], "numbers": page.tobytes()} for page in index.pages()]
        if pages:
            with self.engine.write() as connection:
                hold_reading(connection, batch_id)
                connection.execute(insert(customer_pages), pages)

    def by_customer(self, customer_id: str) -> list[FoundRow]:
        """Return the rows of a customer, newest batch first; those of batches whose personal data was dropped lack."""
        first = _number(customer_id, 0)
        before = select(func.max(_earlier.c.first_number)).where(
            _earlier.c.batch_id == customer_pages.c.batch_id, _earlier.c.first_number <= first
        )
        query = select(customer_pages.c.batch_id, customer_pages.c.numbers).where(
            customer_pages.c.first_number < first + _RECORDS,
            customer_pages.c.first_number >= func.coalesce(before.scalar_subquery(), first),
        )
        keys = []
        with self.engine.read() as connection:
            for batch_id, numbers in connection.execute(query):
                page = array("Q", numbers)
                at = bisect_left(page, first)
                keys += [(batch_id, number - first) for number in page[at : bisect_left(page, first + _RECORDS)]]
        named = self._rows.where(rows.c.customer_id == customer_id)
        found = [row for here in these(rows, keys[:_MOST]) for row in self._found(named.where(here))]
        return sorted(found, key=lambda row: (-row.batch_id, row.record))

    def by_reference(self, reference: str) -> list[FoundRow]:
        """Return the row that owns the identity of a reference."""
        named = identity_and_generation(reference)
        if named is None:
            return []
        identity, generation = named
        owns = and_(rows.c.identity == identity, rows.c.generation == generation, rows.c.yielded.is_(None))
        return self._found(self._rows.where(owns))

    def by_source(self, source_id: str) -> list[FoundRow]:
        """Return the row that a source stands for."""
        filed = select(sources.c.batch_id, sources.c.record).where(sources.c.source_id == source_id)
        with self.engine.read() as connection:
            key = connection.execute(filed).one_or_none()
        if key is not None and (
            found := self._found(self._rows.where(rows.c.batch_id == key[0], rows.c.record == key[1]))
        ):
            return [row for row in found if row.source_id == source_id]
        running = batches.c.state.in_([state.value for state in _UNFINISHED])
        return self._found(self._rows.where(running, rows.c.state == RowState.CREATED, rows.c.source_id == source_id))

    @property
    def _rows(self) -> Select[tuple[object, ...]]:
        return (
            select(
                batches.c.id,
                batches.c.name,
                rows.c.record,
                rows.c.line,
                rows.c.state,
                rows.c.customer_id,
                rows.c.payment_method,
                rows.c.identity,
                rows.c.generation,
                rows.c.source_id,
                rows.c.source_status,
                rows.c.code,
            )
            .select_from(batches.join(rows, rows.c.batch_id == batches.c.id))
            .where(self.scope.of_account)
            .order_by(batches.c.id.desc(), rows.c.record)
        )

    def _found(self, query: Select[tuple[object, ...]]) -> list[FoundRow]:
        with self.engine.read() as connection:
            return [
                FoundRow(
                    row.id,
                    row.name,
                    row.record,
                    row.line,
                    row.state,
                    row.customer_id or "",
                    row.payment_method or "",
                    reference_of(bytes(row.identity), row.generation) if row.identity else "",
                    row.source_id or "",
                    row.source_status or "",
                    row.code or "",
                )
                for row in connection.execute(query)
            ]


_earlier = customer_pages.alias()
