"""`onboard check`: everything but the sending."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tasks import reason_texts
from tasks.accept import Warnings, load_mapping, open_file, read_rows
from tasks.models import NewRow, Reason, RowState, decode_reasons
from tasks.services import Services
from worker import terminal
from worker.commands.run import sendable_methods

#: Reasons that are shown one by one; the rest is counted.
SHOWN = 20


def check(
    services: Services, file: Path, console: Console, *, mapping: Path | None, lang: str | None, offline: bool
) -> tuple[int, dict[str, Any]]:
    """Read a file as `onboard run` would and say what would become of it; nothing is stored, nothing is sent."""
    settings = services.settings
    language = lang or settings.lang
    rules = services.intake_rules(
        mapping=load_mapping(mapping) if mapping else {},
        sendable=None if offline or settings.secret_key is None else sendable_methods(services),
    )
    opened = open_file(file, rules)
    counted: Counter[str] = Counter()
    shown: list[tuple[int, int, Reason]] = []
    warnings = Warnings()
    seen = _Seen(own_spellings=settings.other_spelling == "own")
    invalid = 0
    for chunk in read_rows(file, opened, rules, warnings=warnings):
        for row in chunk:
            found = decode_reasons(row.reasons) if row.state == RowState.INVALID else seen.add(row)
            for reason in found:
                counted[reason.code] += 1
                if len(shown) < SHOWN:
                    shown.append((row.record, row.line, reason))
            invalid += bool(found)
    to_send, repeated = seen.to_send, seen.repeated
    rate = settings.requests_per_second
    seconds = to_send / rate if rate else None
    done_at = None if seconds is None else time.time() + seconds
    forecast = _forecast(to_send, rate, seconds, settings.time_zone)
    _print(console, opened.format.encoding, to_send, invalid, repeated, shown, counted, warnings, language)
    console.print(Text(forecast, style="bold"))
    return (1 if invalid else 0), {
        "verdict": "check",
        "file": file.name,
        "sha256": opened.sha256,
        "encoding": opened.format.encoding,
        "delimiter": opened.format.delimiter,
        "records": to_send + invalid + repeated,
        "to_send": to_send,
        "invalid": invalid,
        "repeated": repeated,
        "reasons": dict(counted),
        "warnings": [
            {"code": warned.code, "column": warned.column, "count": warned.count, "line": warned.first_line}
            for warned in warnings
        ],
        "forecast": {"requests_per_second": rate, "seconds": seconds, "done_at": done_at, "text": forecast},
    }


class _Seen:
    """The identities of a file so far, as the ledger would take them in if it were empty."""

    def __init__(self, *, own_spellings: bool) -> None:
        self.to_send = 0
        self.repeated = 0
        self._own_spellings = own_spellings
        self._lines: dict[bytes, int] = {}
        self._spelled: dict[bytes, set[bytes | None]] = {}  # without those whose only spelling is the folded one

    def add(self, row: NewRow) -> tuple[Reason, ...]:
        """Count a row that can be sent; return why it cannot if its identity is there in another spelling."""
        name = _short(row.identity or b"")
        line = self._lines.setdefault(name, row.line)
        spellings = self._spelled.get(name, {None})
        if line != row.line and row.spelling in spellings:
            self.repeated += 1
            return ()
        if line != row.line and not self._own_spellings:
            return (Reason("other_spelling", detail=f"line {line}"),)
        if line != row.line:
            self._spelled[name] = spellings | {row.spelling}
        elif row.spelling:
            self._spelled[name] = {row.spelling}
        self.to_send += 1
        return ()


def _short(identity: bytes) -> bytes:
    """Return eight bytes: a million of them fit into memory, and a wrong match only shifts a forecast."""
    return hashlib.blake2b(identity, digest_size=8).digest()


def _forecast(to_send: int, rate: float, seconds: float | None, zone: str) -> str:
    if seconds is None:
        return f"{to_send:,} rows to send, no limit set"
    done = terminal.clock_time(time.time() + seconds, zone)
    return f"{to_send:,} rows at {rate:g}/s: {terminal.duration(seconds)}, done about {done}"


def _print(
    console: Console,
    encoding: str,
    to_send: int,
    invalid: int,
    repeated: int,
    shown: list[tuple[int, int, Reason]],
    counted: Counter[str],
    warnings: Warnings,
    language: str,
) -> None:
    console.print(
        f"{encoding}; {to_send + invalid + repeated:,} records:"
        f" {to_send:,} to send, {invalid:,} invalid, {repeated:,} repeated"
    )
    if shown:
        terminal.print_table(
            console,
            ("line", "record", "column", "what", "what to do"),
            [
                (
                    str(line),
                    str(record),
                    reason.column,
                    reason_texts.sentence(reason, language),
                    Text(reason_texts.hint(reason.code, language), style="dim"),
                )
                for record, line, reason in shown
            ],
            right=("line", "record"),
        )
        if sum(counted.values()) > len(shown):
            console.print("all reasons: " + ", ".join(f"{code} {count:,}" for code, count in counted.most_common()))
    for warned in warnings:
        terminal.print_note(console, warned.reason, warned.count, warned.first_line, language)
