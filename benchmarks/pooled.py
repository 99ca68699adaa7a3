"""Measures what a ledger behind pgbouncer, in transaction mode, costs a fleet.

    .venv/bin/python benchmarks/pooled.py [--rows 3000] [--rounds 3]

Two workers of a fleet send a file at 100 requests a second, and another without a limit, first with the PostgreSQL
ledger as it is and then with pgbouncer (Debian's package) in between, which has four sessions for all of them. Prints
the pace of each in rows/s, the mean of the seconds but the first two and the last two, and their ratio.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tasks.ledger import Ledger  # noqa: E402
from tests.factories import MeasuredCommand, Simulator, write_csv  # noqa: E402
from tests.pooler import Pooler  # noqa: E402
from tests.postgres import new_database, postgres_server  # noqa: E402
from worker.embedded_redis import EmbeddedRedis  # noqa: E402

WORKERS = 2


def pace(folder: Path, simulator: Simulator, redis_url: str, ledger_url: str, rows: int, limit: int) -> float:
    """Let a fleet send a file; return its rows/s."""
    command = MeasuredCommand(
        folder,
        simulator,
        REDIS_URL=redis_url,
        LEDGER_URL=ledger_url,
        ELEPAY_REQUESTS_PER_SECOND=limit,
        ONBOARD_HOME=folder / "home",
    )
    command.json("status")
    fleet = [command.start("worker", "--name", f"fleet-{number}") for number in range(WORKERS)]
    try:
        said = command.json("run", "--no-workers", write_csv(folder / "a.csv", rows), timeout=600)
        assert said["books"]["created"] == rows, said
        assert "nothing is sent" not in said["stderr"], said["stderr"]
    finally:
        for worker in fleet:
            worker.terminate()
        errors = [worker.communicate(timeout=60)[1] for worker in fleet]
    assert not any("nothing is sent" in each for each in errors), errors
    ledger = Ledger.open(ledger_url)
    sent = ledger.queries.sent_per_second(int(said["batch"]))
    ledger.close()
    seconds = sorted(sent)[2:-2]
    return float(mean(sent.get(second, 0) for second in range(seconds[0], seconds[-1] + 1)))


def main() -> int:
    """Measure, and print one line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with postgres_server() as server, Simulator() as simulator:
        socket_folder = Path(server.split()[0].removeprefix("host="))
        for limit in (100, 0):
            ratios = []
            for _ in range(given.rounds):
                found = {}
                for way in ("direct", "pooled"):
                    rows = given.rows if limit else given.rows * 20
                    simulator.post("reset")
                    with (
                        tempfile.TemporaryDirectory() as name,
                        new_database(server) as direct,
                        EmbeddedRedis(Path(name)) as valkey,
                        Pooler(socket_folder) as pooler,
                    ):
                        database = direct.split("@/")[1].split("?")[0]
                        url = direct if way == "direct" else pooler.url(database)
                        found[way] = pace(Path(name), simulator, valkey.url, url, rows, limit)
                ratios.append(found["pooled"] / found["direct"])
                print(f"limit {limit}: direct {found['direct']:.0f}, pooled {found['pooled']:.0f}: {ratios[-1]:.3f}")
            print(f"limit {limit}: median {median(ratios):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
