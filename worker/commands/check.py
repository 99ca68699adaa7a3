"""`onboard check`: everything but the sending."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.text import Text

from tasks import reason_texts
from tasks.operations.check import CheckedFile
from tasks.operations.check import check as check_file
from tasks.services import Services
from worker import terminal
from worker.screen import Screen


def check(
    services: Services, file: Path, screen: Screen, *, mapping: Path | None, lang: str | None, offline: bool
) -> tuple[int, dict[str, Any]]:
    """Read a file as `onboard run` would and say what would become of it; nothing is stored, nothing is sent."""
    settings = services.settings
    checked = check_file(services, file, mapping=mapping, offline=offline)
    done_at = None if checked.seconds is None else time.time() + checked.seconds
    forecast = _forecast(screen, checked, done_at)
    _print(screen, checked, lang or settings.lang)
    screen.console.print(Text(forecast, style="bold"))
    return (1 if checked.invalid else 0), {
        "verdict": "check",
        "file": file.name,
        "sha256": checked.opened.sha256,
        "encoding": checked.opened.format.encoding,
        "delimiter": checked.opened.format.delimiter,
        "records": checked.records,
        "to_send": checked.to_send,
        "invalid": checked.invalid,
        "repeated": checked.repeated,
        "reasons": dict(checked.reasons),
        "warnings": [
            {"code": warned.code, "column": warned.column, "count": warned.count, "line": warned.first_line}
            for warned in checked.warnings
        ],
        "forecast": {
            "requests_per_second": checked.requests_per_second,
            "seconds": checked.seconds,
            "done_at": done_at,
            "text": forecast,
        },
    }


def _forecast(screen: Screen, checked: CheckedFile, done_at: float | None) -> str:
    if checked.seconds is None or done_at is None:
        return f"{checked.to_send:,} rows to send, no limit set"
    done, took = screen.clock_time(done_at), terminal.duration(checked.seconds)
    return f"{checked.to_send:,} rows at {checked.requests_per_second:g}/s: {took}, done about {done}"


def _print(screen: Screen, checked: CheckedFile, language: str) -> None:
    screen.console.print(
        f"{checked.opened.format.encoding}; {checked.records:,} records:"
        f" {checked.to_send:,} to send, {checked.invalid:,} invalid, {checked.repeated:,} repeated"
    )
    if checked.examples:
        _print_examples(screen, checked, language)
    for warned in checked.warnings:
        terminal.print_note(screen, warned.reason, warned.count, warned.first_line, language)


def _print_examples(screen: Screen, checked: CheckedFile, language: str) -> None:
    lines = [
        (
            str(row.line),
            str(row.record),
            row.reason.column,
            reason_texts.sentence(row.reason, language),
            Text(reason_texts.hint(row.reason.code, language), style="dim"),
        )
        for row in checked.examples
    ]
    terminal.print_table(screen, ("line", "record", "column", "what", "what to do"), lines, right=("line", "record"))
    if sum(checked.reasons.values()) > len(lines):
        most = sorted(checked.reasons.items(), key=lambda each: -each[1])
        screen.console.print("all reasons: " + ", ".join(f"{code} {count:,}" for code, count in most))
