"""Fixtures: a real ledger (SQLite and PostgreSQL), a real Valkey, the simulator as a process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from factories import Simulator, new_database, postgres_server

from tasks.ledger import Ledger
from worker.private_server import PrivateServer


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # where a test's commands put what they are not told
    for name in list(os.environ):
        if name.startswith(("ELEPAY_", "ONBOARD_")) or name in ("REDIS_URL", "LEDGER_URL"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """A real PostgreSQL from a wheel."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_folder: str) -> Iterator[str]:
    """An empty database, as LEDGER_URL takes it."""
    with new_database(postgres_folder) as url:
        yield url


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
