"""How long a run needs to be back at its limit after elepay has throttled it."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.contestants import as_users_run_it, clean_file
from tests.factories import Simulator, wait_until

#: A run is back when a whole second brings so much of the limit.
BACK = 0.95


class Back(NamedTuple):
    """What was seen."""

    seconds: float  #: from the last throttled answer to the end of the first second at the limit
    slowest_second: int
    throttled: int  #: answers


def seconds_until_back(limit: int, files: Path) -> Back:
    """Throttle half of the answers for four seconds in the middle of a run."""
    with tempfile.TemporaryDirectory() as folder, Simulator(latency_ms=50) as simulator:
        command = as_users_run_it(Path(folder), simulator, ELEPAY_REQUESTS_PER_SECOND=limit)
        run = command.start("run", clean_file(files, limit * 70), "--json")
        wait_until(lambda: simulator.statistics()["created"] > 2 * limit, 30)
        simulator.control(throttled={"share": 0.5, "for_seconds": 4.0})
        throttled, last = _last_throttled(simulator)
        seconds = _until_back(simulator, limit, last)
        slowest = min(count for second, count in simulator.statistics()["creates_per_second"][:-1] if second > last)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        return Back(seconds, slowest, throttled)


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
