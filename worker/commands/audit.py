"""`onboard audit`: a batch compared with elepay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.models import RowState
from tasks.operations import audit as audits
from tasks.operations.audit_comparison import Difference
from tasks.services import Services
from worker import terminal
from worker.command_runtime import with_redis
from worker.interrupts import STOPPED, Interrupts
from worker.operator_identity import who
from worker.screen import Screen

#: Lines that are shown; the file has all.
SHOWN = 20
_ROW_STATES = frozenset(RowState)


def audit(
    services: Services, batch_id: int, folder: Path | None, screen: Screen, *, lang: str | None
) -> tuple[int, dict[str, Any]]:
    """Compare a batch with elepay; write audit.csv and audit.json; 0 if all agree, 1 if not."""
    audits.require_auditable(services, batch_id)
    if audits.is_interrupted(services, batch_id, folder):
        screen.say("audit_goes_on")
    with Interrupts() as interrupts, interrupts.counted(), with_redis(services, screen, "audit"):
        done = audits.audit(
            services,
            batch_id,
            who=who(),
            folder=folder,
            lang=lang,
            progress=lambda rows, differences: _say_so_far(screen, rows, differences),
            stopping=lambda: interrupts.any_came,
        )
    if done.stopped_by:
        why = screen.texts("by_a_person") if done.stopped_by == audits.INTERRUPTED else done.stopped_by
        screen.say("audit_stopped", why=why)
        return STOPPED, {"batch": batch_id, "stopped_by": done.stopped_by}
    _print(screen, done)
    reports = {name: str(path) for name, path in done.reports.items()}
    return (1 if done.differences else 0), {**done.summary, "reports": reports}


def _say_so_far(screen: Screen, rows: int, differences: int) -> None:
    parts = [screen.texts("audit_rows", count=rows), screen.texts("audit_differences", count=differences)]
    screen.console.print(screen.texts("list_between").join(parts))


def _print(screen: Screen, done: audits.Audit) -> None:
    texts = screen.texts
    terminal.print_time(screen)
    if done.differences:
        lines = [_line(screen, each) for each in done.differences[:SHOWN]]
        heads = ("kind", "line", "reference", "source", "ledger", "elepay")
        terminal.print_columns(screen, heads, lines, right=("line",))
        kinds = [texts(f"audit_count_{kind}", count=count) for kind, count in done.counts.items() if count]
        screen.say("audit_differs", count=done.rows, kinds=texts("list_between").join(kinds))
    else:
        screen.say("audit_agrees", count=done.rows)
    for path in done.reports.values():
        screen.console.print(str(path), soft_wrap=True)


def _line(screen: Screen, each: Difference) -> tuple[str, ...]:
    texts = screen.texts
    ledger = texts(f"state_{each.ledger}") if each.ledger in _ROW_STATES else texts.status(each.ledger)
    elepay = texts.status(audits.elepay_says(each, texts))
    return (
        texts(f"audit_kind_{each.kind}"),
        str(each.line or ""),
        texts.customer(each.reference),
        each.source_id,
        ledger,
        elepay,
    )
