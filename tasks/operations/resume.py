"""A stopped batch is resumed, with a new nightly window or with look-ups before sending if that is wanted."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.error_texts import Sentence
from tasks.errors import LedgerError
from tasks.models import HOLDS_ALL, Batch, BatchState, StopCode
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, cannot, require_account
from tasks.operations.four_eyes import FourEyes
from tasks.send_window import Window
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class NewOrders:
    """What is to be different about a batch from now on; nothing by default."""

    window: Window | None = None  #: its nightly window; None: as it is
    verify_first: bool = False  #: look each row up at elepay before it is sent

    @property
    def change_something(self) -> bool:
        """True if anything is to be different."""
        return self.window is not None or self.verify_first


@dataclass(frozen=True, slots=True)
class Resumed:
    """A batch that goes on."""

    status: BatchStatus
    was_running: bool  #: somebody was sending it already: only its orders are new


_ONLY_STOPPED = Sentence("only a stopped batch can be resumed")


def require_resumable(services: Services, batch_id: int, orders: NewOrders) -> bool:
    """Return whether somebody sends the batch already, so that only its orders change.

    Raises LedgerError if it cannot be resumed: it has ended, waits for approval, belongs to another account, or has
    sources at elepay that this ledger does not know and is not to verify its rows first.
    """
    batch_lifecycle.end_dead_workers(services.ledger)
    batch = services.ledger.batches.get(batch_id)
    require_account(services, batch)
    if batch.state is BatchState.PAUSED and services.ledger.lifecycle.waits_for_approval(batch_id):
        if batch.canary == HOLDS_ALL:
            raise LedgerError(
                "no row of batch {batch} is sent before somebody approves it: `onboard approve {batch}`", batch=batch_id
            )
        raise LedgerError(
            "the canary rows of batch {batch} have run: `onboard approve {batch}` lets the rest go", batch=batch_id
        )
    is_sent = batch.state is BatchState.RUNNING and batch.is_worked_on
    if batch.state not in batch_lifecycle.GOES_ON or (is_sent and not orders.change_something):
        raise cannot(batch, _ONLY_STOPPED)
    _require_verification(batch, orders)
    return is_sent


def resume(services: Services, batch_id: int, orders: NewOrders, *, who: str) -> Resumed:
    """Let a stopped batch go on: with the fleet, or with the command that this process is (`Ledger.runner`).

    Raises LedgerError as `require_resumable`; SecondPersonNeeded; LedgerReplaced.
    """
    was_running = require_resumable(services, batch_id, orders)
    batch = services.ledger.batches.get(batch_id)
    FourEyes.of(services.settings).require_resumer(services.ledger, batch, who)
    _give(services, batch_id, orders, who)
    if not was_running:
        if not batch_lifecycle.resume(services.ledger, batch_id, who, stopped_by=batch.stop_code):
            raise cannot(services.ledger.batches.get(batch_id), _ONLY_STOPPED)
        services.ledger.lifecycle.set_deadline(batch_id, None)
    return Resumed(batch_status(services, batch_id), was_running)


def _require_verification(batch: Batch, orders: NewOrders) -> None:
    if batch.stop_code is StopCode.FORGOTTEN and not orders.verify_first:
        raise LedgerError(
            "elepay has sources of batch {batch} that this ledger does not know:"
            " `onboard resume {batch} --verify-first` goes on, and makes none of them again",
            batch=batch.id,
        )


def _give(services: Services, batch_id: int, orders: NewOrders, who: str) -> None:
    if orders.verify_first:
        services.ledger.lifecycle.verify_from_now_on(batch_id)
    if orders.window is not None:
        services.ledger.lifecycle.change_window(batch_id, str(orders.window), who)
