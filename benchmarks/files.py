"""Measures how long a large file takes on its way in and its reports on their way out, and in how much memory.

    .venv/bin/python benchmarks/files.py [--rows 1000000] [--times 3]

The file has ten columns, 2 % of its records are invalid and 1 % duplicates. Each step runs in a process of its own, so
that its peak of memory is its own (with the peak of its child, where it has one); of several times the quickest counts,
because other programs share the machine. The
ratio stands beside each time: to reading the same file with Python's own `csv` and writing it back, the least that a
program can do about it.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

#: What became of the rows that were sent: 97 of 100 created, the others refused or unclear.
_SETTLE = """
update rows set attempts = 1, latency_ms = 40 + record % 50, request_id = 'req_' || hex(record),
    state = case when record % 100 < 97 then 'created' when record % 100 < 99 then 'refused' else 'unclear' end,
    source_id = case when record % 100 < 97 then 'src_' || hex(identity) end,
    source_status = case when record % 100 < 97 then 'pending' end,
    code = case when record % 100 < 97 then null when record % 100 < 99 then 'U003005' else 'lost_answer' end
where state = 'waiting'
"""


class Bar(NamedTuple):
    """What a step may take, of a million rows."""

    step: str
    says: str
    seconds: float
    megabytes: float


BARS = (
    Bar("intake", "checked, identified, in the SQLite ledger", 15, 350),
    Bar("csv", "results.csv, failures.csv, summary.json", 15, 300),
    Bar("page", "report.html besides", 15, 300),
    Bar("safe", "the excel-safe copies besides", 30, 300),
    Bar("xlsx", "report.xlsx", 90, 300),
)


def plain(folder: Path) -> None:
    """Read the file and write it back, as little as can be done."""
    with (folder / "night.csv").open(newline="") as source, (folder / "plain.csv").open("w", newline="") as target:
        csv.writer(target).writerows(csv.reader(source))


def intake(folder: Path) -> None:
    """Bring the file into an empty ledger."""
    from reported import Reported

    Reported(folder).accept_path(folder / "night.csv")


def report(folder: Path, formats: frozenset[str], *, excel_safe: bool = False) -> None:
    """Write some of the reports."""
    from reported import Reported

    made = Reported(folder)
    batch = made.ledger.batches.get(1)
    made.write(batch, folder / "reports", formats=formats, excel_safe=excel_safe)


STEPS: dict[str, Callable[[Path], None]] = {
    "plain": plain,
    "intake": intake,
    "csv": lambda folder: report(folder, frozenset({"csv", "json"})),
    "page": lambda folder: report(folder, frozenset({"csv", "json", "html"})),
    "safe": lambda folder: report(folder, frozenset({"csv", "json"}), excel_safe=True),
    "xlsx": lambda folder: report(folder, frozenset({"xlsx"})),
}


def settle(folder: Path) -> None:
    """Give every waiting row an end."""
    with sqlite3.connect(folder / "home" / "ledger.db") as ledger:
        ledger.execute(_SETTLE)
        ledger.execute("update batches set state = 'finished', finished_at = created_at + 1000")
    ledger.close()


class Taken(NamedTuple):
    """What a step took."""

    seconds: float
    processor_seconds: float  #: hardly more when other programs are busy
    megabytes: float


def run(step: str, folder: Path) -> Taken:
    """Return what a step takes in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, "--folder", str(folder)], check=True, stdout=subprocess.PIPE
    )
    return Taken(*map(float, json.loads(done.stdout.splitlines()[-1])))  # what is logged comes before


def measure(step: str, folder: Path) -> None:
    """Run a step here and print what it took, from the first import on."""
    started = time.perf_counter()
    STEPS[step](folder)
    seconds = time.perf_counter() - started
    status = Path("/proc/self/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN)  # intake has one
    processor = time.process_time() + children.ru_utime + children.ru_stime
    print(json.dumps([seconds, processor, (kilobytes + children.ru_maxrss) / 1024]))


def repeated(step: str, folder: Path, times: int) -> Taken:
    """Return the quickest time and the highest peak."""
    found = []
    for _ in range(times):
        if step == "intake":
            for old in (folder / "home").glob("ledger*"):
                old.unlink()
        found.append(run(step, folder))
    return Taken(
        min(one.seconds for one in found),
        min(one.processor_seconds for one in found),
        max(one.megabytes for one in found),
    )


def main() -> int:
    """Print a line for each step; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--times", type=int, default=3)
    arguments.add_argument("--only", choices=STEPS)
    arguments.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.step:
        measure(given.step, given.folder)
        return 0
    missed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate = [sys.executable, str(ROOT / "sample_data" / "generate.py"), "--rows", str(given.rows)]
        generate += ["--columns", "10", "--invalid", "0.02", "--duplicates", "0.01", "--output"]
        subprocess.run([*generate, str(folder / "night.csv")], check=True)
        size = (folder / "night.csv").stat().st_size / 1e6
        least = repeated("plain", folder, given.times).seconds
        print(f"{given.rows:,} rows, 10 columns, {size:.0f} MB; read and written back by csv alone: {least:.1f} s")
        for bar in BARS:
            needed = bar.step == "intake"
            if given.only not in (None, bar.step) and not needed:
                continue
            taken = repeated(bar.step, folder, given.times if given.only in (None, bar.step) else 1)
            if needed:
                settle(folder)
            allowed = bar.seconds * given.rows / 1_000_000
            good = taken.seconds <= allowed and taken.megabytes <= bar.megabytes
            missed = missed or not good
            print(
                f"{bar.step:7} {taken.seconds:6.1f} s of {allowed:g}  {taken.seconds / least:5.1f}x"
                f"  processor {taken.processor_seconds:5.1f} s  peak {taken.megabytes:4.0f} MB of"
                f" {bar.megabytes:g}  {'ok' if good else 'MISSED'}  {bar.says}",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
