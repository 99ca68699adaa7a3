"""Measures how much of the limit a run of four worker processes uses, and whether any second exceeds it.

    .venv/bin/python benchmarks/rate_limit.py

elepay is the simulator with 100 ms latency; the figures are the simulator's own: arrivals in any sliding second.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from factories import Command, Simulator, write_csv  # noqa: E402 - needs the path above

SECONDS = 20
WORKERS = 4


def measure(limit: int) -> tuple[float, int]:
    """Return the share of the limit used from first to last creation, and the creations of the worst sliding second."""
    with tempfile.TemporaryDirectory() as folder, Simulator(latency_ms=100) as simulator:
        rows = limit * SECONDS
        onboard = Command(Path(folder), simulator, ELEPAY_REQUESTS_PER_SECOND=limit)
        done = onboard.json("run", write_csv(Path(folder) / "a.csv", rows), "--workers", WORKERS, timeout=300)
        counted = simulator.statistics()
        assert done["books"]["created"] == counted["references"]["total"] == rows
        took = counted["last_create_at"] - counted["first_create_at"]
        return (rows - 1) / took / limit, counted["worst_second_creates"]


def main() -> None:
    """Print a line for each limit."""
    for limit in (100, 500):
        share, worst = measure(limit)
        print(
            f"limit {limit}/s, {SECONDS} s, {WORKERS} processes: {share:.2%} of the limit used,"
            f" worst sliding second {worst} ({worst / limit - 1:+.1%})"
        )


if __name__ == "__main__":
    main()
