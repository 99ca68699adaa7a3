"""`onboard audit`: a batch compared with elepay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.operations import audit as audits
from tasks.services import Services
from worker import terminal
from worker.command_runtime import with_redis
from worker.interrupts import STOPPED, Interrupts
from worker.operator_identity import who
from worker.screen import Screen

#: Lines that are shown; the file has all.
SHOWN = 20


def audit(
    services: Services, batch_id: int, folder: Path | None, screen: Screen, *, lang: str | None
) -> tuple[int, dict[str, Any]]:
    """Compare a batch with elepay; write audit.csv and audit.json; 0 if all agree, 1 if not."""
    audits.require_auditable(services, batch_id)
    if audits.is_interrupted(services, batch_id, folder):
        screen.console.print("an interrupted audit goes on where it stopped")
    with Interrupts() as interrupts, interrupts.counted(), with_redis(services, screen, "audit"):
        done = audits.audit(
            services,
            batch_id,
            who=who(),
            folder=folder,
            lang=lang,
            progress=lambda rows, differences: screen.console.print(f"{rows:,} rows, {differences:,} differences"),
            stopping=lambda: interrupts.any_came,
        )
    if done.stopped_by:
        screen.console.print(f"the audit stopped ({done.stopped_by}); the same command goes on where it stopped")
        return STOPPED, {"batch": batch_id, "stopped_by": done.stopped_by}
    _print(screen, done)
    reports = {name: str(path) for name, path in done.reports.items()}
    return (1 if done.differences else 0), {**done.summary, "reports": reports}


def _print(screen: Screen, done: audits.Audit) -> None:
    if done.differences:
        lines = [
            (each.kind, str(each.line or ""), each.reference, each.source_id, each.ledger, each.elepay)
            for each in done.differences[:SHOWN]
        ]
        terminal.print_table(
            screen, ("kind", "line", "reference", "source", "ledger", "elepay"), lines, right=("line",)
        )
        kinds = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in done.counts.items() if count)
        screen.console.print(f"{done.rows:,} rows compared with elepay: {kinds}")
    else:
        screen.console.print(f"{done.rows:,} rows compared with elepay: all agree")
    for path in done.reports.values():
        screen.console.print(str(path), soft_wrap=True)
