"""One run of ours or of a peer on a file, against a simulator of its own.

What counts is the time from the start (of the process; for queues of the first message, their workers being up
already) to the arrival of the last createSource, by the simulator's clock. A run in which the simulator does not hold
exactly one source a row is no run.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.watching import processor_seconds
from tests.factories import KEY, ROOT, MeasuredCommand, Simulator, wait_until, write_csv
from worker.embedded_redis import EmbeddedRedis

LONGEST_SECONDS = 600


class Run(NamedTuple):
    """What one run took."""

    rows: int
    seconds: float  #: from the start to the last source
    processor_seconds: float  #: user and system, of every process but the simulator (and PostgreSQL)

    @property
    def pace(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def processor_ms(self) -> float:
        """Milliseconds of processor a row."""
        return self.processor_seconds * 1000 / self.rows


#: Sends a file of so many rows to a simulator and tells what it took.
Contestant = Callable[[Path, int, Simulator], Run]


def as_users_run_it(folder: Path, simulator: Simulator | None = None, **settings: Any) -> MeasuredCommand:
    """Return the command with its default settings, without a limit unless given."""
    command = MeasuredCommand(folder, simulator, **settings)
    for name in ("ONBOARD_LOOK_UP_DELAY_SECONDS", "ONBOARD_LIST_LAG_SECONDS"):
        del command.environment[name]  # the tests are in a hurry
    return command


def ours(*options: object, **settings: Any) -> Contestant:
    """`onboard run`: from the file to its reports, ledger and all; the clock stops at the last source."""

    def run(file: Path, rows: int, simulator: Simulator) -> Run:
        with tempfile.TemporaryDirectory() as folder:
            command = as_users_run_it(Path(folder), simulator, **settings)
            before, started = processor_seconds(), time.time()
            done = command.json("run", file, *options, timeout=LONGEST_SECONDS)
            assert done["exit"] == 0, done["stderr"]
            return Run(rows, last_source(simulator, rows) - started, processor_seconds() - before)

    return run


def script(module: str) -> Contestant:
    """Run a peer that is one process."""

    def run(file: Path, rows: int, simulator: Simulator) -> Run:
        before, started = processor_seconds(), time.time()
        _python("-m", module, str(file), environment=_environment(simulator))
        return Run(rows, last_source(simulator, rows) - started, processor_seconds() - before)

    return run


def queue(module: str, *worker: str, ready: str, processes: int = 1) -> Contestant:
    """Run a peer whose workers are up (they say `ready`, each) before its first message is sent."""

    def run(file: Path, rows: int, simulator: Simulator) -> Run:
        with tempfile.TemporaryDirectory() as name, EmbeddedRedis(Path(name)) as server:
            environment = {**_environment(simulator), "REDIS_URL": server.url}
            valkey = int((Path(name) / "valkey.pid").read_text().split()[0])
            with _workers(worker, Path(name) / "log", environment, ready, processes) as workers:
                before = processor_seconds(workers, valkey)
                started = float(_python("-m", module, str(file), environment=environment))
                wait_until(lambda: _created(simulator) >= rows, LONGEST_SECONDS, f"{rows} rows by {module}")
                after = processor_seconds(workers, valkey)
            return Run(rows, last_source(simulator, rows) - started, after - before)

    return run


OURS = "onboard run"
PANDAS, AIOHTTP = "pandas, 50 threads", "aiohttp, 200"
CELERY, CELERY_THREADS, DRAMATIQ = "Celery, prefork 8", "Celery, 50 threads", "Dramatiq"

PEERS: dict[str, Contestant] = {
    PANDAS: script("benchmarks.peers.threads"),
    AIOHTTP: script("benchmarks.peers.aiohttp_rows"),
    CELERY: queue(
        "benchmarks.peers.celery_rows",
        *("celery", "-A", "benchmarks.peers.celery_rows", "worker", "--concurrency", "8", "--loglevel", "INFO"),
        ready="ready.",
    ),
    CELERY_THREADS: queue(
        "benchmarks.peers.celery_threads",
        *("celery", "-A", "benchmarks.peers.celery_threads", "worker", "--pool", "threads", "--concurrency", "50"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ready="ready.",
    ),
    DRAMATIQ: queue(
        "benchmarks.peers.dramatiq_rows",
        *("dramatiq", "benchmarks.peers.dramatiq_rows"),
        ready="Worker process is ready",
        processes=os.cpu_count() or 1,
    ),
}


def clean_file(folder: Path, rows: int) -> Path:
    """Return a file of so many rows; the same number gives the same file."""
    file = folder / f"{rows}.csv"
    return file if file.exists() else write_csv(file, rows)


def last_source(simulator: Simulator, rows: int) -> float:
    """Return when the last createSource arrived, after making sure that each row has its one source."""
    counted = simulator.statistics()
    assert counted["created"] == counted["references"]["total"] == rows, counted["references"]["total"]
    return float(counted["last_create_at"])


def _created(simulator: Simulator) -> int:
    time.sleep(0.1)  # asking is not free: the simulator shares the machine
    return int(simulator.statistics()["created"])


def _environment(simulator: Simulator) -> dict[str, str]:
    return {**os.environ, "ELEPAY_BASE_URL": simulator.url, "ELEPAY_SECRET_KEY": KEY}


def _python(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=LONGEST_SECONDS,
    )
    return done.stdout


@contextlib.contextmanager
def _workers(
    arguments: tuple[str, ...], log: Path, environment: dict[str, str], ready: str, processes: int
) -> Iterator[int]:
    """Have workers, in a session of their own, which is what is yielded."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: log.read_text().count(ready) >= processes, 30, "the workers' start")
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)
