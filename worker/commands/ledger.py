"""`onboard ledger create`, `upgrade`, `accept`, `tidy`: looking after the ledger."""

from __future__ import annotations

from typing import Any

from tasks.operations import ledger_setup, retention
from tasks.services import Services
from worker import terminal
from worker.operator_identity import who
from worker.screen import Screen


def create_ledger(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Make the ledger of a new installation; in live mode nothing else does."""
    made = ledger_setup.create_ledger(services)
    terminal.print_place(screen, services.account, made.place)
    screen.console.print("the ledger is made" if made.is_new else "the ledger is there already")
    return 0, {"created": made.is_new, "ledger": made.place}


def upgrade_ledger(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Bring the ledger up to this program's version."""
    upgraded = ledger_setup.upgrade_ledger(services)
    shared = upgraded.shared_sources
    screen.console.print(f"the ledger was {upgraded.before or 'empty'} and is {upgraded.after}")
    for source in shared:
        where = ", ".join(f"batch {batch_id} record {record}" for batch_id, record in source.rows)
        screen.console.print(f"more than one row has source {source.source_id}: {where}", style="red")
    if shared:
        screen.console.print("one customer of each of these may have no source: `onboard audit BATCH` says which")
    listed = [{"source_id": source.source_id, "rows": [list(key) for key in source.rows]} for source in shared]
    return (1 if shared else 0), {
        "before": upgraded.before,
        "after": upgraded.after,
        "shared_sources": listed,
    }


def accept_ledger(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Go on with a ledger that was restored, or that is another one: nothing in it is sent without a look-up."""
    accepted = ledger_setup.accept_ledger_as_it_is(services, who=who())
    terminal.print_place(screen, services.account, accepted.place)
    screen.console.print(
        f"the ledger is accepted as it is; {len(accepted.batches):,} unfinished batches verify their rows first"
    )
    screen.console.print("Set ONBOARD_VERIFY_FIRST=1 until the files of the time that is missing here have come again")
    return 0, {"accepted": True, "batches": list(accepted.batches), "ledger": accepted.place}


def tidy(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Drop what belongs to batches that ended more than ONBOARD_KEEP_DAYS ago."""
    dropped = retention.tidy(services)
    screen.console.print(
        f"{dropped.batches:,} batches that ended more than {services.settings.keep_days} days ago:"
        f" {dropped.files:,} files, {dropped.folders:,} folders of reports and the customers of {dropped.rows:,} rows"
        " dropped"
    )
    return 0, {
        "batches": dropped.batches,
        "files": dropped.files,
        "folders": dropped.folders,
        "rows": dropped.rows,
    }
