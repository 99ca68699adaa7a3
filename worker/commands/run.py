"""`onboard run`: from a file to its reports, in one command."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from rich.console import Console
from rich.text import Text

from tasks import report_builder
from tasks.accept import load_mapping
from tasks.elepay.client import PaymentMethod
from tasks.errors import ElepayError, Halted, LedgerError, RateLimitUnavailable, SettingsError, UnusableFile
from tasks.ledger import WATCH
from tasks.models import OPEN_STATES, Batch, BatchState, RowCounts, RowState, StopCode
from tasks.operations import accept_batch, batch_lifecycle
from tasks.operations.retry_file import write_retry_file
from tasks.reports.report_data import NO_COMMANDS
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services
from worker import terminal
from worker.embedded_redis import EmbeddedRedis
from worker.interrupts import Interrupts
from worker.worker_pool import REHEARSAL, Ending, HomeLock, WorkerPool, Workers, watch_batches

log = structlog.get_logger("onboard")

#: So long a key's payment methods are taken to be the same: many small files need not ask for each.
METHODS_SECONDS = 300.0
#: So many unfinished batches are named by a command that leaves them alone.
LEFT_ALONE = 5
#: A wait that ends sooner is not worth a sentence.
WORTH_SAYING_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Options:
    """What `onboard run` was told."""

    file: Path
    reports: Path | None = None
    workers: int | None = None
    no_workers: bool = False
    again: bool = False
    verify_first: bool = False
    mapping: Path | None = None
    canary: int | None = None
    until: str | None = None
    lang: str | None = None
    excel_safe: bool = False


class Redis(NamedTuple):
    """The Redis that a command works with."""

    server: EmbeddedRedis | None = None  #: its own; None: the fleet's, or the watcher's
    watcher: HomeLock | None = None  #: held by the watcher that is at work here, whose Redis it is


class AtWork(NamedTuple):
    """What works for a command while it runs."""

    interrupts: Interrupts
    workers: Workers | None  #: None: the workers of a fleet, or of a watcher, send
    runner: WorkerPool | None  #: None: likewise
    redis: Redis

    @property
    def left(self) -> bool:
        """Whether the watcher that was to send is gone."""
        return self.redis.watcher is not None and self.redis.watcher.watcher_is_gone


def run(services: Services, options: Options, console: Console) -> tuple[int, dict[str, Any]]:
    """Onboard one file; return the exit code and what `--json` prints."""
    settings = services.settings
    settings.require_key()
    if options.again and (options.verify_first or settings.verify_first):
        raise SettingsError(
            "--again makes one more source, --verify-first (ONBOARD_VERIFY_FIRST) none where one is: say one of the two"
        )
    if not options.file.is_file():
        raise UnusableFile("unreadable_file", f"There is no file {options.file}.", detail="no such file")
    started = time.time()
    with at_work(services, console, "run", workers=options.workers, no_workers=options.no_workers) as work:
        with work.interrupts.counted(), terminal.Progress(console, settings.requests_per_second or None) as progress:
            accepted = _accept(services, options, progress, work.interrupts, "run")
            batch = accepted.batch
            if batch.state in (BatchState.PAUSED, BatchState.HALTED):
                console.print(f"batch {batch.id} has this file, and stays {batch.state}")
            elif accepted.goes_on:
                console.print(f"batch {batch.id} goes on where it stopped")
            terminal.print_ignored(console, batch, options.lang or settings.lang)
            _say_what_is_left_alone(services, [batch.id], console)
            _say_when(services, batch.id, console)
            ending = _finish(services, [batch.id], work, progress)
        return _tell(services, options, console, batch.id, started, ending)


def go_on(
    services: Services, batch_id: int, console: Console, decide: Callable[[], str], command: str
) -> tuple[int, dict[str, Any]]:
    """Let a stopped batch go on, by whatever makes it (`decide` returns what to say), and work on it to its end.

    A fleet's batches go on with the fleet, and a watcher that is at work in this home takes the batch: both are only
    told. Everywhere else this command sends the rows, as `onboard run` does.
    """
    settings, started = services.settings, time.time()
    if settings.redis_url is not None:
        return _left_to(services, batch_id, console, decide(), "the fleet's workers send it")
    settings.require_key()
    with at_work(services, console, command, workers=None, no_workers=False) as work:
        if work.redis.watcher is not None:
            return _left_to(services, batch_id, console, decide(), "the watcher that is at work here sends it")
        with work.interrupts.counted(), terminal.Progress(console, settings.requests_per_second or None) as progress:
            console.print(decide())
            _say_what_is_left_alone(services, [batch_id], console)
            _say_when(services, batch_id, console)
            ending = _finish(services, [batch_id], work, progress)
        options = Options(file=Path(services.ledger.batches.get(batch_id).name))
        return _tell(services, options, console, batch_id, started, ending)


def _left_to(
    services: Services, batch_id: int, console: Console, decided: str, who_sends: str
) -> tuple[int, dict[str, Any]]:
    """Say that others send a batch from now on, and when."""
    batch = services.ledger.batches.get(batch_id)
    console.print(Text(f"{decided}: {who_sends}"))
    if not batch.is_worked_on:
        console.print("nobody is at work for it now: start `onboard worker`, or `onboard watch`", style="yellow")
    _say_when(services, batch_id, console)
    return 0, result(batch, services.ledger.queries.counts(batch_id), {})


def _say_what_is_left_alone(services: Services, batches: Sequence[int], console: Console) -> None:
    """Name the unfinished batches that nobody works on: this command leaves them alone."""
    others = [one for one in services.ledger.batches.unfinished() if one.id not in batches and not one.is_worked_on]
    for batch in others[:LEFT_ALONE]:
        books = services.ledger.queries.counts(batch.id)
        word = "approve" if batch.stop_code is StopCode.CANARY else "resume"
        console.print(
            Text(
                f"batch {batch.id} ({batch.name}) is {batch.state}, {books.open + books.unclear:,} of {books.records:,}"
                f" rows not done; it is left alone: onboard {word} {batch.id}"
            ),
            soft_wrap=True,
        )
    if len(others) > LEFT_ALONE:
        console.print("and more: onboard status")


def retry(
    services: Services, batch_id: int, console: Console, *, workers: int | None, no_workers: bool
) -> tuple[int, dict[str, Any]]:
    """Try again what may pass now, in the batch (look-ups) and in a child batch (refused and unsent rows)."""
    services.settings.require_key()
    parent = services.ledger.batches.get(batch_id)
    if parent.state not in (BatchState.FINISHED, BatchState.CANCELLED):
        raise LedgerError(f"batch {batch_id} is {parent.state}: only a finished or cancelled batch can be retried")
    if dropped := services.dropped(parent):
        raise LedgerError(f"{dropped}: it cannot be retried")
    require_account(services, parent)
    options = Options(file=Path(parent.name), verify_first=parent.verify)
    started = time.time()
    with (
        at_work(services, console, "retry", workers=workers, no_workers=no_workers) as work,
        tempfile.TemporaryDirectory() as folder,
    ):
        target = Path(folder) / f"retry-of-{batch_id}.csv"
        again = write_retry_file(services.ledger, batch_id, services.kept_file(parent), target)
        looked_up = (
            services.ledger.resolution.look_up_again(batch_id, who()) if parent.state is BatchState.FINISHED else 0
        )
        if not again and not looked_up:
            raise LedgerError(f"batch {batch_id} has no row that could be tried again")
        console.print(f"{again:,} rows are sent again, {looked_up:,} unclear rows are looked up again")
        batches = [batch_id] if looked_up else []
        with (
            work.interrupts.counted(),
            terminal.Progress(console, services.settings.requests_per_second or None) as progress,
        ):
            if again:
                child = replace(options, file=target)
                batches.append(
                    _accept(services, child, progress, work.interrupts, "retry", parent_id=batch_id).batch.id
                )
            _say_what_is_left_alone(services, batches, console)
            _say_when(services, batches[-1], console)
            ending = _finish(services, batches, work, progress)
        if ending is Ending.OVER and looked_up and again:
            report_builder.write(services, services.ledger.batches.get(batch_id))
        return _tell(services, options, console, batches[-1], started, ending)


def require_account(services: Services, batch: Batch) -> None:
    """Raise LedgerError if a batch belongs to another mode or address."""
    if batch.account != services.account:
        raise LedgerError(
            f"batch {batch.id} belongs to {batch.account}, and the settings say {services.account}:"
            " set ELEPAY_MODE, ELEPAY_BASE_URL and ELEPAY_SECRET_KEY to those of the batch"
        )


def who() -> str:
    """Return who types, for the ledger's history: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


