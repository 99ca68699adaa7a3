"""Measures how long the console's pages take on a SQLite ledger with many rows.

    .venv/bin/python benchmarks/console.py [--rows 1000000] [--batches 10] [--times 100]

The console is a process of its own, asked one page after the other over loopback; between two questions all that it
keeps for a moment has run out for half of them. Of a hundred answers the median and the worst count. 3 of 100 rows are
refused or unclear, 2 invalid. Exit code 1 if a page misses a bar.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

#: What a page may take.
MEDIAN_MILLISECONDS, WORST_MILLISECONDS = 150.0, 400.0


class Answers(NamedTuple):
    """How long the answers of a page took."""

    page: str
    median: float  #: milliseconds
    worst: float
    first: float  #: the very first, before anything was compiled or kept

    @property
    def is_good(self) -> bool:
        """Whether it keeps both bars."""
        return self.median <= MEDIAN_MILLISECONDS and self.worst <= WORST_MILLISECONDS


def serve(folder: Path) -> None:
    """Serve the installation in a folder, and print where, until standard input ends."""
    from console_served import APPROVER, Served
    from reported import Reported

    with Served(Reported(folder).ours, APPROVER) as served:
        print(served.url, flush=True)
        sys.stdin.read()


def fill(folder: Path, rows: int, batches: int) -> None:
    """Make a ledger with so many rows in so many batches that have ended."""
    from reported import Reported

    from benchmarks.files import settle

    made = Reported(folder)
    for number in range(batches):
        file = folder / f"night-{number}.csv"
        generate = [sys.executable, str(ROOT / "sample_data" / "generate.py"), "--rows", str(rows // batches)]
        generate += ["--columns", "10", "--invalid", "0.02", "--seed", str(number), "--output", str(file)]
        subprocess.run(generate, check=True)
        made.accept_path(file)
        file.unlink()
    made.close()
    settle(folder)


def pages(folder: Path) -> dict[str, str]:
    """Name -> address of what is measured, with the rows that this ledger has."""
    from reported import Reported

    made = Reported(folder)
    batch = made.ledger.batches.newest(1)[0]
    customer = made.ledger.resolution.customer_of(batch.id, batch.records - 7)
    made.close()
    at = f"/batches/{batch.id}"
    return {
        "tonight": "/",
        "batches": "/batches",
        "batch": at,
        "rows, the first": f"{at}/rows?state=created",
        "rows, the last": f"{at}/rows?state=created&after={batch.records - 100}",
        "invalid rows, the first": f"{at}/rows?state=invalid",
        "invalid rows, the last": f"{at}/rows?state=invalid&after={batch.records - 1000}",
        "rows of a cause": f"{at}/rows?state=refused&code=U003005&open=1",
        "row, in the middle": f"{at}/lines/{batch.records // 2}",
        "find": f"/find?wanted={customer}",
        "to do": "/open",
        "unclear rows": "/decide",
        "upload": "/upload",
    }


def measure(address: str, name: str, path: str, times: int) -> Answers:
    """Ask for a page so many times."""
    host, _, port = address.removeprefix("http://").partition(":")
    took = []
    for number in range(times + 1):
        connection = HTTPConnection(host, int(port), timeout=600)
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took.append(1000 * (time.perf_counter() - began))
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path}: HTTP {answer.status}")
        time.sleep(0.5 if number % 4 == 0 else 0.01)
    return Answers(name, statistics.median(took[1:]), max(took[1:]), took[0])


def main() -> int:
    """Print a line for each page; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--batches", type=int, default=10)
    arguments.add_argument("--times", type=int, default=100)
    arguments.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.serve:
        serve(given.serve)
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, given.rows, given.batches)
        asked = pages(folder)
        with subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as console:
            assert console.stdout
            address = console.stdout.readline().strip()
            found = [measure(address, name, path, given.times) for name, path in asked.items()]
            console.communicate()
    print(f"{given.rows:,} rows in {given.batches} batches, {given.times} answers of each page; milliseconds")
    for one in found:
        verdict = "ok" if one.is_good else "MISSED"
        print(f"{one.page:24} median {one.median:6.1f}  worst {one.worst:6.1f}  first {one.first:7.1f}  {verdict}")
    return int(not all(one.is_good for one in found))


if __name__ == "__main__":
    sys.exit(main())
