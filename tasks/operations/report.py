"""The reports of a batch: gathered from the ledger, checked, written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks import stop_texts
from tasks.csv_records import FileFormat
from tasks.errors import LedgerError
from tasks.files.file_store import FileStore
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState
from tasks.operations.batch_status import BatchStatus, batch_status, waits_for_next_night
from tasks.reason_texts import go_on_command, stands
from tasks.reports.report_data import Commands, FileWarning, ReconciliationError, ReportFacts, TimelinePoint
from tasks.reports.versions import program_versions
from tasks.reports.writing import FILES, write_reports
from tasks.services import Services

#: A batch that was stopped or cancelled may have its last answers written, or judged once more (a halt takes refusals
#: back), between the counting of its rows and the reading of rows: its reports are tried so often, with so many seconds
#: between.
TRIES = 5
AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Reported:
    """A batch whose reports were written."""

    status: BatchStatus
    reports: Mapping[str, Path]


def report(
    services: Services,
    batch_id: int,
    *,
    folder: Path | None = None,
    lang: str | None = None,
    excel_safe: bool = False,
) -> Reported:
    """Write the reports of a batch as it is now. Raises LedgerError if none can be made of it; OSError."""
    status = batch_status(services, batch_id, count_skipped=True)
    batch = status.batch
    if batch.state is BatchState.READING:
        raise LedgerError("batch {batch} is still being read; try again in a moment", batch=batch_id)
    if batch.state is BatchState.UNUSABLE:
        raise LedgerError(
            "batch {batch} has no reports, its file was unusable: {why}",
            batch=batch_id,
            why=stop_texts.StopSentence(batch.stop),
        )
    if dropped := services.dropped(batch):
        raise LedgerError(
            "{dropped}: no report can be made of it; `onboard status {batch}` still has its counts",
            dropped=dropped,
            batch=batch_id,
        )
    return Reported(status, write(services, batch, folder=folder, lang=lang, excel_safe=excel_safe))


def write(
    services: Services,
    batch: Batch,
    *,
    folder: Path | None = None,
    lang: str | None = None,
    excel_safe: bool = False,
    fix: str | None = None,
    commands: Commands | None = None,
) -> dict[str, Path]:
    """Write every report of a batch as it is now; return name -> path.

    `commands` are what they say to type next, if not the usual; `fix` is the one for a corrected failures.csv.
    Raises what `write_reports` raises; nothing of an earlier set is lost before the new one is whole.
    """
    target = _target(services, batch, folder)
    if batch.state is not BatchState.FINISHED:
        services.ledger.held_sources.compare(batch.id)  # no report may say that a row has another row's source
    tries = 0
    while True:
        facts = gather(services, batch, target)
        if commands is not None:
            facts = replace(facts, commands=commands)
        if fix is not None:
            facts = replace(facts, commands=replace(facts.commands, fix=fix))
        try:
            return write_reports(
                target,
                facts,
                lambda: services.ledger.queries.report_rows(batch.id),
                lang=lang or services.settings.lang,
                excel_safe=excel_safe,
            )
        except ReconciliationError:
            tries += 1
            if batch.state is BatchState.FINISHED or tries == TRIES:
                raise
            time.sleep(AGAIN_SECONDS)


def _target(services: Services, batch: Batch, folder: Path | None) -> FileStore:
    return LocalFolder(folder) if folder else services.reports.folder(str(batch.id))


def gather(services: Services, batch: Batch, target: FileStore | None = None) -> ReportFacts:
    """Collect the facts of a batch whose reports go into `target`, if not into their usual place."""
    ledger, settings = services.ledger, services.settings
    sent = ledger.queries.sent_per_second(batch.id)
    counts = ledger.queries.counts(batch.id)
    histogram = ledger.queries.latencies(batch.id)
    started = float(min(sent)) if sent else batch.created_at
    finished = batch.finished_at
    waits = ledger.lifecycle.waits_for_approval(batch.id)
    seconds = (finished or max(sent, default=0)) - started if sent else 0.0
    return ReportFacts(
        batch=batch,
        counts=counts,
        file_path=services.kept_file(batch),
        file_format=FileFormat.from_dict(batch.file_format),
        parent="" if batch.parent_id is None else str(batch.parent_id),
        started_at=batch.created_at,
        finished_at=finished,
        requests_per_second=settings.requests_per_second or None,
        rows_per_second=round(sum(sent.values()) / seconds, 1) if seconds > 0 else None,
        timeline=timeline_points(ledger, batch.id, sent),
        latency_histogram=histogram,
        warnings=tuple(FileWarning(*each) for each in batch.warnings),
        versions=program_versions(),
        time_zone=settings.time_zone,
        mask_customers=settings.mask_customers,
        goes_on_at=waits_for_next_night(services, batch),
        waits_for_approval=waits,
        work=ledger.open_work.of_batch(batch.id),
        successors=ledger.open_work.successors(batch.id),
        commands=_commands(batch, waits, target or _target(services, batch, None)),
    )


def _commands(batch: Batch, waits_for_approval: bool, target: FileStore) -> Commands:
    """Return what to type where the batch was started: in another folder it would be another ledger."""
    failures = f"{target.location}/{FILES['failures']}"
    return Commands(
        fix=f"onboard run {shlex.quote(failures)}",
        resume=go_on_command(stands(batch, waits_for_approval=waits_for_approval), batch.id),
        resolve=f"onboard resolve {batch.id}",
    )


def timeline_points(ledger: Ledger, batch_id: int, sent: Mapping[int, int]) -> tuple[TimelinePoint, ...]:
    """Return one point for each second in which something was sent or throttled."""
    throttled: dict[int, int] = {}
    for code in ("M005000", "http_429"):
        for at, number in ledger.history.count_per_second(batch_id, code).items():
            throttled[at] = throttled.get(at, 0) + number
    paused = {at for code in ("S002000", "S002001") for at in ledger.history.count_per_second(batch_id, code)}
    return tuple(
        TimelinePoint(float(at), sent.get(at, 0), throttled.get(at, 0), at in paused)
        for at in sorted({*sent, *throttled, *paused})
    )
