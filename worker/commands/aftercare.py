"""`onboard follow-up`, `report follow-up`, `audit`, `ledger tidy`: what comes after the creating."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tasks import report_builder
from tasks.errors import ElepayError, LedgerError, RateLimitUnavailable, SettingsError
from tasks.ledger import ENDED_STATUSES, SourceLine
from tasks.models import BatchState
from tasks.operations.audit import KINDS, Audit
from tasks.operations.audit import audit as audit_batch
from tasks.operations.follow_up import follow_up as ask_about_due_sources
from tasks.operations.retention import tidy as drop_what_is_old
from tasks.reports.i18n import Texts
from tasks.reports.lists import write_list
from tasks.services import Services
from worker import terminal
from worker.commands.run import require_account, with_redis
from worker.interrupts import Interrupts

#: Lines that are shown; the file has all.
SHOWN = 20
_FOLLOW_UP_TITLES = ("batch", "line", "reference", "source_id", "status", "since", "what_to_do")
_AUDIT_TITLES = ("kind", "batch", "line", "record", "reference", "source_id", "ledger", "elepay", "what_to_do")
_STOPPED = 3


def follow_up(services: Services, console: Console) -> tuple[int, dict[str, Any]]:
    """Ask elepay what became of every pending source that is due; return how it went."""
    services.settings.require_key()
    with Interrupts() as interrupts, interrupts.counted(), with_redis(services, console, "follow-up"):
        due = services.ledger.follow_up.count_due()
        console.print(f"{due:,} sources are due")
        said = ask_about_due_sources(
            services.ledger,
            services.api,
            services.follow_up_limits,
            services.follow_up_rules,
            ends=math.inf,
            stopping=lambda: interrupts.any_came,
            progress=lambda so_far: console.print(
                f"{so_far.asked:,} asked, {so_far.changed:,} have another status now"
            ),
        )
    if said.stopped_by:
        console.print(f"stopped: {said.stopped_by}; what is left stays due")
    told = {"due": due, "asked": said.asked, "changed": said.changed, "stopped_by": said.stopped_by}
    return (_STOPPED if said.stopped_by or interrupts.count else 0), told


def report_follow_up(
    services: Services, folder: Path | None, console: Console, *, days: float | None, lang: str | None
) -> tuple[int, dict[str, Any]]:
    """List sources that are pending for too long, or have ended, on screen and as follow-up.csv; 1 if there are any."""
    settings = services.settings
    texts = Texts(lang or settings.lang, settings.time_zone)
    days = settings.pending_days if days is None else days
    counted: Counter[str] = Counter()
    shown: list[tuple[str, ...]] = []

    def lines() -> Iterator[tuple[str, ...]]:
        for one in services.ledger.follow_up.sources_to_look_at(services.ledger.now() - days * 86400):
            kind = one.status if one.status in ENDED_STATUSES else "pending"
            counted[kind] += 1
            line = _follow_up_line(one, kind, texts)
            if len(shown) < SHOWN:
                shown.append(line)
            yield line

    path = (folder or services.reports) / "follow-up.csv"
    count = write_list(path, _FOLLOW_UP_TITLES, lines())
    if shown:
        terminal.print_table(console, _FOLLOW_UP_TITLES, shown, right=("batch", "line"))
    console.print(texts("follow_up_verdict", count=count, days=f"{days:g}"))
    console.print(str(path), soft_wrap=True)
    return (1 if count else 0), {"sources": count, "by_status": dict(counted), "days": days, "report": str(path)}


def _follow_up_line(one: SourceLine, kind: str, texts: Texts) -> tuple[str, ...]:
    since = texts.time(one.since, "%Y-%m-%d %H:%M") if one.since else ""
    action = texts(f"follow_up_{kind}")
    return str(one.batch_id), str(one.line), one.reference, one.source_id, one.status, since, action


def audit(
    services: Services, batch_id: int, folder: Path | None, console: Console, *, lang: str | None
) -> tuple[int, dict[str, Any]]:
    """Compare a batch with elepay; write audit.csv and audit.json; 0 if all agree, 1 if not."""
    settings, batch = services.settings, services.ledger.batches.get(batch_id)
    if batch.state in (BatchState.READING, BatchState.UNUSABLE):
        raise LedgerError(f"batch {batch_id} is {batch.state}: it has nothing to audit")
    if batch.state is BatchState.RUNNING and report_builder.waits_for_next_night(services, batch) is None:
        raise LedgerError(f"batch {batch_id} is running: audit it when it has finished, or pause it first")
    if dropped := services.dropped(batch):
        raise LedgerError(f"{dropped}: it cannot be audited any more")
    require_account(services, batch)
    settings.require_key()
    folder = folder or services.reports / str(batch_id)
    journal = folder / "audit.part"
    started = time.time()
    if journal.exists():
        console.print("an interrupted audit goes on where it stopped")
    with Interrupts() as interrupts, interrupts.counted(), with_redis(services, console, "audit"):
        try:
            done = audit_batch(
                services.ledger,
                services.api,
                services.rate_limit,
                batch,
                journal,
                progress=lambda so_far: console.print(f"{so_far.rows:,} rows, {len(so_far.differences):,} differences"),
                stopping=lambda: interrupts.any_came,
            )
        except (ElepayError, RateLimitUnavailable, KeyboardInterrupt) as error:
            why = str(error) or "interrupted"
            console.print(f"the audit stopped ({why}); the same command goes on where it stopped")
            return _STOPPED, {"batch": batch_id, "stopped_by": why}
    told = _write_audit(folder, done, Texts(lang or settings.lang, settings.time_zone), started)
    journal.unlink(missing_ok=True)
    _print_audit(console, done, told)
    return (1 if done.differences else 0), told


def _write_audit(folder: Path, done: Audit, texts: Texts, started: float) -> dict[str, Any]:
    lines = (
        (one.kind, done.batch_id, one.line, one.record, *one[3:], texts(f"audit_{one.kind}"))
        for one in sorted(done.differences, key=lambda one: (KINDS.index(one.kind), one.record or 0))
    )
    write_list(folder / "audit.csv", _AUDIT_TITLES, lines)
    told = {
        "format": 1,
        "batch": done.batch_id,
        "started_at": _iso(started),
        "finished_at": _iso(time.time()),
        "rows": done.rows,
        "lists": done.customers,
        "differences": done.counts,
        "agree": not done.differences,
    }
    part = folder / "audit.json.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(told, file, indent=2)
    part.replace(folder / "audit.json")
    return {**told, "reports": {"csv": str(folder / "audit.csv"), "json": str(folder / "audit.json")}}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _print_audit(console: Console, done: Audit, told: dict[str, Any]) -> None:
    if done.differences:
        terminal.print_table(
            console,
            ("kind", "line", "reference", "source", "ledger", "elepay"),
            [
                (one.kind, str(one.line or ""), one.reference, one.source_id, one.ledger, one.elepay)
                for one in done.differences[:SHOWN]
            ],
            right=("line",),
        )
        kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in done.counts.items() if count)
        console.print(f"{done.rows:,} rows compared with elepay: {kinds}")
    else:
        console.print(f"{done.rows:,} rows compared with elepay: all agree")
    for path in told["reports"].values():
        console.print(path, soft_wrap=True)


def tidy(services: Services, console: Console) -> tuple[int, dict[str, Any]]:
    """Drop what belongs to batches that ended more than ONBOARD_KEEP_DAYS ago."""
    days = services.settings.keep_days
    if not days:
        raise SettingsError("ONBOARD_KEEP_DAYS is 0: everything is kept for ever")
    said = drop_what_is_old(services.ledger, services.files, services.reports, days)
    console.print(
        f"{said.batches:,} batches that ended more than {days} days ago: {said.files:,} files, {said.folders:,} folders"
        f" of reports and the customers of {said.rows:,} rows dropped"
    )
    return 0, {"batches": said.batches, "files": said.files, "folders": said.folders, "rows": said.rows}
