"""Measures how long the console's pages take on a SQLite ledger with many rows, and what open consoles cost a run.

    .venv/bin/python benchmarks/console.py [--quick] [--only quiet sending pace]

Three parts, on one ledger whose batches have ended (3 of 100 rows refused or unclear, 2 invalid):

quiet    every page in turn, with nothing beside it
sending  the same while `onboard run` sends to the simulator as fast as it can, and the pages of its batch besides
pace     what that run sends a second alone, and with ten consoles open: in turns of some seconds, first without, then
         with, then with, then without, so that what changes slowly counts on both sides alike; the median of the ratios

The console is a process of its own, asked over loopback; between two rounds some of what it keeps for a moment has run
out. Of a hundred answers the median and the worst count; the very first stands beside them. elepay is not asked. An
open console asks as `console.js` does, more and more seldom: half of them for the batch that runs, half for what goes
on tonight; they were opened a minute ago. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from reported import Reported  # noqa: E402 - the tests are no package

from benchmarks.console_beside import Sending, opened  # noqa: E402
from benchmarks.files import settle  # noqa: E402
from tests.factories import Simulator  # noqa: E402

#: What a page may take, and which share of its pace a run may lose.
MEDIAN_MILLISECONDS, WORST_MILLISECONDS, MOST_LOSS = 150.0, 400.0, 0.05
PARTS = ("quiet", "sending", "pace")
CONSOLES = 10
_ROUND_SECONDS = 0.3  #: between two rounds
_SETTLES_SECONDS = 1.0  #: until what the turn before has left is done, and the first pages are there
#: When the rows left, two hundred a second, as a run notes it.
_SENT = """
update rows set sent_at = created_at + record / 200.0,
    ended_at = case when rows.state = 'unclear' then created_at + record / 200.0 end
from batches where batches.id = batch_id and attempts > 0
"""


class Answers(NamedTuple):
    """How long the answers of a page took, in milliseconds."""

    page: str
    took: list[float]  #: the very first before all others

    def __str__(self) -> str:
        first, *took = self.took
        said = f"{self.page:24} median {statistics.median(took):6.1f}  worst {max(took):6.1f}  first {first:7.1f}"
        return f"{said}  {'ok' if self.is_good else 'MISSED'}"

    @property
    def is_good(self) -> bool:
        """Whether it keeps both bars."""
        took = self.took[1:]
        return statistics.median(took) <= MEDIAN_MILLISECONDS and max(took) <= WORST_MILLISECONDS


class Size(NamedTuple):
    """How much is measured."""

    rows: int = 1_000_000
    batches: int = 10
    times: int = 100
    turns: int = 20  #: without and with consoles, together
    open_for: float = 60.0  #: seconds since the consoles of a turn were opened: they ask more and more seldom
    seconds: float = 6.0  #: of a turn; a console that has just been opened asks again after three and after five
    sent: int = 900_000  #: rows of a file that is sent meanwhile


QUICK = Size(rows=60_000, batches=3, times=12, turns=4, seconds=6.0, sent=60_000)


def serve(folder: Path, url: str) -> None:
    """Serve the installation in a folder, and print where, until standard input ends."""
    from console_served import APPROVER, Served

    with Served(Reported(folder, ELEPAY_BASE_URL=url).ours, APPROVER) as served:
        print(served.url, flush=True)
        sys.stdin.read()


class Console(NamedTuple):
    """A console that is a process of its own."""

    address: str
    pid: int

    @property
    def processor_seconds(self) -> float:
        """Return what it took until now, as the kernel counts it."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(folder: Path, url: str) -> Iterator[Console]:
    """Serve the installation in a process of its own while the block lasts."""
    words = [sys.executable, __file__, "--serve", str(folder), "--url", url]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as console:
        assert console.stdout
        yield Console(console.stdout.readline().strip(), console.pid)
        console.communicate()


