"""`onboard status`, `report`, `ledger`: what the ledger knows, for people and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tasks import report_builder
from tasks.errors import LedgerError, RateLimitUnavailable
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState
from tasks.operations import batch_lifecycle
from tasks.services import Services
from worker import terminal
from worker.commands.run import exit_code, result


def status(services: Services, batch_id: int | None, console: Console) -> tuple[int, dict[str, Any]]:
    """List the newest batches, or show one; with the fleet's current rate if it has a Redis."""
    rate = _rate(services)
    batch_lifecycle.end_dead_workers(services.ledger)
    terminal.print_place(console, services.account, services.ledger.place)
    terminal.print_trouble(console, services.ledger.replaced)
    if batch_id is not None:
        batch, books = services.ledger.batches.get(batch_id), services.ledger.queries.counts(batch_id)
        console.print(Text(f"batch {batch.id}: {batch.name}, {_state(batch)}"))
        terminal.print_books(console, batch, books)
        if batch.state is BatchState.RUNNING and (to_come := services.ledger.queries.look_ups_to_come(batch_id)):
            console.print(terminal.look_ups_to_come(batch_id, to_come, services.settings.time_zone))
        return exit_code(batch, books), {**result(batch, books, {}), "worked_on": batch.is_worked_on, "rate": rate}
    batches = services.ledger.batches.newest()
    shown: list[tuple[str, ...]] = []
    listed = []
    for batch in batches:
        books = services.ledger.queries.counts(batch.id)
        since = terminal.clock_time(batch.finished_at or batch.created_at, services.settings.time_zone)
        created = f"{books.created:,}/{books.records:,}"
        shown.append((str(batch.id), batch.name, _state(batch), since, created, f"{books.need_a_person:,}"))
        listed.append({**result(batch, books, {}), "worked_on": batch.is_worked_on})
    if batches:
        titles = ("batch", "file", "state", "since", "created", "need attention")
        terminal.print_table(console, titles, shown, right=("batch", "created", "need attention"))
    else:
        console.print("no batch yet; `onboard run FILE` makes the first")
    if rate is not None:
        paused = f"; nothing is sent for {rate['paused_seconds']:.0f} s" if rate["paused_seconds"] >= 1 else ""
        console.print(f"rate: {rate['rate']:g} of {rate['limit']:g} requests/s{paused}")
    return 0, {"batches": listed, "rate": rate}


def _state(batch: Batch) -> str:
    """Return the state of a batch, and whether nobody works on one that is to be sent."""
    nobody = batch.state is BatchState.RUNNING and not batch.is_worked_on
    return f"{batch.state}, nobody at work" if nobody else str(batch.state)


def _rate(services: Services) -> dict[str, float] | None:
    """Return the fleet's rate; None without a Redis of its own (a private one lives only during a run)."""
    if services.settings.redis_url is None:
        return None
    try:
        current = services.rate_limit.current()
    except RateLimitUnavailable:
        return None
    return {"limit": current.limit, "rate": round(current.rate, 3), "paused_seconds": round(current.paused_seconds, 3)}


def report(
    services: Services, batch_id: int, folder: Path | None, console: Console, *, lang: str | None, excel_safe: bool
) -> tuple[int, dict[str, Any]]:
    """Write a batch's reports as it stands now."""
    batch, books = services.ledger.batches.get(batch_id), services.ledger.queries.counts(batch_id)
    if batch.state is BatchState.READING:
        raise LedgerError(f"batch {batch_id} is still being read; try again in a moment")
    if batch.state is BatchState.UNUSABLE:
        raise LedgerError(f"batch {batch_id} has no reports, its file was unusable: {batch.state_reason}")
    if dropped := services.dropped(batch):
        raise LedgerError(f"{dropped}: no report can be made of it; `onboard status {batch_id}` still has its books")
    terminal.print_trouble(console, services.ledger.replaced)
    paths = report_builder.write(services, batch, folder=folder, lang=lang, excel_safe=excel_safe)
    terminal.print_books(console, batch, books)
    terminal.print_reports(console, paths)
    return exit_code(batch, books), result(batch, books, paths)


def create_ledger(services: Services, console: Console) -> tuple[int, dict[str, Any]]:
    """Make the ledger of a new installation; in live mode nothing else does."""
    is_new = Ledger.create(services.ledger_url, services.account, home=services.settings.home)
    terminal.print_place(console, services.account, services.ledger.place)
    console.print("the ledger is made" if is_new else "the ledger is there already")
    return 0, {"created": is_new, "ledger": services.ledger.place}


def upgrade_ledger(services: Services, console: Console) -> tuple[int, dict[str, Any]]:
    """Bring the ledger up to this program's version."""
    before, after = Ledger.upgrade(services.ledger_url, services.account, home=services.settings.home)
    console.print(f"the ledger was {before or 'empty'} and is {after}")
    shared = services.ledger.held_sources.shared()
    for source in shared:
        where = ", ".join(f"batch {batch_id} record {record}" for batch_id, record in source.rows)
        console.print(f"source {source.source_id} stands for more than one row: {where}", style="red")
    if shared:
        console.print("one customer of each of these may have no source: `onboard audit BATCH` says which")
    told = [{"source_id": source.source_id, "rows": [list(key) for key in source.rows]} for source in shared]
    return (1 if shared else 0), {"before": before, "after": after, "shared_sources": told}
