"""`onboard open`, `dismiss`, `find`: what needs a person over all batches, and where a customer is."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from tasks.errors import SettingsError
from tasks.operations import find as finding
from tasks.operations import open_work
from tasks.reports.open_groups import OpenGroup
from tasks.reports.recommendations import title_of
from tasks.services import Services
from worker import terminal
from worker.operator_identity import who
from worker.screen import Screen


def list_open(
    services: Services, batch_id: int | None, screen: Screen, *, csv: Path | None
) -> tuple[int, dict[str, Any]]:
    """List what needs a person, once, or write it as files that can be corrected and run; 1 if there is any."""
    terminal.print_time(screen)
    groups = open_work.list_open_work(services, batch_id)
    rows = sum(group.rows for group in groups)
    for group in groups:
        _print_group(screen, group)
    screen.say("open_rows" if rows else "open_nothing", style="bold", count=rows)
    result: dict[str, Any] = {"open": rows, "groups": [_group_json(group) for group in groups]}
    if csv is not None and rows:
        written = open_work.write_open_work(services, csv, lang=screen.texts.lang)
        for path, count in written.files.items():
            screen.say("open_written", file=path, count=count)
        if written.to_be_resolved:
            screen.say("open_to_be_resolved", count=written.to_be_resolved)
        if written.dropped:
            screen.say("open_dropped", count=written.dropped)
        result["files"] = {str(path): count for path, count in written.files.items()}
    return (1 if rows else 0), result


def _print_group(screen: Screen, group: OpenGroup) -> None:
    texts = screen.texts
    age = texts.duration(max(0.0, time.time() - group.since))
    head = texts(
        "open_group", title=title_of(group.key, texts), count=group.rows, state=texts(f"state_{group.key.state}")
    )
    screen.console.print(Text(head, style="bold"), soft_wrap=True)
    screen.console.print(Text(f"  {group.hint(screen.texts.lang)}"))
    lines = [
        texts("open_line", batch=str(batch), line=str(line), customer=texts.customer(customer) or "–")
        for batch, line, customer in group.lines
    ]
    if more := group.rows - len(lines):
        lines.append(texts("open_more", count=more))
    for line in lines:
        screen.console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    batches = texts("list_between").join(map(str, sorted(group.batches)))
    screen.say("open_age", style="dim", age=age, batches=batches)
    screen.console.print()


def _group_json(group: OpenGroup) -> dict[str, Any]:
    return {
        "state": group.key.state,
        "code": group.key.code,
        "column": group.key.column,
        "rows": group.rows,
        "since": group.since,
        "batches": {str(batch): count for batch, count in group.batches.items()},
        "lines": [each._asdict() for each in group.lines],
    }


def dismiss(
    services: Services, batch_id: int, lines: tuple[int, ...], screen: Screen, *, reason: str | None, undo: bool
) -> tuple[int, dict[str, Any]]:
    """Set rows aside with a reason, or take that back."""
    if undo == (reason is not None):
        raise SettingsError("say why: --reason TEXT; or --undo, if the row was dismissed and needs a person again")
    if reason is None:
        work = open_work.take_back_dismissals(services, batch_id, lines, who=who())
    else:
        work = open_work.dismiss(services, batch_id, lines, reason, who=who())
    screen.say("dismissal_taken_back" if undo else "dismissed", batch=batch_id, count=len(lines))
    return 0, {"batch": batch_id, "lines": list(lines), "work": asdict(work)}


def find(services: Services, wanted: str, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Show every row about a customer, a source or a reference; 1 if there is none."""
    terminal.print_time(screen)
    found = finding.find(services, wanted)
    if found:
        heads = ("batch", "file", "line", "state", "customer", "method", "reference", "source_id", "status", "code")
        lines = [
            (
                str(row.batch_id),
                row.file,
                str(row.line),
                screen.texts(f"state_{row.state}"),
                screen.texts.customer(row.customer_id),
                row.payment_method,
                screen.texts.customer(row.reference),
                row.source_id,
                row.source_status,
                row.code,
            )
            for row in found
        ]
        terminal.print_columns(screen, heads, lines, right=("batch", "line"))
    else:
        screen.say("found_nothing", wanted=wanted)
    return (0 if found else 1), {"found": [row._asdict() for row in found]}
