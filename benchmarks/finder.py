"""Measures what `onboard find` takes in a large ledger, and what its index costs while files are read.

    .venv/bin/python benchmarks/finder.py [--rows 1000000] [--batches 4] [--asked 200]

The rows come in several files of ten columns, as `files.py` has them, and all batches are finished. What the index
costs is the time spent in it, by the clock and in processor time, against all the rest of the same intake: in one run,
so that other programs slow both down alike. What is asked is timed in both ways too; the bar is for the median by the
clock and for the worst in processor time, for by the clock the worst of hundreds is that of other programs.
"""

from __future__ import annotations

import argparse
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from reported import Reported  # noqa: E402 - the tests are no package

from tasks.identities import reference_of  # noqa: E402
from tasks.ledger import CustomerIndex  # noqa: E402
from tasks.ledger.finder import Finder  # noqa: E402
from tasks.operations.find import find  # noqa: E402
from tasks.services import Services  # noqa: E402

MOST_MILLISECONDS = 50.0
MOST_SHARE = 0.05
#: Every row that was to be sent was created, and its batch has finished, as `lifecycle.close` leaves it.
_SETTLE = (
    "update rows set state = 'created', source_id = 'src_' || hex(identity) where state = 'waiting'",
    "insert into sources select source_id, batch_id, record from rows where state = 'created'",
    "update batches set state = 'finished', finished_at = created_at + 1000",
)


@dataclass
class Spent:
    """Time that passed."""

    seconds: float = 0.0
    processor_seconds: float = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add what the block takes."""
        seconds, processor = time.perf_counter(), _processor()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - seconds
            self.processor_seconds += _processor() - processor


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)  # the reader of a large file
    return time.process_time() + children.ru_utime + children.ru_stime


def counting(spent: Spent, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that counts the time of each call."""

    def counted(*arguments: Any) -> Any:
        with spent.counted():
            return function(*arguments)

    return counted


def intake(made: Reported, rows: int, batches: int) -> tuple[Spent, Spent]:
    """Bring the files into the ledger; return what all of it took, and the index within."""
    whole, index = Spent(), Spent()
    CustomerIndex.add = counting(index, CustomerIndex.add)  # type: ignore[method-assign]
    Finder.file = counting(index, Finder.file)  # type: ignore[method-assign]
    for seed in range(1, batches + 1):
        file = made.folder / f"{seed}.csv"
        generate = [sys.executable, str(ROOT / "sample_data" / "generate.py"), "--seed", str(seed)]
        generate += ["--rows", str(rows // batches), "--columns", "10", "--invalid", "0.02", "--output", str(file)]
        subprocess.run(generate, check=True)
        with whole.counted():
            made.accept_path(file)
        file.unlink()
    return whole, index


def asked(ledger: Path, count: int) -> dict[str, list[str]]:
    """Return what to look for: customers, sources and references of rows anywhere, and what no row is about."""
    pick = random.Random(1)
    with sqlite3.connect(ledger) as connection:
        sizes = connection.execute("select id, records from batches").fetchall()
        query = "select customer_id, source_id, identity, generation from rows where batch_id = ? and record = ?"
        places = [(batch, pick.randint(1, records)) for batch, records in pick.choices(sizes, k=2 * count)]
        rows = [row for place in places if (row := connection.execute(query, place).fetchone())[1]][:count]
    return {
        "a customer": [row[0] for row in rows],
        "a source": [row[1] for row in rows],
        "a reference": [reference_of(row[2], row[3]) for row in rows],
        "what is nowhere": [f"cus_nobody{number}" for number in range(count)],
    }


def each_took(services: Services, wanted: list[str]) -> list[Spent]:
    """Return how long each took."""
    taken = []
    for each in wanted:
        taken.append(Spent())
        with taken[-1].counted():
            found = find(services, each)
        assert bool(found) != each.startswith("cus_nobody")
    return taken


def main() -> int:
    """Print a line for each figure; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--batches", type=int, default=4)
    arguments.add_argument("--asked", type=int, default=200)
    given = arguments.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as name:
        made = Reported(Path(name))
        whole, index = intake(made, given.rows, given.batches)
        for kind, all_of_it, within in (
            ("clock", whole.seconds, index.seconds),
            ("processor", whole.processor_seconds, index.processor_seconds),
        ):
            share = within / (all_of_it - within)
            missed = missed or share > MOST_SHARE
            print(f"intake, {kind}: {all_of_it:.1f} s, of these the index {within:.2f} s: {share:.1%} more", flush=True)
        ledger = Path(made.ledger.place)
        made.close()
        with sqlite3.connect(ledger) as connection:
            for statement in _SETTLE:
                connection.execute(statement)
        connection.close()
        made = Reported(Path(name))
        for what, wanted in asked(ledger, given.asked).items():
            taken = each_took(made.ours, wanted)
            clock = sorted(1000 * each.seconds for each in taken)
            processor = max(1000 * each.processor_seconds for each in taken)
            missed = missed or max(statistics.median(clock), processor) > MOST_MILLISECONDS
            print(
                f"{what}: median {statistics.median(clock):.2f} ms, worst of {len(clock)} {clock[-1]:.1f} ms,"
                f" in processor time {processor:.1f} ms"
            )
        made.close()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
