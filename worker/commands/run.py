"""`onboard run`: from a file to its reports, in one command."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import SettingsError, UnusableFile
from tasks.models import BatchState
from tasks.operations.accept_batch import Accepted, accept, count_with_source
from tasks.operations.batch_status import batch_status
from tasks.services import Services
from worker import terminal
from worker.command_runtime import at_work, reading_until_interrupted, require_sender
from worker.commands.batch_result import batch_json
from worker.commands.sending import ReportOptions, print_when, progress_of, send_to_the_end, show_result
from worker.interrupts import Interrupts
from worker.operator_identity import who
from worker.progress import Progress
from worker.questions import is_answerable, require_yes
from worker.screen import Screen


@dataclass(frozen=True, slots=True)
class Options:
    """What was given to `onboard run`."""

    file: Path
    reports: Path | None = None
    workers: int | None = None
    no_workers: bool = False
    again: bool = False
    yes: bool = False
    no_wait: bool = False
    verify_first: bool = False
    mapping: Path | None = None
    canary: int | None = None
    until: str | None = None
    lang: str | None = None
    excel_safe: bool = False


def run(services: Services, options: Options, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Onboard one file; return the exit code and what `--json` prints."""
    _require_sense(services, options)
    if options.no_wait:
        return _hand_over(services, options, screen)
    started = time.time()
    with at_work(
        services,
        screen,
        "run",
        workers=options.workers,
        no_workers=options.no_workers,
        before=lambda: _require_yes_to_again(services, options, screen),
    ) as work:
        with work.interrupts.counted(), progress_of(services, screen) as progress:
            accepted = _accept(services, options, work.interrupts, progress)
            _print_accepted(screen, accepted)
            ending = send_to_the_end(services, [accepted.batch.id], screen, work, progress)
        reports = ReportOptions(options.reports, options.lang, options.excel_safe)
        return show_result(services, reports, screen, accepted.batch.id, started, ending)


def _require_sense(services: Services, options: Options) -> None:
    settings = services.settings
    settings.require_key()
    if options.again and (options.verify_first or settings.verify_first):
        raise SettingsError(
            "--again makes one more source, --verify-first (ONBOARD_VERIFY_FIRST) none where one is: say one of the two"
        )
    if not options.file.is_file():
        why = "it is a folder" if options.file.is_dir() else "no such file"
        raise UnusableFile("unreadable_file", f"There is no file {options.file}.", detail=why)


def _require_yes_to_again(services: Services, options: Options, screen: Screen) -> None:
    """Ask whether rows that have a source shall have one more. Raises Declined."""
    if not options.again or options.yes or not is_answerable():
        return
    count = count_with_source(services, options.file, mapping=options.mapping)
    if count:
        require_yes(screen, "ask_again", count=count)


def _hand_over(services: Services, options: Options, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Accept a file and leave the sending to the fleet, or to the watcher in this folder."""
    require_sender(services, "run")
    terminal.print_place(screen, services.account, services.ledger.place)
    services.ledger.require_memory()
    _require_yes_to_again(services, options, screen)
    with Interrupts() as interrupts, interrupts.counted(), progress_of(services, screen) as progress:
        accepted = _accept(services, options, interrupts, progress)
    _print_accepted(screen, accepted)
    status = batch_status(services, accepted.batch.id, count_skipped=True)
    if status.batch.state is BatchState.RUNNING:
        screen.say("handed_over", batch=str(status.batch.id), count=status.counts.open)
        print_when(services, status.batch.id, screen)
        return 0, batch_json(screen, status)
    terminal.print_counts(screen, status)
    return terminal.exit_code(status), batch_json(screen, status)


def _accept(services: Services, options: Options, interrupts: Interrupts, progress: Progress) -> Accepted:
    return accept(
        services,
        options.file,
        who=who(),
        brought_by="run",
        mapping=options.mapping,
        canary=options.canary,
        again=options.again,
        verify_first=options.verify_first,
        deadline_at=_deadline(options.until, services.settings.time_zone),
        progress=reading_until_interrupted(interrupts, progress.reading),
    )


def _deadline(until: str | None, zone: str) -> float | None:
    try:
        return None if until is None else terminal.next_time(until, zone)
    except ValueError:
        raise SettingsError("--until takes a time of day such as 06:00, not {until!r}", until=until) from None


def _print_accepted(screen: Screen, accepted: Accepted) -> None:
    batch = accepted.batch
    if batch.state in (BatchState.PAUSED, BatchState.HALTED):
        state = terminal.batch_state(screen.texts, batch.state)
        screen.say("batch_has_the_file", batch=str(batch.id), state=state)
    elif accepted.goes_on:
        screen.say("batch_goes_on_where_it_stopped", batch=str(batch.id))
    terminal.print_ignored(screen, batch)
