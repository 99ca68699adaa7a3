"""Measures what invalid rows cost beside valid ones: processor time and memory, on their way in and in the reports.

    .venv/bin/python benchmarks/invalid.py [--rows 20000] [--times 2] [--only KIND]

Each kind of invalid row is measured against valid rows of the same number and shape. The cost of a file of one row is
taken off first, which leaves the rows. Bars: at most twice the processor time, and a tenth more memory.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from benchmarks.files import Taken, repeated, settle  # noqa: E402

MOST_TIME, MOST_MEMORY = 2.0, 1.1
STEPS = ("intake", "page", "xlsx")
_FIVE = "customer_id,payment_method,resource,description,metadata.branch"
_WIDE = ",".join(("customer_id,payment_method,resource", *(f"extra.k{number}" for number in range(197))))


class Shape(NamedTuple):
    """Valid rows that invalid ones are measured against."""

    header: str
    valid: Callable[[int], str]
    share: float = 1.0  #: of the rows that are asked for


SHAPES = {
    "five": Shape(_FIVE, lambda at: f"cus_{at:08d},creditcard,ios,order {at},Tokyo"),
    "full": Shape(_FIVE, lambda at: f"cus_{at:08d},creditcard,ios,{at:0250d},{at:0250d}", 0.5),
    "wide": Shape(_WIDE, lambda at: f"cus_{at:08d},creditcard,ios" + ",v" * 20 + "," * 177, 0.1),
    "long": Shape(_FIVE + ",note", lambda at: f"cus_{at:08d},creditcard,ios,d,T," + "x" * 4000, 0.2),
}
#: Kind -> the shape it is measured against and its row.
KINDS: dict[str, tuple[str, Callable[[int], str]]] = {
    "empty": ("five", lambda _: ",,,,"),
    "missing": ("five", lambda at: f"cus_{at:08d},,,order {at},Tokyo"),
    "wrong": ("full", lambda at: f"customer {at:08d} with a long name,method {at},place {at},{'d' * 256},{'m' * 256}"),
    "few": ("five", lambda at: f"cus_{at:08d},creditcard,ios"),
    "many": ("five", lambda at: f"cus_{at:08d},creditcard,ios,a,b,c,d,e"),
    "quotes": ("five", lambda at: f'cus_{at:08d},creditcard,ios,"order" {at},Tokyo'),
    "control": ("five", lambda at: f"cus_{at:08d}\x01,creditcard,ios,order\x02 {at},Tokyo\x7f"),
    "invisible": ("five", lambda at: f"cus_{at:08d}\u200b,creditcard,ios,order {at},Tokyo"),
    "wide": ("wide", lambda at: f"cus_{at:08d},method,place" + ",\x01" * 197),
    "long": ("long", lambda at: f"cus_{at:08d},creditcard,ios,{'x' * 2000},{'y' * 2000},"),
}


def write(path: Path, header: str, row: Callable[[int], str], rows: int) -> None:
    """Write a file whose last record is not empty, so that no empty row is at its end."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        file.writelines(row(at) + "\n" for at in range(rows - 1))
        file.write("last,creditcard,ios" + "," * header.count(",", 33) + "\n")


def measured(header: str, row: Callable[[int], str], rows: int, times: int) -> dict[str, Taken]:
    """Return what each step takes of a file of so many rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "night.csv", header, row, rows)
        found = {"intake": repeated("intake", folder, times)}
        settle(folder)
        return found | {step: repeated(step, folder, times) for step in STEPS if step != "intake"}


def main() -> int:
    """Print a line for each kind and step; 1 if a bar is missed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=20_000)
    arguments.add_argument("--times", type=int, default=2)
    arguments.add_argument("--only", choices=KINDS)
    given = arguments.parse_args()
    kinds = [given.only] if given.only else list(KINDS)
    shapes = {KINDS[kind][0] for kind in kinds}
    one = measured(SHAPES["five"].header, SHAPES["five"].valid, 1, given.times)
    valid = {
        name: measured(SHAPES[name].header, SHAPES[name].valid, int(given.rows * SHAPES[name].share), given.times)
        for name in sorted(shapes)
    }
    missed = False
    for kind in kinds:
        name, row = KINDS[kind]
        rows = int(given.rows * SHAPES[name].share)
        found = measured(SHAPES[name].header, row, rows, given.times)
        for step in STEPS:
            least, bad, good = one[step].processor_seconds, found[step], valid[name][step]
            seconds = [taken.processor_seconds - least for taken in (bad, good)]
            time, memory = seconds[0] / seconds[1], bad.megabytes / good.megabytes
            fine = time <= MOST_TIME and memory <= MOST_MEMORY
            missed = missed or not fine
            verdict = "ok" if fine else "MISSED"
            print(
                f"{kind:9} {step:6} {rows:7,} rows  {seconds[0]:5.2f} s, valid {seconds[1]:5.2f} s: {time:4.2f}"
                f"  {bad.megabytes:4.0f} MB, valid {good.megabytes:4.0f} MB: {memory:4.2f}  {verdict}",
                flush=True,
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
