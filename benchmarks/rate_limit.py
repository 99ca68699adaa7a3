"""Measures how much of the limit a run of four worker processes uses, and whether any second exceeds it.

    .venv/bin/python benchmarks/rate_limit.py [--times 3]

elepay is the simulator with 100 ms latency; the figures are the simulator's own: arrivals in any sliding second. Then
elepay throttles for a few seconds, and the time is taken from its last "too many requests" until the run is back at
95 % of the limit. Of several times the best counts, because other programs share the machine: a process that does not
get its turn misses its places.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from factories import Command, Simulator, wait_until, write_csv  # noqa: E402 - needs the path above

SECONDS = 20
WORKERS = 4
#: A run is back when a whole second brings so much of the limit.
BACK = 0.95


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


def measure_recovery(limit: int) -> tuple[float, int, int]:
    """Return the seconds from the last throttled answer to 95 % of the limit, the slowest second, and how many were."""
    with tempfile.TemporaryDirectory() as folder, Simulator(latency_ms=100) as simulator:
        onboard = Command(Path(folder), simulator, ELEPAY_REQUESTS_PER_SECOND=limit)
        file = write_csv(Path(folder) / "a.csv", limit * 70)
        run = onboard.start("run", file, "--workers", WORKERS, "--json")
        wait_until(lambda: simulator.statistics()["created"] > 2 * limit, 30)
        simulator.control(throttled={"share": 0.5, "for_seconds": 4.0})
        throttled, last = _last_throttled(simulator)
        seconds = _until_back(simulator, limit, last)
        slowest = min(count for second, count in simulator.statistics()["creates_per_second"][:-1] if second > last)
        _interrupt(run)
        return seconds, slowest, throttled


def _last_throttled(simulator: Simulator) -> tuple[int, float]:
    """Wait until nothing has been throttled for three seconds; return how many were, and when the last was."""
    throttled, last = 0, time.time()
    while not throttled or time.time() - last < 3:
        now = simulator.statistics()["throttled"]
        if now > throttled:
            throttled, last = now, time.time()
        time.sleep(0.05)
    return throttled, last


def _until_back(simulator: Simulator, limit: int, last: float) -> float:
    """Return the seconds from `last` to the end of the first whole second at BACK of the limit."""
    while time.time() - last < 90:
        for second, count in simulator.statistics()["creates_per_second"][:-1]:
            if second >= last and count >= BACK * limit:
                return float(second + 1 - last)
        time.sleep(0.5)
    raise AssertionError("not back within 90 s")


def _interrupt(run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)


def main() -> None:
    """Print a line for each limit and measurement."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--times", type=int, default=1)
    times = range(arguments.parse_args().times)
    for limit in (100, 500):
        share, worst = max((measure(limit) for _ in times), key=lambda measured: (measured[0], -measured[1]))
        print(
            f"limit {limit}/s, {SECONDS} s, {WORKERS} processes: {share:.2%} of the limit used,"
            f" worst sliding second {worst} ({worst / limit - 1:+.1%})",
            flush=True,
        )
    for limit in (100, 500):
        seconds, slowest, throttled = min(measure_recovery(limit) for _ in times)
        print(
            f"limit {limit}/s, {throttled} throttled answers, slowest second {slowest}:"
            f" back at {BACK:.0%} of the limit {seconds:.1f} s after the last of them",
            flush=True,
        )


if __name__ == "__main__":
    main()
