"""What every command does that sends: waits for its batches, writes and shows their reports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from tasks.error_texts import system_reason
from tasks.models import Stop, StopCode
from tasks.operations import report
from tasks.operations.batch_status import BatchStatus, batch_stands, batch_status, waits_for_next_night
from tasks.operations.status import list_left_alone
from tasks.reason_texts import go_on_command
from tasks.reports.report_data import NO_COMMANDS
from tasks.services import Services
from worker import terminal
from worker.batch_wait import Ending, wait_for_batches
from worker.command_runtime import AtWork, at_work
from worker.commands.batch_result import batch_json
from worker.progress import Progress
from worker.screen import Screen
from worker.worker_pool import REHEARSAL

#: So many unfinished batches are named by a command that leaves them alone.
LEFT_ALONE = 5


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """Where the reports of a command go, and in which language."""

    folder: Path | None = None
    lang: str | None = None
    excel_safe: bool = False


def progress_of(services: Services, screen: Screen) -> Progress:
    """Return the live display of a command."""
    return Progress(screen, services.settings.requests_per_second or None)


def go_on(
    services: Services,
    batch_id: int,
    screen: Screen,
    decide: Callable[[], str],
    command: str,
    reports: ReportOptions,
) -> tuple[int, dict[str, Any]]:
    """Let a stopped batch go on, by whatever makes it (`decide` returns what to say), and work on it to its end.

    A fleet's batches go on with the fleet, and a watcher that is at work in this home takes the batch: there the
    decision is all. Everywhere else this command sends the rows, as `onboard run` does.
    """
    started = time.time()
    if services.settings.redis_url is not None:
        return _left_to(services, batch_id, screen, decide(), "fleet_sends", reports)
    services.settings.require_key()
    with at_work(services, screen, command, workers=None, no_workers=False) as work:
        if work.redis.watcher is not None:
            return _left_to(services, batch_id, screen, decide(), "watcher_sends_it", reports)
        with work.interrupts.counted(), progress_of(services, screen) as progress:
            screen.console.print(Text(decide()), soft_wrap=True)
            ending = send_to_the_end(services, [batch_id], screen, work, progress)
        return show_result(services, reports, screen, batch_id, started, ending)


def _left_to(
    services: Services, batch_id: int, screen: Screen, decided: str, who_sends: str, reports: ReportOptions
) -> tuple[int, dict[str, Any]]:
    """Say that others send a batch from now on, and when."""
    status = batch_status(services, batch_id)
    screen.say(who_sends, decided=decided)
    if not status.batch.is_worked_on:
        screen.say("nobody_at_work", style="yellow")
    print_when(services, batch_id, screen)
    if reports != ReportOptions():
        screen.say("reports_later", batch=str(batch_id))
    return 0, batch_json(screen, status)


def send_to_the_end(
    services: Services, batches: Sequence[int], screen: Screen, work: AtWork, progress: Progress
) -> Ending:
    """Say which batches are left alone and when these are sent, and wait for their end."""
    _print_left_alone(services, batches, screen)
    print_when(services, batches[-1], screen)
    return wait_for_batches(services, batches, work, progress)


def _print_left_alone(services: Services, batches: Sequence[int], screen: Screen) -> None:
    """Name the unfinished batches that nobody works on: this command leaves them alone."""
    others = list_left_alone(services, batches)
    for status in others[:LEFT_ALONE]:
        batch, counts = status.batch, status.counts
        command = go_on_command(batch_stands(services, batch), batch.id) or f"onboard resume {batch.id}"
        screen.say(
            "batch_left_alone",
            batch=str(batch.id),
            name=batch.name,
            state=terminal.batch_state(screen.texts, batch.state),
            left=counts.open + counts.unclear,
            records=counts.records,
            command=command,
        )
    if len(others) > LEFT_ALONE:
        screen.say("more_left_alone")


def print_when(services: Services, batch_id: int, screen: Screen) -> None:
    """Say that the window is closed, and until when, if it is."""
    opens_at = waits_for_next_night(services, services.ledger.batches.get(batch_id))
    if opens_at is not None:
        screen.say("window_closed", time=screen.clock_time(opens_at))


def show_result(
    services: Services, options: ReportOptions, screen: Screen, batch_id: int, started: float, ending: Ending
) -> tuple[int, dict[str, Any]]:
    """Write the reports; print verdict, counts and reports; return exit code and JSON."""
    status, seconds = batch_status(services, batch_id, count_skipped=True), time.time() - started
    paths, failed = _write_reports(services, options, screen, status, ending)
    if REHEARSAL in os.environ and ending is Ending.INTERRUPTED:
        status = replace(status, batch=replace(status.batch, stop=Stop(StopCode.REHEARSAL)))
    screen.console.print()
    terminal.print_counts(screen, status, seconds=seconds)
    waits = waits_for_next_night(services, status.batch)
    if waits:
        _print_next_night(screen, status, waits)
    _print_reports(screen, paths, failed)
    if ending is Ending.LEFT:
        screen.say("watcher_has_ended", batch=str(batch_id))
    code = max(terminal.exit_code(status), 1 if failed else 0)
    goes_on = {"goes_on_at": waits} if waits else {}
    return code, {**batch_json(screen, status, paths, seconds), **goes_on, **({"error": failed} if failed else {})}


def _write_reports(
    services: Services, options: ReportOptions, screen: Screen, status: BatchStatus, ending: Ending
) -> tuple[dict[str, Path], str]:
    """Write the reports unless a person interrupted; return where they are, and a sentence if they failed."""
    if ending is Ending.INTERRUPTED:
        return {}, ""
    try:
        paths = report.write(
            services,
            status.batch,
            folder=options.folder,
            lang=options.lang,
            excel_safe=options.excel_safe,
            commands=NO_COMMANDS if REHEARSAL in os.environ else None,
        )
    except OSError as error:
        return {}, screen.texts("reports_failed", why=system_reason(error), batch=str(status.batch.id))
    return paths, ""


def _print_next_night(screen: Screen, status: BatchStatus, waits: float) -> None:
    counts = status.counts
    key = "night_for_rows_and_look_ups" if counts.unclear else "night_for_rows"
    screen.say(key, count=counts.open, time=screen.clock_time(waits))


def _print_reports(screen: Screen, paths: dict[str, Path], failed: str) -> None:
    if failed:
        screen.console.print(Text(failed, style="red"), soft_wrap=True)
    elif paths:
        screen.say("reports")
        terminal.print_reports(screen, paths)
