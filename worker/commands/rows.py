"""`onboard resolve`, `show`: what people see of a row, and decide about an unclear one."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from tasks import reason_texts
from tasks.errors import SettingsError
from tasks.models import BatchState, Reason, RowState
from tasks.operations import resolve as resolution
from tasks.operations.batch_status import batch_stands
from tasks.operations.resolve import Resolved
from tasks.operations.show_row import show_row
from tasks.reports.i18n import Texts
from tasks.services import Services
from worker import terminal
from worker.commands.batch_result import print_sentence
from worker.operator_identity import who
from worker.screen import Screen


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
        _print_answer(screen, created, resolved)
    elif absent:
        resolved = resolution.resolve_as_absent(services, batch_id, line, who=who())
    else:
        resolved = resolution.give_up(services, batch_id, line, who=who())
    sentence = f"line {line} of batch {batch_id} is {resolved.state}{_what_follows(services, resolved)}"
    return print_sentence(screen, resolved.status, sentence)


def _print_answer(screen: Screen, source_id: str, resolved: Resolved) -> None:
    answer = resolved.answer
    if answer is None or not (answer.status or answer.code):
        return
    if answer.code:
        screen.console.print(f"elepay could not be asked about {source_id} ({answer.code}); your word is taken")
    else:
        screen.console.print(f"elepay has {source_id}, its status is {answer.status}")


def _what_follows(services: Services, resolved: Resolved) -> str:
    """Say what becomes of a row that was settled."""
    batch = resolved.status.batch
    if resolved.state is RowState.UNCLEAR:
        return " and given up"
    if resolved.state is RowState.CREATED:
        return ""
    if batch.state is BatchState.CANCELLED:
        return f"; the batch is cancelled: onboard retry {batch.id} sends it"
    command = reason_texts.go_on_command(batch_stands(services, batch), batch.id)
    if batch.state is BatchState.RUNNING and not batch.is_worked_on:
        command = f"onboard resume {batch.id}"
    return "; it is sent again" + (f": {command}" if command else "")


def _list_unclear(services: Services, batch_id: int | None, screen: Screen) -> tuple[int, dict[str, Any]]:
    rows = resolution.list_unclear(services, batch_id)
    language = services.settings.lang
    if rows:
        terminal.print_table(
            screen,
            ("batch", "line", "customer", "method", "reference", "sent", "why"),
            [
                (
                    str(row.batch_id),
                    str(row.line),
                    row.customer_id,
                    row.payment_method,
                    row.reference,
                    screen.clock_time(row.sent_at) if row.sent_at else "",
                    reason_texts.sentence(Reason(row.code), language),
                )
                for row in rows
            ],
            right=("batch", "line"),
        )
        screen.console.print(
            "Look for the reference (metadata.onboarding_ref) in elepay's dashboard, then say\n"
            "onboard resolve BATCH LINE with one of\n"
            "  --created SOURCE_ID  it is there\n"
            "  --absent             it is not: send it again\n"
            "  --give-up            leave it"
        )
    else:
        screen.console.print("no row waits for a person")
    return (1 if rows else 0), {"unclear": [row._asdict() for row in rows]}


def show(services: Services, batch_id: int, line: int, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Show one row: its state and everything that happened to it besides a plain success."""
    shown, settings = show_row(services, batch_id, line), services.settings
    row = shown.row
    screen.console.print(f"batch {batch_id}, line {line} (record {row.record}): {row.state}")
    facts = {
        "reference": row.reference,
        "payment method": row.payment_method,
        "source": " ".join(part for part in (row.source_id, row.source_status) if part),
        "attempts": str(row.attempts) if row.attempts else "",
        "code": row.code,
        "parameter": row.parameter,
        "request": row.request_id,
    }
    for name, value in facts.items():
        if value:
            screen.console.print(Text(f"  {name:<15}{value}"))
    for reason in row.reasons or ((Reason(row.code, row.parameter),) if row.code else ()):
        hint = reason_texts.hint(reason, settings.lang, shown.situation)
        screen.console.print(Text(f"  {reason_texts.sentence(reason, settings.lang)} {hint}"))
    if shown.history:
        names = ("attempt", "what", "code", "request_id", "latency_ms", "who")
        lines = [
            (
                Texts("en", settings.time_zone).time(entry["at"], "%Y-%m-%d %H:%M:%S"),
                *(str(entry[name] or "") for name in names),
            )
            for entry in shown.history
        ]
        terminal.print_table(screen, ("when", "attempt", "what", "code", "request", "ms", "who"), lines)
    return 0, {"batch": batch_id, "line": line, "row": row._asdict(), "history": list(shown.history)}
