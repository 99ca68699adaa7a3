"""`onboard pause`, `cancel`, `approve`, `resolve`, `show`: what people decide about batches and rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog
from rich.console import Console
from rich.text import Text

from tasks import reason_texts
from tasks.errors import ElepayError, LedgerError, SettingsError
from tasks.models import Batch, BatchState, Reason, RowState, StopCode
from tasks.operations import batch_lifecycle
from tasks.send.retry_policy import retrying_look_up
from tasks.send_window import Window
from tasks.services import Services
from worker import terminal
from worker.commands.run import go_on, require_account, result, who

log = structlog.get_logger("onboard")


def pause(services: Services, batch_id: int, console: Console) -> tuple[int, dict[str, Any]]:
    """Send nothing more of a batch until it is resumed."""
    if not batch_lifecycle.pause(services.ledger, batch_id, who()):
        raise _cannot(services.ledger.batches.get(batch_id), "paused", "a running")
    return _say(services, batch_id, console, f"batch {batch_id} is paused; onboard resume {batch_id} goes on")


class NewWindow(NamedTuple):
    """How somebody wants the nightly window of a batch to be from now on; nothing said: as it is."""

    not_before: str | None = None
    until: str | None = None
    at_any_time: bool = False

    def read(self, zone: str) -> Window | None:
        """Return the new window; None: as it is. Raises SettingsError."""
        if not self.at_any_time and self.not_before is None and self.until is None:
            return None
        if self.at_any_time and (self.not_before or self.until):
            raise SettingsError("--at-any-time takes the window away: give it, or --not-before and --until")
        try:
            return Window.of(self.not_before or "", self.until or "", zone)
        except ValueError as error:
            raise SettingsError(f"--not-before and --until: {error}") from None


def resume(
    services: Services, batch_id: int, new: NewWindow, console: Console, *, verify_first: bool = False
) -> tuple[int, dict[str, Any]]:
    """Let a stopped batch go on: with the fleet or the watcher that is at work, else in this command.

    With `verify_first` each row is looked up before it is sent.
    """
    window = new.read(services.settings.time_zone)
    batch_lifecycle.end_dead_workers(services.ledger)
    batch = services.ledger.batches.get(batch_id)
    require_account(services, batch)
    if batch.state is BatchState.PAUSED and services.ledger.lifecycle.waits_for_approval(batch_id):
        raise LedgerError(
            f"the canary rows of batch {batch_id} have run: `onboard approve {batch_id}` lets the rest go"
        )
    if batch.state not in batch_lifecycle.GOES_ON:
        raise _cannot(batch, "resumed", "a stopped")
    if batch.stop_code is StopCode.FORGOTTEN and not verify_first:
        raise LedgerError(
            f"elepay has sources of batch {batch_id} that this ledger does not know:"
            f" `onboard resume {batch_id} --verify-first` goes on, and makes none of them again"
        )

    def change() -> None:
        if verify_first:
            services.ledger.lifecycle.verify_from_now_on(batch_id)
        if window is not None:
            services.ledger.lifecycle.change_window(batch_id, str(window), who())

    if batch.state is BatchState.RUNNING and batch.is_worked_on:
        if window is None and not verify_first:
            raise _cannot(batch, "resumed", "a stopped")
        change()
        return _say(services, batch_id, console, f"batch {batch_id} goes on with its new orders")

    def decide() -> str:
        change()
        if not batch_lifecycle.resume(services.ledger, batch_id, who()):
            raise _cannot(services.ledger.batches.get(batch_id), "resumed", "a stopped")
        services.ledger.lifecycle.set_deadline(batch_id, None)
        return f"batch {batch_id} goes on"

    return go_on(services, batch_id, console, decide, "resume")


def approve(services: Services, batch_id: int, console: Console) -> tuple[int, dict[str, Any]]:
    """Let the rest of a batch run after its canary rows: with the fleet or the watcher, else in this command."""
    batch = services.ledger.batches.get(batch_id)
    require_account(services, batch)
    if batch.state is not BatchState.PAUSED or not batch.canary:
        raise _not_waiting(batch)

    def decide() -> str:
        if not services.ledger.lifecycle.approve(batch_id, who()):
            raise _not_waiting(services.ledger.batches.get(batch_id))
        return f"batch {batch_id} is approved"

    return go_on(services, batch_id, console, decide, "approve")


def _not_waiting(batch: Batch) -> LedgerError:
    return LedgerError(f"batch {batch.id} does not wait for approval (it is {batch.state})")


def cancel(services: Services, batch_id: int, console: Console) -> tuple[int, dict[str, Any]]:
    """Give a batch up; what was not sent never is."""
    if not batch_lifecycle.cancel(services.ledger, batch_id, who()):
        raise _cannot(services.ledger.batches.get(batch_id), "cancelled", "an unfinished")
    return _say(
        services, batch_id, console, f"batch {batch_id} is cancelled; onboard report {batch_id} says what was not sent"
    )


def accept_ledger(services: Services, console: Console) -> tuple[int, dict[str, Any]]:
    """Go on with a ledger that was restored, or that is another one: nothing in it is sent without a look-up."""
    batches = services.ledger.acceptance.accept_as_it_is(who())
    log.info("ledger accepted as it is", batches=len(batches))
    terminal.print_place(console, services.account, services.ledger.place)
    console.print(f"the ledger is accepted as it is; {len(batches):,} unfinished batches verify their rows first")
    console.print("Set ONBOARD_VERIFY_FIRST=1 until the files of the time that is missing here have come again")
    return 0, {"accepted": True, "batches": batches, "ledger": services.ledger.place}


def _cannot(batch: Batch, done: str, kind: str) -> LedgerError:
    return LedgerError(f"batch {batch.id} is {batch.state}: only {kind} batch can be {done}")


def _where(services: Services, batch_id: int) -> str:
    """Say what makes it go on where no fleet waits for it."""
    return "" if services.settings.redis_url else f": onboard run {services.ledger.batches.get(batch_id).name}"


def _say(services: Services, batch_id: int, console: Console, sentence: str) -> tuple[int, dict[str, Any]]:
    console.print(Text(sentence))
    return 0, result(services.ledger.batches.get(batch_id), services.ledger.queries.counts(batch_id), {})


def resolve(
    services: Services,
    batch_id: int | None,
    line: int | None,
    console: Console,
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
        return _list_unclear(services, batch_id, console)
    if sum(decisions) != 1:
        raise SettingsError("say one of --created SOURCE_ID, --absent (send it again) and --give-up")
    services.ledger.require_memory()
    require_account(
        services, services.ledger.batches.get(batch_id)
    )  # else elepay would be asked about another account's customer
    record = services.ledger.resolution.record_at(batch_id, line)
    state = RowState.CREATED if created else RowState.WAITING if absent else RowState.UNCLEAR
    if created:
        _check_source(services, created, console)
    if absent:
        _check_absence(services, batch_id, record)
    services.ledger.resolution.resolve(batch_id, record, state, source_id=created, who=who())
    batch_lifecycle.close_finished_batch(services.ledger, batch_id)
    again = _sent_again(services, batch_id) if absent else " and given up" if give_up else ""
    return _say(services, batch_id, console, f"line {line} of batch {batch_id} is {state}{again}")


def _check_source(services: Services, source_id: str, console: Console) -> None:
    """Ask elepay whether the source exists, if it can be asked. Raises LedgerError if elepay says it does not."""
    if services.settings.secret_key is None:
        return
    try:
        status = retrying_look_up()(services.api.retrieve_source_status, source_id)
    except ElepayError as error:
        if error.code == "M002003":
            raise LedgerError(f"elepay has no source {source_id}: look at the id again") from error
        console.print(f"elepay could not be asked about {source_id} ({error.code}); your word is taken")
    else:
        console.print(f"elepay has {source_id}, its status is {status}")


def _check_absence(services: Services, batch_id: int, record: int) -> None:
    """Ask elepay before a row is sent again on a person's word: a wrong word would make a second source.

    Raises LedgerError if elepay has the source, or does not answer.
    """
    row = services.ledger.queries.report_row(batch_id, record)
    customer = services.ledger.resolution.customer_of(batch_id, record)
    try:
        listed = retrying_look_up()(services.api.list_sources, customer, row.payment_method, fresh=True)
    except ElepayError as error:
        raise LedgerError(f"elepay did not say whether the source exists ({error.code}): try again later") from error
    for source in listed.sources:
        if source.reference == row.reference:
            raise LedgerError(
                f"elepay has it: onboard resolve {batch_id} {row.line} --created {source.id} takes it over"
            )


def _sent_again(services: Services, batch_id: int) -> str:
    if services.ledger.batches.get(batch_id).state is BatchState.CANCELLED:
        return f"; the batch is cancelled: onboard retry {batch_id} sends it"
    return f"; it is sent again{_where(services, batch_id)}"


def _list_unclear(services: Services, batch_id: int | None, console: Console) -> tuple[int, dict[str, Any]]:
    rows = services.ledger.resolution.unclear_rows(batch_id)
    zone, language = services.settings.time_zone, services.settings.lang
    if rows:
        terminal.print_table(
            console,
            ("batch", "line", "customer", "method", "reference", "sent", "why"),
            [
                (
                    str(row.batch_id),
                    str(row.line),
                    row.customer_id,
                    row.payment_method,
                    row.reference,
                    terminal.clock_time(row.sent_at, zone) if row.sent_at else "",
                    reason_texts.sentence(Reason(row.code), language),
                )
                for row in rows
            ],
            right=("batch", "line"),
        )
        console.print(
            "Look for the reference (metadata.onboarding_ref) in elepay's dashboard, then say\n"
            "onboard resolve BATCH LINE with one of\n"
            "  --created SOURCE_ID  it is there\n"
            "  --absent             it is not: send it again\n"
            "  --give-up            leave it"
        )
    else:
        console.print("no row waits for a person")
    return (1 if rows else 0), {"unclear": [row._asdict() for row in rows]}


def show(services: Services, batch_id: int, line: int, console: Console) -> tuple[int, dict[str, Any]]:
    """Show one row: where it stands and everything that happened to it besides a plain success."""
    ledger, settings = services.ledger, services.settings
    record = ledger.resolution.record_at(batch_id, line)
    row = ledger.queries.report_row(batch_id, record)
    console.print(f"batch {batch_id}, line {line} (record {record}): {row.state}")
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
            console.print(Text(f"  {name:<15}{value}"))
    for reason in row.reasons or ((Reason(row.code, row.parameter),) if row.code else ()):
        console.print(
            Text(f"  {reason_texts.sentence(reason, settings.lang)} {reason_texts.hint(reason.code, settings.lang)}")
        )
    lines = ledger.history.lines(batch_id, record)
    if lines:
        terminal.print_table(
            console,
            ("when", "attempt", "what", "code", "request", "ms", "who"),
            [
                (
                    terminal.clock_seconds(entry["at"], settings.time_zone),
                    *(
                        str(entry[name] or "")
                        for name in ("attempt", "what", "code", "request_id", "latency_ms", "who")
                    ),
                )
                for entry in lines
            ],
        )
    return 0, {"batch": batch_id, "line": line, "row": row._asdict(), "history": lines}