@contextlib.contextmanager
def with_redis(services: Services, console: Console, command: str) -> Iterator[Redis]:
    """Have a Redis for the length of a command: the fleet's, or a private one (one command a folder at a time).

    A watcher that is at work in the folder is not waited for, but by another watcher: its Redis serves.
    """
    if services.settings.redis_url is not None:
        yield Redis()
        return
    lock = HomeLock(services.settings.home, command, f"{services.account.key} {services.ledger.place}")
    with lock.held(partial(_waiting, console)):
        if lock.watcher_redis is not None:
            services.use_redis(lock.watcher_redis)
            os.environ["REDIS_URL"] = lock.watcher_redis
            yield Redis(watcher=lock)
            return
        with EmbeddedRedis(services.settings.home) as server:
            os.environ["REDIS_URL"] = server.url
            services.use_redis(server.url)
            lock.say_where_redis_is(server.url)
            yield Redis(server)


@contextlib.contextmanager
def at_work(
    services: Services, console: Console, command: str, *, workers: int | None, no_workers: bool
) -> Iterator[AtWork]:
    """Have workers for the length of a command, and a Redis: the fleet's, or a private one (one command a folder).

    The workers start at once: while they load what they need, the file is read. Those of a watcher send what belongs to
    the fleet and to drop folders, those of any other command what it adds and takes. Beside a watcher in the same
    folder a command has none: that watcher's send.
    """
    settings = services.settings
    if no_workers and settings.redis_url is None:
        raise SettingsError("--no-workers needs a fleet: set REDIS_URL to the Redis that its workers use")
    terminal.print_place(console, services.account, services.ledger.place)
    services.ledger.require_memory()
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        redis = stack.enter_context(with_redis(services, console, command))
        if redis.watcher is not None:
            console.print("a watcher is at work in this folder: its workers send")
        services.ledger.version()  # its tables are there before workers look for them
        from worker import celery_app

        runner, processes = None, None
        if not no_workers and redis.watcher is None:
            if command != WATCH:
                runner = WorkerPool(services.ledger, settings.lease_seconds)
                stack.callback(runner.end)
                celery_app.use_queue_of(runner.number)
            elif redis.server is not None:
                services.ledger.dispatch.repeat()
            count = workers or settings.workers or os.cpu_count() or 1
            processes = Workers(settings.home, services.redis_url, count, services.ledger.scope.runner)
        celery_app.app.set_current()
        try:
            yield AtWork(interrupts, processes, runner, redis)
        finally:
            interrupts.raises = False
            if processes is not None:
                processes.stop(interrupts, settings.total_timeout_seconds + 15)


