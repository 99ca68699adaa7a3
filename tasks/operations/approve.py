"""A batch is approved after its canary rows: the rest of it is sent."""

from __future__ import annotations

from tasks.errors import LedgerError
from tasks.models import Batch, BatchState
from tasks.operations.batch_status import BatchStatus, batch_status, require_account, state_word
from tasks.services import Services


def require_approvable(services: Services, batch_id: int) -> None:
    """Raise LedgerError if a batch does not wait for approval, or belongs to another account."""
    batch = services.ledger.batches.get(batch_id)
    require_account(services, batch)
    if batch.state is not BatchState.PAUSED or not batch.canary:
        raise _not_waiting(batch)


def approve(services: Services, batch_id: int, *, who: str) -> BatchStatus:
    """Let the rest of a batch be sent: by the fleet, or by the command that this process is (`Ledger.runner`).

    Raises LedgerError if it does not wait for that; LedgerReplaced.
    """
    require_approvable(services, batch_id)
    if not services.ledger.lifecycle.approve(batch_id, who):
        raise _not_waiting(services.ledger.batches.get(batch_id))
    return batch_status(services, batch_id)


def _not_waiting(batch: Batch) -> LedgerError:
    return LedgerError(
        "batch {batch} does not wait for approval (it is {state})", batch=batch.id, state=state_word(batch.state)
    )
