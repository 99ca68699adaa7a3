"""The worker processes of a command, the command as the ledger knows it, and the lock of a home folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import structlog

from tasks import celery_tasks, process_identity
from tasks.errors import LedgerError, OnboardingError
from tasks.ledger import WATCH, Ledger
from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY
from tasks.operations import batch_lifecycle
from tasks.settings import Settings
from worker.interrupts import Interrupts

log = structlog.get_logger("onboard")

#: Environment variable of a worker: the process that started it. The worker ends when that process does.
PARENT = "_ONBOARD_PARENT"
#: Environment variable of a worker: the command that it sends for (`Ledger.runner`).
RUNNER = "_ONBOARD_RUNNER"
#: Environment variable of a rehearsal's run, which then suggests no commands.
REHEARSAL = "_ONBOARD_REHEARSAL"
#: A worker that dies is restarted, at most so often within RESTARTS_SECONDS.
RESTARTS = 20
RESTARTS_SECONDS = 3600.0
#: The command ends when so many workers have run out of memory.
OUT_OF_MEMORY_TIMES = 3
#: How often the ledger is reaped and dispatched from here, in seconds.
TICK_SECONDS = 0.25
#: How often a command tries to take the batches that it waits for, in seconds.
TAKE_SECONDS = 1.0
#: How often a command that waits for the home folder tries to lock it, in seconds.
LOCK_SECONDS = 0.2


class Workers:
    """The worker processes of this command."""

    def __init__(self, home: Path, redis_url: str, count: int, runner: int | None = None) -> None:
        self._redis_url, self._runner = redis_url, runner
        self._logs = home / "logs"
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._processes = [self._start(number) for number in range(1, count + 1)]
        self._restarts: deque[float] = deque(maxlen=RESTARTS)  # when, by the monotonic clock
        self._out_of_memory = 0  # how many workers ended because of it
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._processes)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "REDIS_URL": self._redis_url, PARENT: str(os.getpid())}
        if self._runner is not None:
            environment[RUNNER] = str(self._runner)
        with (self._logs / f"worker-{number}.log").open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own program and arguments
                [sys.executable, "-P", "-m", "worker.cli", "worker", "--name", f"{os.getpid()}-{number}"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # so that Ctrl-C reaches this process only
            )

    def look_after(self) -> None:
        """Restart workers that have died. Raises OnboardingError when they keep dying."""
        for at, process in enumerate(self._processes):
            if process.poll() is None:
                continue
            now = time.monotonic()
            if len(self._restarts) == RESTARTS and now - self._restarts[0] < RESTARTS_SECONDS:
                raise LedgerError("workers keep dying; the last lines of {logs} say why", logs=self._logs)
            self._out_of_memory += process.returncode == OUT_OF_MEMORY
            if self._out_of_memory == OUT_OF_MEMORY_TIMES:
                raise OnboardingError("the workers have {why}", why=NO_MEMORY)
            self._restarts.append(now)
            log.warning("worker process ended, starting it again", pid=process.pid, code=process.returncode)
            self._processes[at] = self._start(at + 1)

    def drain(self) -> None:
        """Ask every worker, once, to finish what is under way."""
        if not self._is_draining:
            self._is_draining = True
            for process in self._processes:
                process.terminate()

    def stop(self, interrupts: Interrupts, seconds: float) -> None:
        """Drain them and wait; kill those that are left after `seconds` or at one more Ctrl-C."""
        self.drain()
        ends, asked = time.monotonic() + seconds, interrupts.count
        while any(process.poll() is None for process in self._processes):
            if time.monotonic() > ends or interrupts.count > max(asked, 1):
                for process in self._processes:
                    process.kill()
                break
            time.sleep(0.02)
        for process in self._processes:
            process.wait()


class WorkerPool:
    """The running command as the ledger knows it; its workers send the batches that it has taken."""

    def __init__(self, ledger: Ledger, lease_seconds: float) -> None:
        self._ledger, self._lease_seconds = ledger, lease_seconds
        self._worker = self._register()
        self._renewed_at = self._taken_at = time.monotonic()

    def _register(self) -> int:
        pid = os.getpid()
        return self._ledger.workers.add_command(
            process_identity.host(), pid, process_identity.started(pid), self._lease_seconds
        )

    @property
    def number(self) -> int | None:
        """The number by which its workers and batches know it."""
        return self._ledger.scope.runner

    def keep(self, batches: Sequence[int]) -> None:
        """Renew the lease, and take those of these batches that nobody works on; to be called repeatedly.

        A command that was suspended for longer than its lease registers anew, under the same number.
        """
        now = time.monotonic()
        if now - self._renewed_at >= self._lease_seconds / 4:
            self._renewed_at = now
            if not self._ledger.workers.renew(self._worker, self._lease_seconds):
                self._worker = self._register()
        if now - self._taken_at >= TAKE_SECONDS:
            self._taken_at = now
            for batch_id in batches:
                if self._ledger.batches.get(batch_id).runner != self.number:
                    self._ledger.lifecycle.take(batch_id)

    def end(self) -> None:
        """End this command in the ledger; its batches that still run are interrupted."""
        with contextlib.suppress(LedgerError):
            self._ledger.workers.end(self._worker)


class _Holder(NamedTuple):
    """What the file of a home's lock says of the command that holds it."""

    pid: str
    command: str
    works_for: str
    redis_url: str


