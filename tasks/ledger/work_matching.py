"""Which rows of earlier batches, open until now, the rows of a new batch take up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, select

from tasks.identities import IDENTITY_BYTES, reference_of
from tasks.ledger.conditions import CAN_BE_CARRIED, IS_CARRIED, IS_DISMISSED, need_a_person
from tasks.ledger.open_work import Key, batches_to_look_at, pages, these
from tasks.ledger.schema import OWNING, batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import NewRow, RowState, decode_reasons
from tasks.spelling import fold

_Names = tuple[str | None, str | None]
"""Customer and payment method."""


@dataclass(frozen=True, slots=True)
class WorkMatching(LedgerPart):
    """Answers what the matcher of a batch asks; changes nothing."""

    def matcher(self, batch_id: int) -> WorkMatcher:
        """Return what looks at the rows of a batch while they are read."""
        return WorkMatcher(self, batch_id)

    def open_rows_before(self, batch_id: int) -> Iterator[Any]:
        """Yield the rows of earlier batches that are open, and whose work another row can take up."""
        query = (
            select(
                rows.c.batch_id,
                rows.c.record,
                rows.c.identity,
                rows.c.intended_identity,
                rows.c.customer_id,
                rows.c.payment_method,
                rows.c.reasons,
            )
            .where(CAN_BE_CARRIED, ~IS_CARRIED, ~IS_DISMISSED)
            .execution_options(yield_per=5000)
        )
        with self.engine.read() as connection:
            for batch, state in batches_to_look_at(connection, and_(self.scope.of_account, batches.c.id < batch_id)):
                yield from connection.execute(query.where(need_a_person(batch, state)))

    def named(self, keys: Sequence[Key]) -> Iterator[Row[Any]]:
        """Yield those of some rows whose work another row can take up."""
        with self.engine.read() as connection:
            for here in these(rows, keys):
                query = (
                    select(rows)
                    .join(batches, batches.c.id == rows.c.batch_id)
                    .where(here, CAN_BE_CARRIED, self.scope.of_account)
                )
                yield from connection.execute(query)

    def owners(self, identities: Sequence[bytes], up_to_batch: int) -> Iterator[tuple[bytes, Key]]:
        """Yield the rows that own some identities, those of later generations last."""
        with self.engine.read() as connection:
            for page in pages(identities):
                query = (
                    select(rows.c.identity, rows.c.batch_id, rows.c.record)
                    .where(rows.c.identity.in_(page), OWNING, rows.c.batch_id <= up_to_batch)
                    .order_by(rows.c.generation)
                )
                for identity, batch_id, record in connection.execute(query):
                    yield bytes(identity), (batch_id, record)

    def skipped(self, keys: Sequence[Key]) -> set[Key]:
        """Return those of some rows that were skipped."""
        found: set[Key] = set()
        with self.engine.read() as connection:
            for here in these(rows, keys):
                query = select(rows.c.batch_id, rows.c.record).where(here, rows.c.state == RowState.SKIPPED)
                found.update((batch_id, record) for batch_id, record in connection.execute(query))
        return found


class WorkMatcher:
    """Looks at the rows of a batch as they are read, and says in the end what they take up.

    1. a record that names its origin takes up that row
    2. whatever the file says, a row takes up an open one of its identity, or an invalid one that says the same
    3. an invalid row whose keys cannot all be read is taken up by customer and method (for a misspelt one the method
       that is meant), if as many rows of the batch have these as are open: else nobody knows which is which

    It holds what is open, and what was found, in memory.
    """

    def __init__(self, matching: WorkMatching, batch_id: int) -> None:
        self._matching, self._batch_id = matching, batch_id
        self._open: dict[bytes, list[Key]] = defaultdict(list)  # by identity, or by what they say
        self._unsound: dict[_Names, list[Key]] = defaultdict(list)
        for row in matching.open_rows_before(batch_id):
            key, identity = (row.batch_id, row.record), row.intended_identity or row.identity
            if identity is not None:
                self._open[bytes(identity)].append(key)
            if len(identity or b"") != IDENTITY_BYTES and row.customer_id and (method := _method_of(row)):
                self._unsound[row.customer_id, method].append(key)
        self._same: dict[bytes, list[Key]] = defaultdict(list)
        self._named: dict[_Names, list[Key]] = defaultdict(list)
        self._corrected: dict[Key, Key] = {}

    def look_at(self, new_rows: Sequence[NewRow]) -> None:
        """Look at some more rows of the batch."""
        self._corrected.update(self._corrections(new_rows))
        for row in new_rows if self._open else ():
            if row.intended_identity in self._open:
                self._same[row.intended_identity or b""].append((self._batch_id, row.record))
        for row in new_rows if self._unsound else ():
            if (row.customer_id, row.payment_method) in self._unsound:
                self._named[row.customer_id, row.payment_method].append((self._batch_id, row.record))

    def _corrections(self, new_rows: Sequence[NewRow]) -> Iterator[tuple[Key, Key]]:
        named = {(row.origin.batch_id, row.origin.record): row for row in new_rows if row.origin is not None}
        for old in self._matching.named(list(named)) if named else ():
            key = (old.batch_id, old.record)
            if _is_meant(old, named[key]):
                yield key, (self._batch_id, named[key].record)

    def taken_up(self) -> dict[Key, Key]:
        """Return which rows are taken up, and by which, once all rows of the batch are in the ledger."""
        skipped = self._matching.skipped([key for keys in self._named.values() for key in keys])
        found: dict[Key, Key] = {}
        for names, keys in self._named.items():
            old, new = self._unsound[names], [key for key in keys if key not in skipped]
            if len(old) == len(new):
                found.update(zip(sorted(old), new, strict=True))
        for said, keys in self._same.items():
            found.update(zip(sorted(self._open[said]), keys, strict=False))
        for identity, owner in self._matching.owners(list(self._open), self._batch_id):
            found.update((key, owner) for key in self._open[identity] if key[0] < owner[0])
        return found | self._corrected


def _method_of(row: Any) -> str | None:
    """Return the payment method of an invalid row, or the one that is probably meant by what it says."""
    meant = (each.detail for each in decode_reasons(row.reasons) if each.code == "unknown_payment_method")
    return row.payment_method or next(meant, None)


def _is_meant(old: Row[Any], new: NewRow) -> bool:
    """Return whether a row is the one that a record says it corrects; the record may be of another ledger's report.

    It must have the line, the reference and (where its customer id was sound) the customer that the record says.
    """
    origin = new.origin
    assert origin is not None
    reference = reference_of(bytes(old.identity), old.generation) if old.identity else ""
    if (old.line, reference) != (origin.line, origin.reference):
        return False
    is_unsound = old.state != RowState.INVALID or not old.customer_id or new.customer_id is None
    return is_unsound or fold(old.customer_id) == fold(new.customer_id or "")
