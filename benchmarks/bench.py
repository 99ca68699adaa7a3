"""Measures ours and the peers in turns, and writes results.json, results.md and results.svg.

    make bench                       every scenario but the million rows, three rounds
    make bench BENCH=--million       the million rows only
    make bench BENCH=--quick         0 and 50 ms, one round, few rows; writes nothing
    make bench BENCH="--only limits start-up --rounds 1"

What is measured takes the place of the same scenarios in the results; the others stay.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import results
from benchmarks.picture import picture
from benchmarks.scenarios import ONLY_ASKED_FOR, SCENARIOS, Plan

HERE = Path(__file__).parent
FIGURES = HERE / "results.json"
QUICK = ("latency-50", "latency-0", "start-up")
QUICK_SHARE = 0.15


def main() -> int:
    """Measure; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    names = given.only or [name for name in SCENARIOS if name != ONLY_ASKED_FOR]
    if given.quick:
        names = given.only or QUICK
    elif given.million:
        names = [ONLY_ASKED_FOR]
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(Path(folder), 1, QUICK_SHARE) if given.quick else Plan(Path(folder), given.rounds)
        found = {name: SCENARIOS[name](plan) for name in names}
    where = results.machine()
    if given.quick:
        print(results.page(list(found.values()), where))
    else:
        results.keep(FIGURES, found, where, SCENARIOS)
        write(HERE)
    return int(not all(bar.met for section in found.values() for bar in section.bars))


def write(folder: Path) -> None:
    """Write the page and the picture from the figures."""
    scenarios, where = results.remembered(FIGURES)
    sections = list(scenarios.values())
    (folder / "results.md").write_text(results.page(sections, where), encoding="utf-8")
    (folder / "results.svg").write_text(picture(sections), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
