"""Measures what a fleet and an `onboard run` lose to each other on one Redis and one PostgreSQL ledger.

    .venv/bin/python benchmarks/beside.py [--rows 6000] [--rounds 3]

Two workers of a fleet send one file, two workers of a run another, first each alone and then both at once. elepay takes
400 ms to answer and each worker has 20 requests in flight, so that the two cores are not what is shared: that would
measure the machine. Without a limit, because one allowance for both is what they do share. The pace is the mean of
the rows that left in each second but the first two and the last two.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tasks.ledger import Ledger  # noqa: E402
from tests.factories import MeasuredCommand, Simulator, wait_until, write_csv  # noqa: E402
from tests.postgres import new_database, postgres_server  # noqa: E402
from worker.embedded_redis import EmbeddedRedis  # noqa: E402

LATENCY_MS, IN_FLIGHT, WORKERS = 400, 20, 2


class Place:
    """One simulator, one Redis, one ledger, and a fleet at work."""

    def __init__(self, folder: Path, simulator: Simulator, redis_url: str, ledger_url: str) -> None:
        self._folder = folder
        self._command = MeasuredCommand(
            folder,
            simulator,
            REDIS_URL=redis_url,
            LEDGER_URL=ledger_url,
            ONBOARD_IN_FLIGHT=IN_FLIGHT,
            ONBOARD_WORKERS=WORKERS,
        )
        self._ledger_url = ledger_url
        self._files = 0

    def fleet(self) -> list[subprocess.Popen[str]]:
        """Start the fleet's workers."""
        return [self._command.start("worker", "--name", f"fleet-{number}") for number in range(WORKERS)]

    def start(self, rows: int, *, fleet: bool) -> subprocess.Popen[str]:
        """Start to onboard a new file: with the fleet, or with the command's own workers."""
        self._files += 1
        file = write_csv(self._folder / f"{self._files}.csv", rows, prefix=f"cus_{self._files}_")
        return self._command.start("run", "--json", *(["--no-workers"] if fleet else []), file)

    def pace(self, run: subprocess.Popen[str]) -> float:
        """Wait for the end of a run; return its rows/s."""
        out, err = run.communicate(timeout=600)
        assert run.returncode == 0, err
        ledger = Ledger.open(self._ledger_url)
        sent = ledger.queries.sent_per_second(int(json.loads(out.splitlines()[-1])["batch"]))
        ledger.close()
        seconds = sorted(sent)[2:-2]
        return float(mean(sent.get(second, 0) for second in range(seconds[0], seconds[-1] + 1)))


def main() -> int:
    """Measure, and print one line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        Simulator(latency_ms=LATENCY_MS) as simulator,
        postgres_server() as server,
        new_database(server) as ledger_url,
        EmbeddedRedis(Path(name)) as redis,
    ):
        place = Place(Path(name), simulator, redis.url, ledger_url)
        fleet = place.fleet()
        try:
            wait_until(lambda: all(one.poll() is None for one in fleet), 10)
            time.sleep(5)
            for number in range(1, given.rounds + 1):
                alone = [place.pace(place.start(given.rows, fleet=is_fleet)) for is_fleet in (True, False)]
                both = [place.start(given.rows, fleet=is_fleet) for is_fleet in (True, False)]
                beside = [place.pace(run) for run in both]
                told = "  ".join(
                    f"{who}: {one:,.0f} rows/s alone, {two:,.0f} beside the other = {two / one:.3f}"
                    for who, one, two in zip(("fleet", "run"), alone, beside, strict=True)
                )
                sys.stdout.write(f"round {number}  {told}\n")
                sys.stdout.flush()
        finally:
            for one in fleet:
                one.send_signal(signal.SIGTERM)
            for one in fleet:
                one.communicate(timeout=60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
