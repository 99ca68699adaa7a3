"""Measures the rows a second of a whole `onboard run`, beside a hand-written thread pool that remembers nothing.

    .venv/bin/python benchmarks/throughput.py [--rows 10000] [--times 3]

10,000 clean rows, no limit, elepay is the simulator with 50 ms latency on the same machine. `onboard run` does
everything it does: reads the file into the ledger, starts its Valkey and its workers, marks every row on disk before
it is sent, writes the reports. The pool is what one would write first: `requests`, a session a thread, as many threads
as `onboard` has requests under way in one process, results in a list. Of several times the best of each counts, because
other programs share the machine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import requests

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from factories import KEY, Command, Simulator, write_csv  # noqa: E402 - needs the path above

LATENCY_MS = 50
THREADS = 100


class Measured(NamedTuple):
    """Rows a second."""

    whole: float  #: from the start of the command to its end
    sending: float  #: from the first request to the last, as the simulator counted


def onboard(rows: int) -> Measured:
    """Run the command on a clean file."""
    with tempfile.TemporaryDirectory() as folder, Simulator(latency_ms=LATENCY_MS) as simulator:
        command = Command(Path(folder), simulator, ELEPAY_REQUESTS_PER_SECOND=0)
        file = write_csv(Path(folder) / "a.csv", rows)
        started = time.monotonic()
        done = command.json("run", file, timeout=300)
        took = time.monotonic() - started
        counted = simulator.statistics()
        assert done["exit"] == 0
        assert done["books"]["created"] == counted["references"]["total"] == rows
        return Measured(rows / took, (rows - 1) / (counted["last_create_at"] - counted["first_create_at"]))


def by_hand(rows: int) -> float:
    """Send as many rows by a pool of threads; return rows a second."""
    here = threading.local()

    def send(number: int) -> str:
        session = getattr(here, "session", None)
        if session is None:
            session = here.session = requests.Session()
            session.headers["Authorization"] = f"Bearer {KEY}"
        body = {"paymentMethod": "creditcard", "resource": "ios", "metadata": {"onboarding_ref": str(number)}}
        answer = session.post(f"{simulator.url}/customers/cus_{number:06d}/sources", json=body, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["id"])

    with Simulator(latency_ms=LATENCY_MS) as simulator, ThreadPoolExecutor(THREADS) as pool:
        started = time.monotonic()
        sources = list(pool.map(send, range(rows)))
        took = time.monotonic() - started
        assert len(set(sources)) == rows
    return rows / took


def main() -> None:
    """Print both, and their ratio."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--times", type=int, default=3)
    given = arguments.parse_args()
    ours, theirs = [], []
    for _ in range(given.times):  # in turn, so that both meet the same neighbours
        ours.append(onboard(given.rows))
        theirs.append(by_hand(given.rows))
        print(f"onboard run {ours[-1].whole:,.0f}, sending {ours[-1].sending:,.0f}, pool {theirs[-1]:,.0f}", flush=True)
    whole, sending, pool = max(one.whole for one in ours), max(one.sending for one in ours), max(theirs)
    print(
        f"{given.rows:,} rows, {LATENCY_MS} ms: onboard run {whole:,.0f} rows/s in all, {sending:,.0f} rows/s while"
        f" sending; {THREADS} threads by hand {pool:,.0f} rows/s; ratio {whole / pool:.1f} and {sending / pool:.1f}"
    )


if __name__ == "__main__":
    main()