def _accept(
    services: Services,
    options: Options,
    progress: terminal.Progress,
    interrupts: Interrupts,
    command: str,
    *,
    parent_id: int | None = None,
) -> accept_batch.Accepted:
    """Bring the file into the ledger. Ctrl-C leaves nothing of it there."""
    return accept(
        services,
        options.file,
        interrupts,
        command,
        mapping=options.mapping,
        canary=options.canary,
        again=options.again,
        verify_first=options.verify_first,
        deadline_at=_deadline(options.until, services.settings.time_zone),
        parent_id=parent_id,
        show=progress.reading,
    )


def accept(
    services: Services,
    file: Path,
    interrupts: Interrupts,
    command: str,
    *,
    mapping: Path | None,
    canary: int | None,
    again: bool = False,
    verify_first: bool = False,
    deadline_at: float | None = None,
    parent_id: int | None = None,
    show: Callable[[int], None] = lambda _records: None,
) -> accept_batch.Accepted:
    """Bring a file into the ledger as this installation's settings say, for the `command` that was given it.

    An interrupt leaves nothing of it there (KeyboardInterrupt).
    """
    settings = services.settings

    def reading(records: int) -> None:
        if interrupts.count:
            raise KeyboardInterrupt
        show(records)

    rules = accept_batch.AcceptRules(
        intake=services.intake_rules(
            mapping=load_mapping(mapping) if mapping else {}, sendable=sendable_methods(services)
        ),
        slice_rows=settings.slice_rows,
        lease_seconds=settings.lease_seconds,
        again=again,
        own_spellings=settings.other_spelling == "own",
        verify=verify_first or settings.verify_first,
        canary_rows=settings.canary if canary is None else canary,
        brought_by=command,
        window=str(settings.window),
        deadline_at=deadline_at,
        max_invalid_share=settings.max_invalid_share,
        require_valid_row=settings.require_valid_row,
        refuse_finished_file=settings.refuse_finished_file,
        parent_id=parent_id,
        progress=reading,
    )
    return accept_batch.accept_file(file, ledger=services.ledger, files=services.files, rules=rules)


