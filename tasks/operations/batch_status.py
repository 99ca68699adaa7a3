"""A batch and its rows counted by state; and what nearly every operation asks of a batch first."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.errors import LedgerError
from tasks.models import Batch, RowCounts
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch, and its rows counted by state."""

    batch: Batch
    counts: RowCounts


def batch_status(services: Services, batch_id: int) -> BatchStatus:
    """Return a batch as it is now. Raises LedgerError if there is none."""
    return BatchStatus(services.ledger.batches.get(batch_id), services.ledger.queries.counts(batch_id))


def require_account(services: Services, batch: Batch) -> None:
    """Raise LedgerError if a batch belongs to another mode or address."""
    if batch.account != services.account:
        raise LedgerError(
            f"batch {batch.id} belongs to {batch.account}, and the settings say {services.account}:"
            " set ELEPAY_MODE, ELEPAY_BASE_URL and ELEPAY_SECRET_KEY to those of the batch"
        )


def cannot(batch: Batch, done: str, kind: str) -> LedgerError:
    """Return the error of a batch that is in the wrong state for what is asked."""
    return LedgerError(f"batch {batch.id} is {batch.state}: only {kind} batch can be {done}")
