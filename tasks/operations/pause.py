"""A batch is paused: nothing more of it is sent until it is resumed."""

from __future__ import annotations

from tasks.error_texts import Sentence
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, cannot
from tasks.services import Services


def pause(services: Services, batch_id: int, *, who: str) -> BatchStatus:
    """Pause a running batch. Raises LedgerError if it does not run."""
    if not batch_lifecycle.pause(services.ledger, batch_id, who):
        raise cannot(services.ledger.batches.get(batch_id), Sentence("only a running batch can be paused"))
    return batch_status(services, batch_id)
