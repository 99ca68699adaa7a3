"""A batch is approved, after its canary rows or before its first row: the rest of it is sent."""

from __future__ import annotations

from tasks.errors import LedgerError, SecondPersonNeeded
from tasks.ledger import Approval
from tasks.models import Batch, BatchState
from tasks.operations.batch_status import BatchStatus, batch_status, require_account, state_word
from tasks.operations.four_eyes import Deed, FourEyes
from tasks.services import Services


def require_approvable(services: Services, batch_id: int) -> None:
    """Raise LedgerError if a batch does not wait for approval, or belongs to another account."""
    batch = services.ledger.batches.get(batch_id)
    require_account(services, batch)
    if batch.state is not BatchState.PAUSED or not batch.canary:
        raise _not_waiting(batch)


def approve(services: Services, batch_id: int, *, who: str) -> BatchStatus:
    """Let the rest of a batch be sent: by the fleet, or by the command that this process is (`Ledger.runner`).

    Where two people approve, the first approval is only stored, and the batch stays paused (`Batch.first_approver`).
    Raises LedgerError if it does not wait for that; SecondPersonNeeded; LedgerReplaced.
    """
    require_approvable(services, batch_id)
    ledger, rule = services.ledger, FourEyes.of(services.settings)
    batch = ledger.batches.get(batch_id)
    person = rule.require_other(ledger, batch, Deed.APPROVE, who)
    one_of_two = person if rule.needs_two_approvals(batch) else None
    approval = ledger.lifecycle.approve(batch_id, who, one_of_two=one_of_two)
    if approval is Approval.REPEATED:
        ledger.history.note(batch_id, 0, f"not allowed: {Deed.APPROVE}, gave the first approval", who)
        raise SecondPersonNeeded(
            "{who} gave the first approval of batch {batch}: somebody else must give the second (ONBOARD_FOUR_EYES)",
            who=who,
            batch=batch_id,
        )
    if approval is Approval.NOT_WAITED_FOR:
        raise _not_waiting(ledger.batches.get(batch_id))
    return batch_status(services, batch_id)


def is_first_of_two(services: Services, batch_id: int) -> bool:
    """Return whether the next approval of a batch will only be stored, because two people have to approve it."""
    batch = services.ledger.batches.get(batch_id)
    return FourEyes.of(services.settings).needs_two_approvals(batch) and not batch.first_approver


def _not_waiting(batch: Batch) -> LedgerError:
    return LedgerError(
        "batch {batch} does not wait for approval (it is {state})", batch=batch.id, state=state_word(batch.state)
    )