def _deadline(until: str | None, zone: str) -> float | None:
    try:
        return None if until is None else terminal.next_time(until, zone)
    except ValueError:
        raise SettingsError(f"--until takes a time of day such as 06:00, not {until!r}") from None


def _say_when(services: Services, batch_id: int, console: Console) -> None:
    """Say that the window is closed, and until when, if it is."""
    opens_at = report_builder.waits_for_next_night(services, services.ledger.batches.get(batch_id))
    if opens_at is not None:
        console.print(f"nothing is sent before {terminal.clock_time(opens_at, services.settings.time_zone)}: waiting")


def _finish(services: Services, batches: list[int], work: AtWork, progress: terminal.Progress) -> Ending:
    """Work until no batch moves any more by itself, the window closes, or a person interrupts, which pauses them.

    What the workers still hold then is given back; after work that came to its end they go by themselves.
    """
    settings, workers, interrupts = services.settings, work.workers, work.interrupts
    if all(batch_lifecycle.is_over(services.ledger, batch_id) for batch_id in batches):
        return Ending.OVER
    ending = Ending.INTERRUPTED
    notice = LookUpNotice(services, progress)
    try:
        ending = watch_batches(
            services.ledger,
            batches,
            settings,
            workers=workers,
            runner=work.runner,
            interrupts=interrupts,
            show=lambda: _show(services, batches, progress, notice),
            left=lambda: work.left,
        )
        if ending is Ending.INTERRUPTED:
            _interrupt(services, batches, progress)
    finally:
        if workers is not None and ending is Ending.OVER:
            workers.drain()
        elif workers is not None:
            workers.stop(interrupts, settings.total_timeout_seconds + 15)
        batch_lifecycle.reap(
            services.ledger,
            look_up_delay_seconds=settings.look_up_delay_seconds,
        )
    return ending


def _interrupt(services: Services, batches: list[int], progress: terminal.Progress) -> None:
    """Say what Ctrl-C does, and pause the batches; with a ledger that is out of reach they count as interrupted."""
    progress.announce(
        "stopping: nothing more is sent, and the answers under way are awaited"
        f" ({services.settings.total_timeout_seconds:g} s at most)."
        " Ctrl-C again ends at once; nothing is lost either way."
    )
    services.ledger.hurry()
    for batch_id in batches:
        try:
            batch_lifecycle.interrupt(services.ledger, batch_id, who())
        except LedgerError as error:
            log.warning("batch could not be paused", batch=batch_id, why=str(error))


def sendable_methods(services: Services) -> frozenset[str] | None:
    """Ask elepay which payment methods of this key can hold a source (docs/elepay-api.md §3.3); None: it does not say.

    Its answer holds for METHODS_SECONDS. Raises Halted if elepay does not take the key: nothing could be sent with it.
    """
    if services.sendable_methods is not None and time.monotonic() < services.sendable_methods[0] + METHODS_SECONDS:
        return services.sendable_methods[1]
    methods = _ask_for_methods(services)
    services.sendable_methods = None if methods is None else (time.monotonic(), methods)
    return methods


def _ask_for_methods(services: Services) -> frozenset[str] | None:
    try:
        methods: list[PaymentMethod] = retrying_look_up()(services.api.list_payment_methods)
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


def _waiting(console: Console, pid: str, command: str) -> None:
    console.print(f"`onboard {command}` (process {pid}) is at work in this folder; waiting for its end")


