"""Writers of a ledger that are killed at random instants: `python tests/killed_writers.py URL HOME KILLS SEED`.

Prints how many were killed, how many of them had let the counter grow, and every false stop.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from factories import answer, new_row, new_worker, running_batch, whole

from tasks.errors import LedgerReplaced
from tasks.ledger import Ledger, memory


def write_commits(url: str, home: Path, number: int, ready: int) -> None:
    """Mark and record rows one by one until killed; say when that begins, and when each is written."""
    ledger = Ledger.open(url, home=home)
    rows = [new_row(n, customer=f"cus_{number}_{n}") for n in range(1, 21)]
    batch = running_batch(ledger, rows)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    os.write(ready, b".")
    for row in held:
        worker.mark([row])
        worker.record(answer(row, source_id=f"src_{number}_{row.record}"))
        os.write(ready, b".")
    time.sleep(60)


def main() -> None:
    """Kill writers, each in a process of its own, and look at the ledger after each."""
    url, home, kills, dice = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
    memory.ONCE_SECONDS = 0.0  # so that nearly every instant is one between a commit and its copy
    Ledger.open(url, home=home).close()
    stops, grown, before = [], 0, 0
    for number in range(kills):
        begun, ready = os.pipe()
        writer = os.fork()
        if not writer:
            write_commits(url, home, number, ready)
        if number % 10:  # every tenth may be killed while it opens the ledger
            for _ in range(dice.randint(1, 4)):  # however slow this machine is
                os.read(begun, 1)
        time.sleep(dice.uniform(0.0, 0.02))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        os.close(begun)
        os.close(ready)
        ledger = Ledger.open(url, home=home)
        try:
            ledger.require_memory()
        except LedgerReplaced as error:
            stops.append(str(error))
        copied = ledger.engine.memory.copied()
        grown += copied is not None and copied.counter > before
        before = copied.counter if copied else 0
        ledger.close()
    print(kills, grown, len(stops), *stops)


if __name__ == "__main__":
    main()
