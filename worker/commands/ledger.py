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
    screen.say("ledger_made" if made.is_new else "ledger_was_there")
    return 0, {"created": made.is_new, "ledger": made.place}


def upgrade_ledger(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Bring the ledger up to this program's version."""
    upgraded = ledger_setup.upgrade_ledger(services)
    shared = upgraded.shared_sources
    screen.say("ledger_upgraded", before=upgraded.before or screen.texts("ledger_empty"), after=upgraded.after)
    for source in shared:
        where = [screen.texts("record_of_batch", batch=str(batch), record=str(record)) for batch, record in source.rows]
        rows = screen.texts("list_between").join(where)
        screen.say("source_is_shared", style="red", source=source.source_id, rows=rows)
    if shared:
        screen.say("shared_sources_then")
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
    screen.say("ledger_accepted", count=len(accepted.batches))
    screen.say("ledger_accepted_then")
    return 0, {"accepted": True, "batches": list(accepted.batches), "ledger": accepted.place}


def tidy(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Drop what belongs to batches that ended more than ONBOARD_KEEP_DAYS ago."""
    dropped = retention.tidy(services)
    screen.say(
        "tidied",
        count=dropped.batches,
        days=services.settings.keep_days,
        files=dropped.files,
        folders=dropped.folders,
        rows=dropped.rows,
    )
    return 0, {
        "batches": dropped.batches,
        "files": dropped.files,
        "folders": dropped.folders,
        "rows": dropped.rows,
    }