class LookUpNotice:
    """Says what a run still waits for when nothing is left but rows in doubt, and until when."""

    def __init__(self, services: Services, progress: terminal.Progress) -> None:
        self._ours, self._progress = services, progress
        self._said_until = 0.0

    def sentence(self, batch_id: int, count: Mapping[RowState, int]) -> str:
        """Return the sentence for the live display, or ""; without a display it is printed whenever it changes much."""
        if not count.get(RowState.UNCLEAR) or not OPEN_STATES.isdisjoint(count):
            return ""
        to_come = self._ours.ledger.queries.look_ups_to_come(batch_id)
        if to_come is None or to_come.last_at < self._ours.ledger.now() + WORTH_SAYING_SECONDS:
            return ""
        sentence = terminal.look_ups_to_come(batch_id, to_come, self._ours.settings.time_zone)
        if to_come.last_at > self._said_until + WORTH_SAYING_SECONDS:
            self._said_until = to_come.last_at
            self._progress.say(sentence)
        return sentence


def _show(services: Services, batches: list[int], progress: terminal.Progress, notice: LookUpNotice) -> None:
    rate, note = None, ""
    try:
        current = services.rate_limit.current()
        rate = current.rate
        if current.rate < 0.95 * current.limit:
            note = f"elepay throttled: {current.rate:,.1f} of {current.limit:,.0f} requests/s for now"
    except RateLimitUnavailable:
        note = "Redis does not answer; nothing is sent"
    counts = {batch_id: services.ledger.queries.count_states(batch_id) for batch_id in batches}
    notes = [note, *(notice.sentence(batch_id, count) for batch_id, count in counts.items())]
    progress.show(counts[batches[-1]], rate, "\n".join(filter(None, notes)))


def _tell(
    services: Services, options: Options, console: Console, batch_id: int, started: float, ending: Ending
) -> tuple[int, dict[str, Any]]:
    """Print verdict, books and reports; return exit code and JSON."""
    batch, books = services.ledger.batches.get(batch_id), services.ledger.queries.counts(batch_id)
    seconds = time.time() - started
    paths: dict[str, Path] = {}
    failed = ""
    if ending is not Ending.INTERRUPTED:
        try:
            paths = report_builder.write(
                services,
                batch,
                folder=options.reports,
                lang=options.lang,
                excel_safe=options.excel_safe,
                commands=NO_COMMANDS if REHEARSAL in os.environ else None,
            )
        except OSError as error:
            failed = f"the reports could not be written ({error.strerror}); make room, then: onboard report {batch_id}"
    console.print()
    if REHEARSAL in os.environ and ending is Ending.INTERRUPTED:
        batch = replace(batch, state_reason="interrupted; the same command begins anew")
    terminal.print_books(console, batch, books, seconds=seconds)
    if waits := report_builder.waits_for_next_night(services, batch):
        rest = f"{books.open:,} rows wait" if not books.unclear else f"{books.open:,} rows, and look-ups, wait"
        console.print(f"{rest} for the next night ({terminal.clock_time(waits, services.settings.time_zone)})")
    if failed:
        console.print(failed, style="red")
    elif paths:
        console.print("reports:")
        terminal.print_reports(console, paths)
    if ending is Ending.LEFT:
        console.print(f"the watcher has ended; the next one, or the same command, goes on with batch {batch_id}")
    told = {**result(batch, books, paths, seconds), **({"goes_on_at": waits} if waits else {})}
    return max(exit_code(batch, books), 1 if failed else 0), {**told, **({"error": failed} if failed else {})}


def exit_code(batch: Batch, books: RowCounts) -> int:
    """Return the exit code that a batch deserves (see `worker/cli.py`)."""
    if not books.balance:
        return 1
    if batch.state is not BatchState.FINISHED:
        return 3
    return 1 if books.need_a_person else 0


def result(batch: Batch, books: RowCounts, paths: dict[str, Path], seconds: float | None = None) -> dict[str, Any]:
    """Return what `--json` prints about a batch."""
    return {
        "batch": batch.id,
        "file": batch.name,
        "state": batch.state,
        "state_reason": batch.state_reason,
        "verdict": terminal.verdict(batch, books),
        "books": {
            "records": books.records,
            **{name: getattr(books, name) for name in ("created", "skipped", "invalid", "refused", "unclear", "open")},
            "balance": books.balance,
        },
        "warnings": [
            {"code": code, "column": column, "count": count, "line": line}
            for code, column, count, line, _ in batch.warnings
        ],
        "reports": {name: str(path) for name, path in paths.items()},
        **({} if seconds is None else {"seconds": round(seconds, 3)}),
    }
