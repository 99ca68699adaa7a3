"""Lets a fleet with a watcher work for hours on small files, while its servers and workers are restarted.

    .venv/bin/python benchmarks/soak.py [--minutes 120] [--json soak.json]

Two workers, a watcher and the clock of a fleet on PostgreSQL and Valkey; a file of 20 rows every three seconds. In
turn, every RESTART_SECONDS: Valkey restarts empty, PostgreSQL crashes and restarts, the second worker is killed and
started again. Prints, for ten moments of the time, what the processes that were never restarted hold: memory (RSS,
MB), open files, threads; the sessions at PostgreSQL, the clients and unread messages at Valkey. At the end every file
must be in the archive, each row have one source, and nothing have grown: exit code 1 if not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from redis import Redis
from redis.exceptions import RedisError

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "resilience")]

from tests.factories import MeasuredCommand, Simulator, wait_until, write_csv  # noqa: E402
from tests.resilience.judge import at_the_simulator  # noqa: E402
from tests.resilience.machines import Postgres, Started, Valkey  # noqa: E402

ROWS, FILE_SECONDS, SAMPLE_SECONDS, RESTART_SECONDS = 20, 3.0, 15.0, 100.0
#: What has grown by more than this share, from the second tenth of the time to the last, is a leak.
MOST_GROWTH = 0.15
#: Fewer files, threads, sessions or clients more than so many are none.
LEAST = 5
#: What a pool keeps open is no leak, up to its size: in each worker 16 connections to Redis for the rate limit, 4 for
#: Celery, 32 threads for look-ups. How many are used depends on how many rows are looked up at once.
POOLS = {"redis clients": 2 * (16 + 4) + 4, "worker files": 30 + 16 + 4, "worker threads": 8 + 32}


def of_process(pid: int) -> dict[str, float]:
    """Return memory in MB, open files and threads of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {
        "MB": int(status["VmRSS"].split()[0]) / 1024,
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": int(status["Threads"]),
    }


class Soak:
    """Servers and processes of one soak."""

    def __init__(self, folder: Path, simulator: Simulator, valkey: Valkey, postgres: Postgres) -> None:
        self._folder, self._simulator, self._valkey, self._postgres = folder, simulator, valkey, postgres
        self.drop = folder / "drop"
        self.command = MeasuredCommand(
            folder,
            simulator,
            REDIS_URL=valkey.url,
            LEDGER_URL=postgres.url,
            ONBOARD_DROP_FOLDER=self.drop,
            ONBOARD_SETTLE_SECONDS=0.5,
            ELEPAY_REQUESTS_PER_SECOND=50,
        )
        assert self.command("status").returncode == 0
        self._numbers = itertools.count()
        self.steady = {
            "worker": self.start("worker", "--name", "1"),
            "watcher": self.start("watch", "--no-workers"),
            "beat": self.start("beat"),
        }
        self.other = self.start("worker", "--name", "2")
        self.restarts = 0

    def start(self, *words: str) -> Started:
        """Start a process of the fleet."""
        return Started(self.command, next(self._numbers), *words)

    def restart(self) -> Iterator[Callable[[], None]]:
        """Yield what is restarted next, for ever."""

        def redis() -> None:
            self._valkey.kill()
            self._valkey.start()

        def ledger() -> None:
            self._postgres.stop("immediate")
            self._postgres.start()

        def worker() -> None:
            self.other.kill()
            self.other = self.start("worker", "--name", "2")

        yield from itertools.cycle([redis, ledger, worker])

    def sample(self) -> dict[str, float]:
        """Return all numbers of this moment; those of a server that is away are left out."""
        found = {
            f"{name} {what}": number
            for name, started in self.steady.items()
            for what, number in of_process(started.pid).items()
        }
        try:
            client = self._valkey.client()
            found["redis clients"] = len(client.client_list())
            found["unread messages"] = sum(self._length(client, key) for key in client.scan_iter("*onboard*"))
            client.close()
        except RedisError:
            pass
        try:
            with psycopg.connect(self._postgres.url.replace("+psycopg", ""), connect_timeout=5) as direct:
                row = direct.execute("select count(*) from pg_stat_activity where backend_type = 'client backend'")
                found["sessions"] = (row.fetchone() or (0,))[0]
        except psycopg.Error:
            pass
        return found

    @staticmethod
    def _length(client: Redis, key: Any) -> int:
        return int(client.llen(key)) if client.type(key) == b"list" else 0

    def archived(self) -> int:
        """Return how many files are in the archive."""
        return len(list((self.drop / "archive").glob("*/*/file/*")))

    def end(self) -> None:
        """End every process; the steady ones must be there still."""
        for name, started in self.steady.items():
            assert started.alive, f"{name} has ended:\n{started.said()}"
        for started in (*self.steady.values(), self.other):
            started.signal(signal.SIGTERM)
        for started in (*self.steady.values(), self.other):
            assert started.wait(60) == 0, started.said()


def grown(samples: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Return what has grown: name -> median of the second tenth of the samples and of the last."""
    tenth = max(1, len(samples) // 10)
    found = {}
    for name in samples[-1].keys() - {"minute"}:
        before, after = (
            median([one[name] for one in part if name in one] or [0.0])
            for part in (samples[tenth : 2 * tenth], samples[-tenth:])
        )
        least = 1.0 if name.endswith("MB") else LEAST
        if after - before > max(least, MOST_GROWTH * before) and after > POOLS.get(name, 0):
            found[name] = before, after
    return found


def table(samples: list[dict[str, float]]) -> str:
    """Return a Markdown table of ten moments."""
    moments = [samples[(len(samples) - 1) * at // 9] for at in range(10)]
    names = [name for name in moments[0] if name != "minute"]
    lines = ["| | " + " | ".join(f"{one['minute']:.0f} min" for one in moments) + " |", "|---" * 11 + "|"]
    for name in names:
        cells = [f"{one[name]:.0f}" if name in one else "-" for one in moments]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> int:
    """Soak, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        Simulator(latency_ms=50) as simulator,
        Valkey() as valkey,
        Postgres() as postgres,
    ):
        folder = Path(name)
        soak = Soak(folder, simulator, valkey, postgres)
        wait_until((soak.drop / "inbox").is_dir, 60, "the watcher")
        restarts = soak.restart()
        samples: list[dict[str, float]] = []
        begun, files = time.monotonic(), 0
        sample_at, restart_at = begun + 30, begun + RESTART_SECONDS
        while (now := time.monotonic()) < begun + given.minutes * 60:
            files += 1
            write_csv(folder / f"{files}.csv", ROWS, prefix=f"cus_{files}_").rename(
                soak.drop / "inbox" / f"{files}.csv"
            )
            if now >= restart_at:
                next(restarts)()
                soak.restarts += 1
                restart_at = now + RESTART_SECONDS
            if now >= sample_at:
                samples.append({"minute": (now - begun) / 60, **soak.sample()})
                sample_at = now + SAMPLE_SECONDS
                if given.json:
                    given.json.write_text(json.dumps(samples))
            time.sleep(max(0.0, now + FILE_SECONDS - time.monotonic()))
        wait_until(lambda: soak.archived() == files, 900, "the end of every file")
        soak.end()
        at_the_simulator(soak.command, simulator, files * ROWS)
        leaks = grown(samples)
        print(table(samples))
        print(f"{files} files, {files * ROWS} rows, {soak.restarts} restarts; none doubled, none lost")
        for what, (before, after) in leaks.items():
            print(f"GROWN: {what} from {before:.0f} to {after:.0f}")
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