def fill(folder: Path, url: str, size: Size) -> None:
    """Make a ledger with so many rows in so many batches that have ended."""
    made = Reported(folder, ELEPAY_BASE_URL=url)
    for number in range(size.batches):
        file = folder / f"night-{number}.csv"
        generate = [sys.executable, str(ROOT / "sample_data" / "generate.py"), "--rows", str(size.rows // size.batches)]
        generate += ["--columns", "10", "--invalid", "0.02", "--seed", str(number), "--output", str(file)]
        subprocess.run(generate, check=True)
        made.accept_path(file)
        file.unlink()
    made.close()
    settle(folder)
    with sqlite3.connect(folder / "home" / "ledger.db") as ledger:
        ledger.execute(_SENT)
    ledger.close()


def pages(folder: Path, url: str, number: int) -> dict[str, str]:
    """Name -> address of what is measured, with the rows that a batch has."""
    made = Reported(folder, ELEPAY_BASE_URL=url)
    batch = made.ledger.batches.get(number)
    customer = made.ledger.resolution.customer_of(batch.id, batch.records - 7)
    unclear = made.ledger.resolution.unclear_rows(batch.id, 1)[0]
    made.close()
    at = f"/batches/{batch.id}"
    return {
        "tonight": "/",
        "batches": "/batches",
        "batch": at,
        "pace": f"{at}/pace",
        "rows, the first": f"{at}/rows?state=created",
        "rows, the last": f"{at}/rows?state=created&after={batch.records - 100}",
        "invalid rows, the first": f"{at}/rows?state=invalid",
        "invalid rows, the last": f"{at}/rows?state=invalid&after={batch.records - 1000}",
        "rows of a cause": f"{at}/rows?state=refused&code=U003005&open=1",
        "row, in the middle": f"{at}/lines/{batch.records // 2}",
        "find": f"/find?wanted={customer}",
        "to do": "/open",
        "unclear rows": "/decide",
        "unclear rows, the last": f"/decide?after={batch.id}:{unclear.record}",
        "unclear row": f"/decide/{batch.id}/{unclear.line}",
        "upload": "/upload",
        "me": "/me",
    }


def pages_of_running(batch: int) -> dict[str, str]:
    """Name -> address of the pages of a batch that is being sent."""
    at = f"/batches/{batch}"
    return {
        "running batch": at,
        "its pace": f"{at}/pace",
        "its open rows": f"{at}/rows?state=open",
        "its created rows": f"{at}/rows?state=created",
    }


def measure(address: str, asked: Callable[[], dict[str, str]], times: int) -> list[Answers]:
    """Ask for every page so many times, in turn."""
    found: dict[str, list[float]] = {}
    for _ in range(times + 1):
        for name, path in asked().items():
            found.setdefault(name, []).append(milliseconds(address, path))
        time.sleep(_ROUND_SECONDS)
    return [Answers(name, took) for name, took in found.items()]


def milliseconds(address: str, path: str) -> float:
    """Return how long a page takes to be there."""
    connection = HTTPConnection(address.removeprefix("http://"), timeout=600)
    with contextlib.closing(connection):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took = 1000 * (time.perf_counter() - began)
    if answer.status != 200:
        raise RuntimeError(f"{path}: HTTP {answer.status}")
    return took


def quiet(folder: Path, simulator: Simulator, size: Size) -> bool:
    """Measure the pages with nothing beside them."""
    asked = pages(folder, simulator.url, size.batches)
    with served(folder, simulator.url) as console:
        return said(measure(console.address, lambda: asked, size.times))


def sending(folder: Path, simulator: Simulator, size: Size) -> bool:
    """Measure the pages while a run sends."""
    asked = pages(folder, simulator.url, size.batches)
    with served(folder, simulator.url) as console, Sending(folder, simulator, size.sent) as run:
        began, before = time.perf_counter(), run.created()
        found = measure(console.address, lambda: {**asked, **pages_of_running(run.batch)}, size.times)
        pace = (run.created() - before) / (time.perf_counter() - began)
    print(f"meanwhile {pace:,.0f} rows a second were sent")
    return said(found)


def pace(folder: Path, simulator: Simulator, size: Size) -> bool:
    """Measure what a run loses to open consoles."""
    ratios, shares = [], []
    with served(folder, simulator.url) as console, Sending(folder, simulator, size.sent) as run:
        for number in range(size.turns // 2):
            order = (0, CONSOLES) if number % 2 == 0 else (CONSOLES, 0)
            found = {consoles: turn(run, console, consoles, size) for consoles in order}
            alone, beside = found[0], found[CONSOLES]
            ratios.append(beside.pace / alone.pace)
            shares.append(beside.processor)
            print(f"alone {alone.pace:7,.0f} rows/s, with consoles {beside.pace:7,.0f}: {ratios[-1]:.3f}", flush=True)
    median, quarters = statistics.median(ratios), statistics.quantiles(ratios, n=4)
    is_good = median >= 1 - MOST_LOSS
    print(
        f"with {CONSOLES} consoles {median:.3f} of the pace, the median of {len(ratios)} (half of them between"
        f" {quarters[0]:.3f} and {quarters[2]:.3f}), and the console takes {statistics.median(shares):.0%} of one"
        f" processor  {'ok' if is_good else 'MISSED'}"
    )
    return is_good


class Turn(NamedTuple):
    """Some seconds in which one batch was sent without a break."""

    pace: float  #: rows a second
    processor: float  #: which share of one processor the console took


def turn(run: Sending, console: Console, consoles: int, size: Size) -> Turn:
    """Return what happens in some seconds with so many consoles open at the batch that is sent."""
    while True:
        batch = run.batch
        with opened(console.address, consoles, batch, size.open_for):
            time.sleep(_SETTLES_SECONDS)
            began, before, processor = time.perf_counter(), run.created(), console.processor_seconds
            time.sleep(size.seconds)
            took = time.perf_counter() - began
            found = Turn((run.created() - before) / took, (console.processor_seconds - processor) / took)
        if run.batch == batch and run.is_sending:
            return found


def said(found: Sequence[Answers]) -> bool:
    """Print a line for each page; return whether all keep the bars."""
    print(*found, sep="\n", flush=True)
    return all(one.is_good for one in found)


def main() -> int:
    """Measure what is asked for; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute, on a small ledger")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    for name in ("rows", "batches", "times", "turns"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--open-for", type=float, help="seconds since the consoles were opened; 0: this moment")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.url)
        return 0
    chosen = {name: number for name in Size._fields if (number := getattr(given, name, None)) is not None}
    size = (QUICK if given.quick else Size())._replace(**chosen)
    parts = {"quiet": quiet, "sending": sending, "pace": pace}
    good = []
    with tempfile.TemporaryDirectory() as name, Simulator() as simulator:
        folder = Path(name)
        fill(folder, simulator.url, size)
        for part in given.only:
            print(f"\n{part}: {size.rows:,} rows in {size.batches} batches; milliseconds, of {size.times} answers")
            good.append(parts[part](folder, simulator, size))
            simulator.post("reset")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
