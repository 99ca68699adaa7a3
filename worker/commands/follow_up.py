"""`onboard follow-up`, `report follow-up`: what became of pending sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.operations import follow_up_report
from tasks.operations.follow_up import follow_up as ask_about_due_sources
from tasks.services import Services
from worker import terminal
from worker.command_runtime import with_redis
from worker.interrupts import STOPPED, Interrupts
from worker.screen import Screen


def follow_up(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Ask elepay what became of every pending source that is due; return how it went."""
    services.settings.require_key()
    with Interrupts() as interrupts, interrupts.counted(), with_redis(services, screen, "follow-up"):
        due = services.ledger.follow_up.count_due()
        screen.say("follow_up_due", count=due)
        result = ask_about_due_sources(
            services,
            stopping=lambda: interrupts.any_came,
            progress=lambda so_far: screen.say("follow_up_so_far", count=so_far.changed, asked=so_far.asked),
        )
    if result.stopped_by:
        screen.say("follow_up_stopped", why=result.stopped_by)
    code = STOPPED if result.stopped_by or interrupts.count else 0
    return code, {"due": due, "asked": result.asked, "changed": result.changed, "stopped_by": result.stopped_by}


def report_follow_up(
    services: Services, folder: Path | None, screen: Screen, *, days: float | None, lang: str | None
) -> tuple[int, dict[str, Any]]:
    """List sources that are pending for too long, or have ended, on screen and as follow-up.csv; 1 if there are any."""
    terminal.print_time(screen)
    written = follow_up_report.report_follow_up(services, folder=folder, days=days, lang=lang)
    if written.examples:
        texts = screen.texts
        shown = {"customer_id": texts.customer, "reference": texts.customer, "status": texts.status}
        lines = [
            [shown.get(name, str)(value) for name, value in zip(follow_up_report.COLUMNS, line, strict=True)]
            for line in written.examples
        ]
        terminal.print_columns(screen, follow_up_report.COLUMNS, lines, right=("batch", "line"))
    days_shown = screen.texts("follow_up_days", count=1 if written.days == 1 else f"{written.days:g}")
    screen.say("follow_up_verdict", count=written.sources, days=days_shown)
    screen.console.print(str(written.path), soft_wrap=True)
    return (1 if written.sources else 0), {
        "sources": written.sources,
        "by_status": dict(written.by_status),
        "days": written.days,
        "report": str(written.path),
    }
