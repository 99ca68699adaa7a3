"""What somebody has to see of a batch before they decide about it, and what can be decided now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.models import Batch, BatchState, StopCode
from tasks.operations import batch_lifecycle
from tasks.operations.status import is_fleet_at_work
from tasks.reports.writing import FILES
from tasks.services import Services

#: What the console may do with a batch, in the order in which it is offered.
PAUSE, RESUME, APPROVE, CANCEL, RETRY, REPORT = "pause", "resume", "approve", "cancel", "retry", "report"


@dataclass(frozen=True, slots=True)
class ReviewedBatch:
    """A batch beside what it comes from, what came of it, and what happened to it."""

    batch: Batch
    waits_for_approval: bool
    possible: frozenset[str]  #: of the words above
    is_fleet_at_work: bool  #: somebody is there who would send it
    needs_verification: bool  #: it goes on only if each row is looked up first
    children: tuple[Batch, ...]  #: the batches that retry or correct it, newest first
    history: tuple[Mapping[str, Any], ...]  #: what people did to it, oldest first
    reports: Mapping[str, Path]  #: name -> file that was written


def review(services: Services, batch_id: int) -> ReviewedBatch:
    """Return a batch for review. Raises LedgerError if there is none with this number."""
    ledger = services.ledger
    batch_lifecycle.end_dead_workers(ledger)
    batch = ledger.batches.get(batch_id)
    waits = batch.state is BatchState.PAUSED and ledger.lifecycle.waits_for_approval(batch_id)
    return ReviewedBatch(
        batch,
        waits,
        possible=frozenset(_possible(services, batch, waits=waits)),
        is_fleet_at_work=is_fleet_at_work(services),
        needs_verification=batch.stop_code is StopCode.FORGOTTEN,
        children=tuple(ledger.listing.children(batch_id)),
        history=tuple(ledger.history.lines(batch_id, 0)),
        reports=written_reports(services, batch_id),
    )


def _possible(services: Services, batch: Batch, *, waits: bool) -> list[str]:
    """Return what may be asked for now; each use case looks again when it is done."""
    is_kept = services.dropped(batch) is None and batch.state not in (BatchState.READING, BatchState.UNUSABLE)
    if batch.account != services.account:
        return [REPORT] if is_kept else []
    found = [REPORT] if is_kept else []
    stopped = batch.state in (BatchState.PAUSED, BatchState.HALTED, BatchState.INTERRUPTED)
    if batch.state is BatchState.RUNNING:
        found.append(PAUSE)
    if stopped and not waits:
        found.append(RESUME)
    if batch.state is BatchState.PAUSED and batch.canary:
        found.append(APPROVE)
    if batch.state in batch_lifecycle.GOES_ON:
        found.append(CANCEL)
    if is_kept and batch.state in (BatchState.FINISHED, BatchState.CANCELLED):
        found.append(RETRY)
    return found


def written_reports(services: Services, batch_id: int) -> dict[str, Path]:
    """Return the reports of a batch that were written, by their names."""
    folder = services.reports.folder(str(batch_id))
    return {name: path for name, file in FILES.items() if (path := folder.get(file)) is not None}
