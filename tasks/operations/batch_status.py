"""A batch and its rows counted by state; and what nearly every operation asks of a batch first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.errors import LedgerError
from tasks.models import Batch, RowCounts
from tasks.reason_texts import stands
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch, and its rows counted by state."""

    batch: Batch
    counts: RowCounts
    #: The skipped ones by code, where they were counted.
    skipped: Mapping[str, int] | None = field(default=None, compare=False)


def batch_status(services: Services, batch_id: int, *, count_skipped: bool = False) -> BatchStatus:
    """Return a batch as it is now. Raises LedgerError if there is none."""
    ledger = services.ledger
    skipped = ledger.queries.count_skipped(batch_id) if count_skipped else None
    return BatchStatus(ledger.batches.get(batch_id), ledger.queries.counts(batch_id), skipped)


def batch_stands(services: Services, batch: Batch) -> str:
    """Return how a batch stands for those who want it to go on (`reason_texts.stands`)."""
    return stands(batch, waits_for_approval=services.ledger.lifecycle.waits_for_approval(batch.id))


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
