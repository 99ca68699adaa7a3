"""`onboard check`: everything but the sending."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.padding import Padding
from rich.text import Text

from tasks import reason_texts
from tasks.errors import SettingsError
from tasks.models import ReportRow
from tasks.operations.check import CheckedFile, ReportPlace
from tasks.operations.check import check as check_file
from tasks.reports.aggregates import Task
from tasks.reports.check_headline import check_headline, remarks
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Recommendations, advise
from tasks.services import Services
from worker import terminal
from worker.screen import Screen
from worker.wrapping import wrapped

#: Causes that are printed; `--report` and `--json` have all.
CAUSES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What was given to `onboard check`."""

    file: Path
    mapping: Path | None = None
    offline: bool = False
    report: Path | None = None
    lang: str | None = None
    excel_safe: bool = False


def check(services: Services, options: Options, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Read a file as `onboard run` would and say what would become of it; nothing is stored, nothing is sent."""
    if options.excel_safe and options.report is None:
        raise SettingsError("--excel-safe is for reports: say in which folder they are written (--report)")
    language = screen.texts.lang
    place = ReportPlace(options.report, language, options.excel_safe) if options.report else None
    checked = check_file(services, options.file, mapping=options.mapping, offline=options.offline, report=place)
    done_at = None if checked.seconds is None else time.time() + checked.seconds
    forecast = _forecast(screen, checked, done_at)
    causes = advise(checked.facts, list(checked.to_do), screen.texts)
    _print(screen, checked, causes)
    screen.console.print()
    _print_wrapped(screen, forecast, "bold")
    _print_remarks_and_reports(screen, checked)
    return (1 if checked.invalid else 0), _as_json(screen, options.file, checked, causes, done_at, forecast)


def _forecast(screen: Screen, checked: CheckedFile, done_at: float | None) -> str:
    if checked.seconds is None or done_at is None:
        return screen.texts("check_forecast_without_limit", count=checked.to_send)
    return screen.texts(
        "check_forecast",
        count=checked.to_send,
        rate=f"{checked.requests_per_second:g}",
        duration=screen.texts.duration(checked.seconds),
        time=screen.clock_time(done_at),
    )


def _headline(checked: CheckedFile, texts: Texts) -> str:
    assert checked.facts.check
    return check_headline(checked.facts.check, checked.facts.counts, checked.skipped, texts).text


def _print(screen: Screen, checked: CheckedFile, causes: list[Recommendations]) -> None:
    screen.say("check_read_as", style="dim", encoding=checked.opened.format.encoding, count=checked.records)
    style = "bold yellow" if checked.invalid else "bold green"
    _print_wrapped(screen, _headline(checked, screen.texts), style)
    for cause in causes[:CAUSES_SHOWN]:
        _print_cause(screen, cause)
    if len(causes) > CAUSES_SHOWN:
        screen.say("check_more_causes", count=len(causes) - CAUSES_SHOWN)
    for task in checked.left_out:
        _print_left_out(screen, task)
    if checked.warnings.found:
        screen.console.print()
    for warned in checked.warnings:
        terminal.print_note(screen, warned.reason, warned.count, warned.first_line, screen.texts.lang)


def _print_cause(screen: Screen, cause: Recommendations) -> None:
    """Print one cause: how many rows, what is wrong, what to do, and where."""
    texts, task = screen.texts, cause.task
    screen.console.print()
    _print_wrapped(screen, _count(texts, task) + cause.title, "yellow")
    _print_examples(screen, task)
    _print_indented(screen, cause.action)
    if task.rows > 1:
        _print_indented(screen, _where(texts, task), style="dim")


def _print_left_out(screen: Screen, task: Task) -> None:
    """Print one cause for which rows would be skipped."""
    texts = screen.texts
    screen.console.print()
    what = reason_texts.title(task.key.code, texts.lang)
    _print_wrapped(screen, _count(texts, task) + texts("check_left_out", what=what), "cyan")
    _print_examples(screen, task)
    _print_indented(screen, reason_texts.hint(task.example, texts.lang))
    if task.rows > 1:
        _print_indented(screen, texts.lines(task), style="dim")


def _print_examples(screen: Screen, task: Task) -> None:
    """Print what is wrong with the first row; of others their values, or else their sentences."""
    texts = screen.texts
    for line, reason in task.examples[: 1 if task.values else None]:
        where, sentence = texts("for_example", line=str(line)), texts.sentence(reason)
        _print_indented(screen, texts("sentence_between").join([where, sentence]))
    if more := [texts.value(reason) for _, reason in task.examples if reason.value][1:]:
        values = texts("list_between").join(texts("check_value", value=value) for value in more)
        _print_indented(screen, texts("check_other_values", values=values))


def _count(texts: Texts, task: Task) -> str:
    return texts("check_rows", count=task.rows)


def _where(texts: Texts, task: Task) -> str:
    alone = [texts("alone", count=task.alone)] if 0 < task.alone < task.rows else []
    return texts("sentence_between").join([texts.lines(task), *alone])


def _print_wrapped(screen: Screen, text: str, style: str = "", *, indent: int = 0) -> None:
    """Print text that is broken as its language allows."""
    screen.console.print(Padding(wrapped(Text(text, style=style)), (0, 0, 0, indent), expand=False))


def _print_indented(screen: Screen, text: str, style: str = "") -> None:
    _print_wrapped(screen, text, style, indent=2)


def _print_remarks_and_reports(screen: Screen, checked: CheckedFile) -> None:
    assert checked.facts.check
    for sentence in remarks(checked.facts.check, screen.texts):
        _print_wrapped(screen, sentence, "yellow")
    if checked.reports:
        screen.say("reports")
        terminal.print_reports(screen, checked.reports)
    elif checked.invalid:
        screen.say("check_how_to_report", style="dim")


def _as_json(
    screen: Screen,
    file: Path,
    checked: CheckedFile,
    causes: list[Recommendations],
    done_at: float | None,
    forecast: str,
) -> dict[str, Any]:
    """Return what `--json` prints: the causes whole, the invalid rows as far as they were kept."""
    assert checked.facts.check
    texts = screen.texts
    return {
        "verdict": "check",
        "headline": _headline(checked, texts),
        "file": file.name,
        "sha256": checked.opened.sha256,
        "encoding": checked.opened.format.encoding,
        "delimiter": checked.opened.format.delimiter,
        "records": checked.records,
        "to_send": checked.to_send,
        "invalid": checked.invalid,
        "repeated": checked.repeated,
        "skipped": dict(checked.skipped),
        "reasons": dict(checked.reasons),
        "causes": [_cause_json(cause) for cause in causes],
        "left_out": [_task_json(task) for task in checked.left_out],
        "rows": [_row_json(row, texts.lang) for row in checked.rows],
        "more": checked.invalid - len(checked.rows),
        "hints": {code: reason_texts.hint(code, texts.lang) for code in checked.reasons},
        "warnings": [
            {"code": warned.code, "column": warned.column, "count": warned.count, "line": warned.first_line}
            for warned in checked.warnings
        ],
        "refused": checked.facts.check.refused.code if checked.facts.check.refused else "",
        "not_asked": checked.facts.check.not_asked,
        "not_compared": checked.facts.check.not_compared,
        "same_as": checked.facts.check.same_as or None,
        "remarks": remarks(checked.facts.check, texts),
        "forecast": {
            "requests_per_second": checked.requests_per_second,
            "seconds": checked.seconds,
            "done_at": done_at,
            "text": forecast,
        },
        "reports": {name: str(path) for name, path in checked.reports.items()},
    }


def _cause_json(cause: Recommendations) -> dict[str, Any]:
    said = {"title": cause.title, "example": cause.example, "hint": cause.task.key.code}
    return {**_task_json(cause.task), **said}


def _task_json(task: Task) -> dict[str, Any]:
    return {
        "state": task.key.state,
        "code": task.key.code,
        "column": task.key.column,
        "rows": task.rows,
        "alone": task.alone,
        "lines": [list(each) for each in task.ranges],
        "values": task.values,
    }


def _row_json(row: ReportRow, language: str) -> dict[str, Any]:
    reasons = [
        {
            "code": reason.code,
            "column": reason.column,
            "message": reason_texts.sentence(reason, language),
            "hint": reason.code,
        }
        for reason in row.reasons
    ]
    return {"record": row.record, "line": row.line, "reasons": reasons}
