"""A batch is cancelled: what was not sent never is, and another file may bring it again."""

from __future__ import annotations

from tasks.error_texts import Sentence
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, cannot
from tasks.services import Services


def require_cancellable(services: Services, batch_id: int) -> BatchStatus:
    """Return an unfinished batch. Raises LedgerError if it has ended already."""
    status = batch_status(services, batch_id)
    if status.batch.state not in batch_lifecycle.GOES_ON:
        raise cannot(status.batch, Sentence("only an unfinished batch can be cancelled"))
    return status


def cancel(services: Services, batch_id: int, *, who: str) -> BatchStatus:
    """Cancel an unfinished batch. Raises LedgerError if it has ended already."""
    if not batch_lifecycle.cancel(services.ledger, batch_id, who):
        raise cannot(services.ledger.batches.get(batch_id), Sentence("only an unfinished batch can be cancelled"))
    return batch_status(services, batch_id)
