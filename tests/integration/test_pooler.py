"""A ledger behind pgbouncer in transaction mode: the next transaction may have another session of the server."""

from __future__ import annotations

from pathlib import Path

from factories import Command, Simulator, new_row, new_worker, running_batch, whole, write_csv
from pooler import Pooler

from tasks.ledger import Ledger


def database(url: str) -> str:
    """Return the name of a database from its URL."""
    return url.split("@/")[1].split("?", maxsplit=1)[0]


def test_behind_a_pooler_every_row_is_sent_at_once(
    tmp_path: Path, simulator: Simulator, postgres_url: str, postgres_folder: str
) -> None:
    """Prepared statements, and limits of a session, were somebody else's: a quarter of the pace, and strange errors."""
    with Pooler(Path(postgres_folder.split(maxsplit=1)[0].removeprefix("host=")), sessions=2) as pooler:
        command = Command(tmp_path, simulator, LEDGER_URL=pooler.url(database(postgres_url)))
        said = command.json("run", "--workers", 2, write_csv(tmp_path / "a.csv", 1000))
        assert (said["exit"], said["books"]["created"]) == (0, 1000), said["stderr"]
        logs = "".join(path.read_text() for path in (command.home / "logs").glob("*.log"))
        for trouble in ("nothing is sent", "reaping failed", "held up", "lease lost"):
            assert trouble not in logs + said["stderr"]


def test_clients_of_one_session_do_not_meet_each_others_statements(postgres_url: str, postgres_folder: str) -> None:
    with Pooler(Path(postgres_folder.split(maxsplit=1)[0].removeprefix("host=")), sessions=1) as pooler:
        ledgers = [Ledger.open(pooler.url(database(postgres_url))) for _ in range(3)]
        batches = [  # the fifth time, a statement would be prepared
            running_batch(ledger, [new_row(n, customer=f"{number}_{at}_{n}") for n in range(1, 21)])
            for at, ledger in enumerate(ledgers)
            for number in range(7)
        ]
        hands = [new_worker(ledger) for ledger in ledgers]
        held = [
            new_worker.ledger.leases.claim(whole(batch), new_worker.number) for batch in batches for new_worker in hands
        ]
        assert sum(map(len, held)) == 20 * len(batches)
        for ledger in ledgers:
            ledger.close()


def test_a_direct_connection_still_prepares_its_statements(postgres_url: str) -> None:
    direct = Ledger.open(postgres_url)
    batch = running_batch(direct, 20)
    for _ in range(50):
        direct.batches.get(batch)
    with direct.engine.read() as connection:
        assert connection.exec_driver_sql("select count(*) from pg_prepared_statements").scalar_one() > 0
    direct.close()
