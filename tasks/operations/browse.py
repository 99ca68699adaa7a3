"""Batches and the rows of a batch, page by page, as somebody looks for them."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.ledger import BatchFilter, ListedRow, RowFilter
from tasks.models import Batch
from tasks.operations import batch_lifecycle
from tasks.services import Services

#: Batches, and rows, of a page.
BATCHES_PER_PAGE, ROWS_PER_PAGE = 25, 50
#: Unfinished batches that are shown at once.
UNFINISHED_SHOWN = 100

__all__ = [
    "BATCHES_PER_PAGE",
    "ROWS_PER_PAGE",
    "BatchFilter",
    "BatchPage",
    "ListedRow",
    "RowFilter",
    "RowPage",
    "batches",
    "rows",
    "unfinished",
]


@dataclass(frozen=True, slots=True)
class BatchPage:
    """Some batches, newest first."""

    batches: tuple[Batch, ...]
    before: int | None  #: what to ask for the next page with; None: this is the last


@dataclass(frozen=True, slots=True)
class RowPage:
    """Some rows of a batch, in the order of the file."""

    batch: Batch
    rows: tuple[ListedRow, ...]
    after: int | None  #: what to ask for the next page with; None: this is the last


def batches(services: Services, wanted: BatchFilter, before: int | None = None) -> BatchPage:
    """Return a page of batches of any account."""
    batch_lifecycle.end_dead_workers(services.ledger)
    found = services.ledger.listing.batches_page(wanted, before=before, limit=BATCHES_PER_PAGE + 1)
    shown = tuple(found[:BATCHES_PER_PAGE])
    return BatchPage(shown, shown[-1].id if len(found) > len(shown) else None)


def unfinished(services: Services) -> tuple[Batch, ...]:
    """Return the batches of any account that have not come to their end, newest first."""
    batch_lifecycle.end_dead_workers(services.ledger)
    return tuple(services.ledger.listing.unfinished(UNFINISHED_SHOWN))


def rows(services: Services, batch_id: int, wanted: RowFilter, after: int = 0) -> RowPage:
    """Return a page of a batch's rows. Raises LedgerError if there is no such batch."""
    batch = services.ledger.batches.get(batch_id)
    found = services.ledger.listing.rows_page(batch_id, wanted, after=after, limit=ROWS_PER_PAGE + 1)
    shown = tuple(found[:ROWS_PER_PAGE])
    return RowPage(batch, shown, shown[-1].row.record if len(found) > len(shown) else None)
