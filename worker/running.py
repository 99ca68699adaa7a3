"""`onboard run`: from a file to its reports, in one command."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console

from tasks import onboarding, reporting
from tasks.elepay_api import PaymentMethod
from tasks.errors import ElepayError, Halted, RateLimitUnavailable, SettingsError, UnusableFile
from tasks.intake import load_mapping
from tasks.models import Batch, BatchState, Books
from tasks.resources import Resources
from tasks.retrying import retrying_look_up
from worker import screen
from worker.private_server import PrivateServer
from worker.run import Interrupts, Workers, alone, watch_batch

log = structlog.get_logger("onboard")


@dataclass(frozen=True, slots=True)
class Options:
    """What `onboard run` was told."""

    file: Path
    reports: Path | None
    workers: int | None
    no_workers: bool
    again: bool
    mapping: Path | None
    lang: str | None
    excel_safe: bool


def run(ours: Resources, options: Options, console: Console) -> tuple[int, dict[str, Any]]:
    """Onboard one file; return the exit code and what `--json` prints."""
    settings = ours.settings
    settings.require_key()
    if not options.file.is_file():
        raise UnusableFile("no_such_file", f"there is no file {options.file}")
    if options.no_workers and settings.redis_url is None:
        raise SettingsError("--no-workers needs a fleet: set REDIS_URL to the Redis that its workers use")
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        if settings.redis_url is None:
            stack.enter_context(alone(settings.home / "run.lock", lambda pid: _waiting(console, pid)))
            server = stack.enter_context(PrivateServer(settings.home))
            os.environ["REDIS_URL"] = server.url
            ours.use_redis(server.url)
            ours.ledger.ring_again()
        return _run(ours, options, console, interrupts)


def _run(ours: Resources, options: Options, console: Console, interrupts: Interrupts) -> tuple[int, dict[str, Any]]:
    settings = ours.settings
    from tasks import celery_tasks
    from worker import celery_app

    celery_app.app.set_current()
    started = time.time()
    with screen.Progress(console, settings.requests_per_second or None) as progress:
        rules = onboarding.AcceptRules(
            intake=ours.intake_rules(
                mapping=load_mapping(options.mapping) if options.mapping else {}, sendable=sendable_methods(ours)
            ),
            live=settings.live,
            slice_rows=settings.slice_rows,
            lease_seconds=settings.lease_seconds,
            again=options.again,
            progress=progress.reading,
        )
        accepted = onboarding.accept_file(options.file, ledger=ours.ledger, files=ours.files, rules=rules)
        batch = accepted.batch
        if accepted.goes_on:
            console.print(f"batch {batch.id} goes on where it stopped")
        onboarding.ring(ours.ledger, celery_tasks.send)
        workers = None
        over = onboarding.is_over(ours.ledger, batch.id)
        if not over and not interrupts.count:
            if not options.no_workers:
                count = options.workers or settings.workers or os.cpu_count() or 1
                workers = Workers(settings, ours.redis_url, count)
            try:
                over = watch_batch(
                    ours.ledger,
                    batch.id,
                    settings,
                    workers=workers,
                    interrupts=interrupts,
                    show=lambda: _show(ours, batch.id, progress),
                )
            finally:
                if workers is not None:
                    workers.stop(interrupts, settings.total_timeout_seconds + 15)
    _settle(ours)
    return _tell(ours, options, console, batch.id, started, over=over)


def sendable_methods(ours: Resources) -> frozenset[str] | None:
    """Ask elepay which payment methods of this key can hold a source (docs/elepay-api.md §3.3); None: it does not say.

    Raises Halted if elepay does not take the key: nothing could be sent with it.
    """
    try:
        methods: list[PaymentMethod] = retrying_look_up()(ours.api.list_payment_methods)
    except Halted as error:
        raise SettingsError(
            f"elepay does not take this key ({error}): check ELEPAY_SECRET_KEY and ELEPAY_MODE"
        ) from None
    except ElepayError as error:
        log.warning("elepay does not say which payment methods this key has; going on without", code=error.code)
        return None
    if all(method.holds_sources is None for method in methods):
        return None
    return frozenset(method.name for method in methods if method.holds_sources)


def _waiting(console: Console, pid: str) -> None:
    console.print(f"another `onboard run` (process {pid}) is at work in this folder; waiting for its end")


def _show(ours: Resources, batch_id: int, progress: screen.Progress) -> None:
    rate, note = None, ""
    try:
        current = ours.rate_limit.current()
        rate = current.rate
        if current.rate < 0.95 * current.limit:
            note = f"elepay throttled: {current.rate:,.1f} of {current.limit:,.0f} requests/s for now"
    except RateLimitUnavailable:
        note = "Redis does not answer; nothing is sent"
    progress.show(ours.ledger.count_states(batch_id), rate, note)


def _settle(ours: Resources) -> None:
    """Take back what stopped workers left, so that books and reports show it where it stands."""
    settings = ours.settings
    onboarding.sweep(
        ours.ledger,
        total_timeout_seconds=settings.total_timeout_seconds,
        look_up_delay_seconds=settings.look_up_delay_seconds,
    )


def _tell(
    ours: Resources, options: Options, console: Console, batch_id: int, started: float, *, over: bool
) -> tuple[int, dict[str, Any]]:
    """Print verdict, books and reports; return exit code and JSON."""
    batch, books = ours.ledger.batch(batch_id), ours.ledger.books(batch_id)
    seconds = time.time() - started
    paths: dict[str, Path] = {}
    if over:
        paths = reporting.write(
            ours,
            batch,
            folder=options.reports,
            lang=options.lang,
            excel_safe=options.excel_safe,
        )
    console.print()
    screen.print_books(console, batch, books, seconds=seconds)
    if over:
        console.print("reports:")
        screen.print_reports(console, paths)
    else:
        console.print("interrupted; nothing is lost, the same command goes on")
    if batch.state in (BatchState.HALTED, BatchState.PAUSED):
        console.print(f"then: onboard run {options.file}")
    return exit_code(batch, books), result(batch, books, paths, seconds)


def exit_code(batch: Batch, books: Books) -> int:
    """Return the exit code that a batch deserves (see `worker/cli.py`)."""
    if not books.balance:
        return 1
    if batch.state is not BatchState.FINISHED:
        return 3
    return 1 if books.need_a_person else 0


def result(batch: Batch, books: Books, paths: dict[str, Path], seconds: float | None = None) -> dict[str, Any]:
    """Return what `--json` prints about a batch."""
    return {
        "batch": batch.id,
        "file": batch.name,
        "state": batch.state,
        "state_reason": batch.state_reason,
        "verdict": screen.verdict(batch, books),
        "books": {
            "records": books.records,
            **{name: getattr(books, name) for name in ("created", "skipped", "invalid", "refused", "unclear", "open")},
            "balance": books.balance,
        },
        "reports": {name: str(path) for name, path in paths.items()},
        **({} if seconds is None else {"seconds": round(seconds, 3)}),
    }