class HomeLock:
    """The lock of a home folder: at most one command with a private Redis works in it, because two have two limits.

    The file names its holder: process number, command, account and ledger, and the address of its Redis once that runs.
    """

    def __init__(self, folder: Path, command: str, works_for: str) -> None:
        self._path = folder / "run.lock"
        self._command, self._works_for = command, works_for
        self.watcher_redis: str | None = None  #: address of the Redis of a watcher that works here

    @contextlib.contextmanager
    def held(self, on_wait: Callable[[str, str], None]) -> Iterator[None]:
        """Hold the lock, after waiting for another command that holds it (`on_wait`: its process number and name).

        Only a watcher waits for a watcher of the same account and ledger; any other command sets `watcher_redis`, and
        continues without the lock.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._path.open("a+") as file:
            waiting = False
            while not _lock(file):
                holder = self._read(file)
                if redis_url := self._shared_redis(holder):
                    self.watcher_redis = redis_url
                    break
                if not self._shares(holder) and not waiting:
                    waiting = True
                    on_wait(holder.pid, holder.command)
                time.sleep(LOCK_SECONDS)
            if self.watcher_redis is not None:
                yield
                return
            self._write(file)
            try:
                yield
            finally:
                file.truncate(0)

    def find_watcher(self) -> str:
        """Return the address of the Redis of a watcher that works here; "" without one. Nothing is waited for."""
        if not self._path.exists():
            return ""
        with self._path.open("a+") as file:
            return "" if _lock(file) else self._shared_redis(self._read(file))

    @staticmethod
    def _read(file: IO[str]) -> _Holder:
        file.seek(0)
        return _Holder(*(*file.read().splitlines(), "", "", "", "")[:4])

    def _shares(self, holder: _Holder) -> bool:
        """Return whether the holder is a watcher that works for this command, too."""
        return holder.command == WATCH and self._command != WATCH and holder.works_for == self._works_for

    def _shared_redis(self, holder: _Holder) -> str:
        ready = self._shares(holder) and holder.redis_url and not process_identity.is_dead(int(holder.pid), "")
        return holder.redis_url if ready else ""

    def say_where_redis_is(self, url: str) -> None:
        """Publish the address of this command's Redis to the other commands; this one holds the lock."""
        with self._path.open("r+") as file:
            self._write(file, url)

    def _write(self, file: IO[str], redis_url: str = "") -> None:
        file.truncate(0)
        file.write(f"{os.getpid()}\n{self._command}\n{self._works_for}\n{redis_url}\n")
        file.flush()

    @property
    def watcher_is_gone(self) -> bool:
        """Whether the lock is free."""
        with self._path.open("a+") as file:
            return _lock(file)  # closing the file releases it


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def reap_and_dispatch(ledger: Ledger, settings: Settings) -> None:
    """Recover rows of dead workers, close batches that are done, and send messages for slices that are due."""
    reap(ledger, settings)
    batch_lifecycle.dispatch(ledger, celery_tasks.send, settings.window)


def reap(ledger: Ledger, settings: Settings) -> None:
    """Recover rows of dead workers, and close batches that are done."""
    batch_lifecycle.reap(
        ledger,
        look_up_delay_seconds=settings.look_up_delay_seconds,
    )
