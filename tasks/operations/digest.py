"""What is open over all batches, and what has not come to its end: the facts of a digest."""

from __future__ import annotations

from tasks.models import Batch
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import batch_stands, waits_for_next_night
from tasks.operations.open_work import list_open_work
from tasks.reason_texts import go_on_command
from tasks.reports.digest_message import Digest, UnfinishedBatch
from tasks.services import Services

#: So many unfinished batches are looked at.
_MOST_BATCHES = 1000


def digest(services: Services) -> Digest:
    """Return how everything of this account stands now. Raises LedgerError, and then nothing is known."""
    ledger = services.ledger
    batch_lifecycle.end_dead_workers(ledger)
    unfinished = tuple(_unfinished(services, batch) for batch in ledger.batches.unfinished(_MOST_BATCHES))
    return Digest(ledger.now(), list_open_work(services), unfinished, ledger.outbox.undelivered())


def _unfinished(services: Services, batch: Batch) -> UnfinishedBatch:
    counts = services.ledger.queries.counts(batch.id)
    to_come = services.ledger.queries.look_ups_to_come(batch.id)
    command = go_on_command(batch_stands(services, batch), batch.id)
    looked_up = to_come.rows if to_come else 0
    return UnfinishedBatch(batch, counts.open, looked_up, command, waits_for_next_night(services, batch))
