"""`onboard resolve`, `show`: what people see of a row, and decide about an unclear one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.cells import set_cell_size
from rich.text import Text

from tasks import reason_texts
from tasks.errors import SettingsError
from tasks.models import BatchState, Reason, RowState
from tasks.operations import resolve as resolution
from tasks.operations.batch_status import batch_stands
from tasks.operations.resolve import Resolved
from tasks.operations.show_row import ShownRow, show_row
from tasks.reports import history_texts
from tasks.reports.i18n import Texts
from tasks.reports.row_texts import successor_in_words
from tasks.services import Services
from worker import terminal
from worker.commands.batch_result import say_of_batch
from worker.operator_identity import who
from worker.screen import Screen

#: Width of the labels of a row's facts.
_LABEL_CELLS = 15


def resolve(
    services: Services,
    batch_id: int | None,
    line: int | None,
    screen: Screen,
    *,
    created: str | None,
    absent: bool,
    give_up: bool,
) -> tuple[int, dict[str, Any]]:
    """List the rows that wait for a person, or settle one of them."""
    decisions = [created is not None, absent, give_up]
    if batch_id is None or line is None:
        if any(decisions):
            raise SettingsError("say which row: onboard resolve BATCH LINE --created SOURCE_ID | --absent | --give-up")
        return _list_unclear(services, batch_id, screen)
    if sum(decisions) != 1:
        raise SettingsError("say one of --created SOURCE_ID, --absent (send it again) and --give-up")
    if created is not None:
        resolved = resolution.resolve_as_created(services, batch_id, line, created, who=who())
    elif absent:
        resolved = resolution.resolve_as_absent(services, batch_id, line, who=who())
    else:
        resolved = resolution.give_up(services, batch_id, line, who=who())
    _say_where(screen, line, resolved.line, resolved.record)
    if created is not None:
        _print_answer(screen, created, resolved)
    key, command = _what_follows(services, resolved)
    return say_of_batch(screen, resolved.status, key, line=str(resolved.line), command=command)


def _say_where(screen: Screen, typed: int, line: int, record: int) -> None:
    """Say which record a line belongs to that is not its first."""
    if typed != line:
        screen.say("inside_record", typed=str(typed), record=str(record), line=str(line))


def _print_answer(screen: Screen, source_id: str, resolved: Resolved) -> None:
    answer = resolved.answer
    if answer is None or not (answer.status or answer.code):
        return
    if answer.code:
        screen.say("source_not_asked", source=source_id, code=answer.code)
    else:
        screen.say("source_is_there", source=source_id, status=screen.texts.status(answer.status))


def _what_follows(services: Services, resolved: Resolved) -> tuple[str, str]:
    """Return the key of what is said about a row that was settled, and the command that sends it, if one does."""
    batch = resolved.status.batch
    if resolved.state is RowState.UNCLEAR:
        return "resolved_given_up", ""
    if resolved.state is RowState.CREATED:
        return "resolved_created", ""
    if batch.state is BatchState.CANCELLED:
        return "resolved_cancelled", f"onboard retry {batch.id}"
    command = reason_texts.go_on_command(batch_stands(services, batch), batch.id)
    if batch.state is BatchState.RUNNING and not batch.is_worked_on:
        command = f"onboard resume {batch.id}"
    return ("resolved_absent_then" if command else "resolved_absent"), command


def _list_unclear(services: Services, batch_id: int | None, screen: Screen) -> tuple[int, dict[str, Any]]:
    terminal.print_time(screen)
    rows = resolution.list_unclear(services, batch_id)
    if rows:
        terminal.print_columns(
            screen,
            ("batch", "line", "customer", "method", "reference", "sent_at", "why"),
            [
                (
                    str(row.batch_id),
                    str(row.line),
                    screen.texts.customer(row.customer_id),
                    row.payment_method,
                    screen.texts.customer(row.reference),
                    screen.clock_time(row.sent_at) if row.sent_at else "",
                    reason_texts.sentence(Reason(row.code), screen.texts.lang),
                )
                for row in rows
            ],
            right=("batch", "line"),
        )
        screen.say("how_to_resolve")
    else:
        screen.say("nothing_to_resolve")
    return (1 if rows else 0), {"unclear": [row._asdict() for row in rows]}


def show(services: Services, batch_id: int, line: int, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Show one row: its state, its times, and everything that happened to it besides a plain success."""
    terminal.print_time(screen)
    shown = show_row(services, batch_id, line)
    row = shown.row
    _say_where(screen, line, row.line, row.record)
    numbers = {"batch": str(batch_id), "line": str(row.line), "record": str(row.record)}
    screen.say("row_shown", state=screen.texts(f"state_{row.state}"), **numbers)
    _print_facts(screen, shown)
    _print_reasons(screen, shown)
    if shown.history:
        heads = ("when", "attempt", "what", "code", "request", "ms", "who")
        terminal.print_columns(screen, heads, [_history_line(screen.texts, entry) for entry in shown.history])
    return 0, {
        "batch": batch_id,
        "line": row.line,
        "row": row._asdict(),
        "times": shown.times._asdict(),
        "history": list(shown.history),
    }


def _print_facts(screen: Screen, shown: ShownRow) -> None:
    row, texts = shown.row, screen.texts
    status = texts.status(row.source_status)
    facts = {
        "customer": texts.customer(row.customer_id),
        "reference": texts.customer(row.reference),
        "method": row.payment_method,
        "source": " ".join(part for part in (row.source_id, status) if part),
        "attempts": str(row.attempts) if row.attempts else "",
        "code": row.code,
        "parameter": row.parameter,
        "request": row.request_id,
        **_times(shown, texts),
    }
    for name, value in facts.items():
        if value:
            label = set_cell_size(screen.texts(f"fact_{name}"), _LABEL_CELLS)
            screen.console.print(Text(f"  {label}{value}"), soft_wrap=True)


def _times(shown: ShownRow, texts: Texts) -> dict[str, str]:
    """Return when what happened to a row, and what is still to happen."""
    times = shown.times
    due = "looked_up_next" if shown.row.state == RowState.UNCLEAR else "sent_not_before"
    at = {
        "accepted": times.accepted_at,
        "sent": times.sent_at,
        "ended": times.ended_at,
        due: times.not_before,
        "status_since": times.status_at,
        "follow_up": times.follow_up_at,
    }
    said = {name: "" if when is None else texts.time(when) for name, when in at.items()}
    if said["sent"] and times.latency_ms is not None:
        said["sent"] = texts("sent_and_answered", time=said["sent"], ms=times.latency_ms)
    return said


def _print_reasons(screen: Screen, shown: ShownRow) -> None:
    row, lang = shown.row, screen.texts.lang
    if shown.successor:
        screen.console.print(Text(f"  {successor_in_words(shown.successor, screen.texts)}"), soft_wrap=True)
    for reason in row.reasons or ((Reason(row.code, row.parameter),) if row.code else ()):
        says, hint = screen.texts.sentence(reason), reason_texts.hint(reason, lang, shown.situation)
        for line in screen.texts("says_and_hint", says=says, hint=hint).splitlines():
            screen.console.print(Text(f"  {line}"), soft_wrap=True)


def _history_line(texts: Texts, entry: Mapping[str, Any]) -> tuple[str, ...]:
    values = [str(entry[name] or "") for name in ("attempt", "code", "request_id", "latency_ms", "who")]
    attempt, *others = values
    return texts.time(entry["at"]), attempt, history_texts.in_words(str(entry["what"] or ""), texts), *others
