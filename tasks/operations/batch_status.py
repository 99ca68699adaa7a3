"""A batch and its rows counted by state; and what nearly every operation asks of a batch first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.error_texts import Said, Sentence, Words
from tasks.errors import LedgerError
from tasks.models import Account, Batch, BatchState, RowCounts, Work
from tasks.reason_texts import stands
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A batch, and its rows counted by state."""

    batch: Batch
    counts: RowCounts
    work: Work  #: what became of its rows that needed a person
    #: The skipped ones by code, where they were counted.
    skipped: Mapping[str, int] | None = field(default=None, compare=False)


def batch_status(services: Services, batch_id: int, *, count_skipped: bool = False) -> BatchStatus:
    """Return a batch as it is now. Raises LedgerError if there is none."""
    ledger = services.ledger
    skipped = ledger.queries.count_skipped(batch_id) if count_skipped else None
    return BatchStatus(
        ledger.batches.get(batch_id), ledger.queries.counts(batch_id), ledger.open_work.of_batch(batch_id), skipped
    )


def status_of(services: Services, batch: Batch) -> BatchStatus:
    """Return a batch that was just read, with its counts."""
    queries = services.ledger.queries
    return BatchStatus(batch, queries.counts(batch.id), services.ledger.open_work.of_batch(batch.id))


def batch_stands(services: Services, batch: Batch) -> str:
    """Return how a batch stands for those who want it to go on (`reason_texts.stands`)."""
    return stands(batch, waits_for_approval=services.ledger.lifecycle.waits_for_approval(batch.id))


def waits_for_next_night(services: Services, batch: Batch) -> float | None:
    """Return when an unfinished batch goes on, if the window is closed now."""
    if batch.state is not BatchState.RUNNING:
        return None
    now = services.ledger.now()
    opens_at = services.settings.window.span_with(services.ledger.dispatch.window_of(batch.id), now).opens_at
    return opens_at if opens_at > now else None


def require_account(services: Services, batch: Batch) -> None:
    """Raise LedgerError if a batch belongs to another mode or address."""
    if batch.account != services.account:
        raise LedgerError(
            "batch {batch} belongs to {its_account}, and the settings say {account}:"
            " set ELEPAY_MODE, ELEPAY_BASE_URL and ELEPAY_SECRET_KEY to those of the batch",
            batch=batch.id,
            its_account=account_sentence(batch.account),
            account=account_sentence(services.account),
        )


def cannot(batch: Batch, only: Sentence) -> LedgerError:
    """Return the error of a batch that is in the wrong state for what is asked; `only` says which batch would do."""
    return LedgerError("batch {batch} is {state}: {only}", batch=batch.id, state=state_word(batch.state), only=only)


def state_word(state: BatchState) -> Words:
    """Return how a batch stands, as a word that knows its language."""
    return Words(state.value)


def account_sentence(account: Account) -> Said:
    """Return which mode, and which address, an account is, in words that know their language."""
    mode = Words("live mode" if account.live else "test mode")
    return Sentence("{mode} at {address}", mode=mode, address=account.address) if account.address else mode
