"""Runs a batch from this process: server, workers, feeding, watching, stopping."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import FrameType

import structlog

from tasks import celery_tasks, onboarding
from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.models import RowState
from tasks.settings import Settings
from tasks.window import Window

log = structlog.get_logger("onboard")

#: The environment variable by which a worker knows whose child it is; it ends when that process does.
PARENT = "_ONBOARD_PARENT"
#: The environment variable by which a run knows that it is a rehearsal: it tells nobody to type anything afterwards.
REHEARSAL = "_ONBOARD_REHEARSAL"
#: A worker that dies is started again, at most so often within RESTARTS_SECONDS.
RESTARTS = 20
RESTARTS_SECONDS = 3600.0
#: How often the ledger is swept and rung from here, in seconds.
TICK_SECONDS = 0.25


class Ending(Enum):
    """How the watching of batches ended."""

    OVER = "over"  #: no batch moves any more by itself
    CLOSED = "closed"  #: the window has closed; the rest waits for its next opening
    INTERRUPTED = "interrupted"  #: by a person


class Interrupts:
    """Ctrl-C (and SIGTERM): raises KeyboardInterrupt, or is counted where the work must come to an orderly stop.

    Of those counted, the first asks for an orderly stop, the second for an immediate one.
    """

    def __init__(self) -> None:
        self.count = 0
        self.raises = True

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Only count inside of the block."""
        self.raises = False
        try:
            yield
        finally:
            self.raises = True

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.raises:
            raise KeyboardInterrupt


class Workers:
    """The worker processes of this command."""

    def __init__(self, settings: Settings, redis_url: str, count: int) -> None:
        self._settings, self._redis_url = settings, redis_url
        self._logs = settings.home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._processes = [self._start(number) for number in range(1, count + 1)]
        self._restarts: deque[float] = deque(maxlen=RESTARTS)  # when, by the monotonic clock
        self._retired = False

    def __len__(self) -> int:
        return len(self._processes)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "REDIS_URL": self._redis_url, PARENT: str(os.getpid())}
        with (self._logs / f"worker-{number}.log").open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own program and arguments
                [sys.executable, "-P", "-m", "worker.cli", "worker", "--name", f"{os.getpid()}-{number}"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is ours to handle
            )

    def look_after(self) -> None:
        """Start a worker again that has died. Raises LedgerError when they keep dying."""
        for at, process in enumerate(self._processes):
            if process.poll() is None:
                continue
            now = time.monotonic()
            if len(self._restarts) == RESTARTS and now - self._restarts[0] < RESTARTS_SECONDS:
                raise LedgerError(f"workers keep dying; the last lines of {self._logs} say why")
            self._restarts.append(now)
            log.warning("worker process ended, starting it again", pid=process.pid, code=process.returncode)
            self._processes[at] = self._start(at + 1)

    def retire(self) -> None:
        """Ask every worker, once, to finish what is under way."""
        if not self._retired:
            self._retired = True
            for process in self._processes:
                process.terminate()

    def stop(self, interrupts: Interrupts, seconds: float) -> None:
        """Retire them and wait; kill what is left after `seconds` or at one more Ctrl-C."""
        self.retire()
        ends, asked = time.monotonic() + seconds, interrupts.count
        while any(process.poll() is None for process in self._processes):
            if time.monotonic() > ends or interrupts.count > max(asked, 1):
                for process in self._processes:
                    process.kill()
                break
            time.sleep(0.02)
        for process in self._processes:
            process.wait()


@contextlib.contextmanager
def alone(lock_path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder's lock, after waiting for another run that has it (`on_wait` is told its process number).

    Two private servers would mean two rate limits and so twice the allowance.
    """
    lock_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with lock_path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            on_wait(file.read().strip())
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def sweep_and_ring(ledger: Ledger, settings: Settings) -> None:
    """Take back what dead workers hold, close what is done, and send messages for slices that are due."""
    sweep(ledger, settings)
    onboarding.ring(ledger, celery_tasks.send, settings.window)


def sweep(ledger: Ledger, settings: Settings) -> None:
    """Take back what dead workers hold, and close what is done."""
    onboarding.sweep(
        ledger,
        look_up_delay_seconds=settings.look_up_delay_seconds,
    )


def watch_batches(
    ledger: Ledger,
    batches: Sequence[int],
    settings: Settings,
    *,
    workers: Workers | None,
    interrupts: Interrupts,
    show: Callable[[], None],
) -> Ending:
    """Ring, sweep and show until no batch moves any more by itself, the window closes, or a person interrupts.

    A window that is closed at first is waited for.
    """
    from worker.celery_app import BrokerUnreachable

    closes_at: float | None = None
    troubled = ""
    while not interrupts.count:
        try:
            if closes_at is None:
                closes_at = _last_closing(ledger, batches, settings.window)
            sweep(ledger, settings)
            if ledger.now() < closes_at:
                onboarding.ring(ledger, celery_tasks.send, settings.window)
            if all(onboarding.is_over(ledger, batch_id) for batch_id in batches):
                return Ending.OVER
            if ledger.now() >= closes_at and not any(_is_held(ledger, batch_id) for batch_id in batches):
                return Ending.CLOSED
            show()
            troubled = ""
        except (LedgerError, BrokerUnreachable, OSError) as error:
            if str(error) != troubled:
                troubled = str(error)
                log.warning("waiting", why=troubled)
        if workers is not None:
            workers.look_after()
        time.sleep(TICK_SECONDS)
    return Ending.INTERRUPTED


def _last_closing(ledger: Ledger, batches: Sequence[int], window: Window) -> float:
    """Return when the last of these batches stops being sent, for tonight or for the night to come."""
    now = ledger.now()
    return max(window.span_with(ledger.window_of(batch_id), now).closes_at for batch_id in batches)


def _is_held(ledger: Ledger, batch_id: int) -> bool:
    count = ledger.count_states(batch_id)
    return bool(count.get(RowState.CLAIMED) or count.get(RowState.SENDING))
