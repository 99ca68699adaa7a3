"""Fixtures: a real ledger (SQLite and PostgreSQL), a real Valkey, the simulator as a process."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import chain, count, groupby, islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import factories
from factories import Simulator, empty
from postgres import Ledgers, new_database, postgres_server
from tls import certificate

from tasks.ledger import Ledger
from tests import warm
from worker.embedded_redis import EmbeddedRedis

RESILIENCE, WAITS, PAGES, UNIT = (
    f"{Path(__file__).parent / name}{os.sep}" for name in ("resilience", "integration/waits", "pages", "unit")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make resilience` gives it."""
    parser.addoption(
        "--resilience",
        action="store_true",
        help="every disaster, and searches at full length, instead of one test for each class of disaster",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say how far searches go before the modules with their sizes are imported; start what all processes share."""
    factories.searches_at_full_length = bool(config.getoption("--resilience"))
    if config.getoption("numprocesses", None):
        warm.share()
    else:
        gc.disable()  # until everything is loaded


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose by `--resilience`: all that is marked so, or what is not and the first case of each representative."""
    chosen, left, seen = [], [], set()
    for item in items:
        if _is_in(RESILIENCE, item=item):
            item.add_marker("resilience")
        disaster = item.get_closest_marker("resilience") is not None
        if config.getoption("--resilience"):
            runs = disaster
        else:
            function, one = item.nodeid.partition("[")[0], item.get_closest_marker("representative")
            runs = not disaster or (one is not None and (function not in seen or bool(one.kwargs.get("every_case"))))
            seen.add(function)
        (chosen if runs else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = _dealt(chosen, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


_states = count(1)


def _is_in(*folders: str, item: pytest.Item) -> bool:
    return str(item.path).startswith(folders)


def _dealt(items: list[pytest.Item], processes: int) -> list[pytest.Item]:
    """Let each process, which gets a part of the list, begin with its share of what takes long: unit tests are last.

    What mostly waits is dealt one by one, to half of the processes: the others have work for the processor meanwhile.
    All pages are one process's, which starts the browser for them. All else is dealt by files, whose tests share
    fixtures.
    """
    waiting, pages, short = (
        [item for item in items if _is_in(*folders, item=item)] for folders in ((RESILIENCE, WAITS), (PAGES,), (UNIT,))
    )
    others = [item for item in items if not _is_in(RESILIENCE, WAITS, PAGES, UNIT, item=item)]
    long: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for at, item in enumerate(waiting):
        long[at % -(-processes // 2)].append(item)
    long[-1] += pages
    for _, file in groupby(others, lambda item: item.path):
        min(long, key=len).extend(file)
    rest = iter(short)
    share = -(-len(items) // processes)
    parts = [[*part, *islice(rest, max(0, share - len(part)))] for part in long]
    return [*chain.from_iterable(parts), *rest]


def pytest_collection_finish() -> None:
    """Look for cycles from now on, but not among what is loaded by now: it stays."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    """End what starts our processes: the processes of tests have ended."""
    warm.stop()
    gc.collect()
    gc.freeze()  # else pytest looks at everything five times at the end: seconds in each process


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    state = (
        tmp_path_factory.getbasetemp() / f"state{next(_states)}"
    )  # where a test's commands put what they are not told
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    for name in list(os.environ):
        if name.startswith(("ELEPAY_", "ONBOARD_")) or name in ("REDIS_URL", "LEDGER_URL"):
            monkeypatch.delenv(name)


@pytest.fixture
def trusted_certificate(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a certificate for localhost that our client trusts; it is reached without a proxy."""
    folder = certificate(tmp_path_factory)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "cert"))
    monkeypatch.setenv("no_proxy", "localhost")
    return folder


@pytest.fixture(scope="session")
def postgres_folder() -> Iterator[str]:
    """A real PostgreSQL from a wheel."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_ledgers(postgres_folder: str) -> Ledgers:
    """Ledgers on it that tests use one after another."""
    return Ledgers(postgres_folder)


@pytest.fixture(scope="session")
def sqlite_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a ledger that nobody uses, to be copied."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.db"
    Ledger.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest, postgres_folder: str) -> Iterator[str]:
    """A database, as LEDGER_URL takes it: empty, but for tests that have it opened as a `ledger`."""
    opened = "ledger" in request.fixturenames
    lent = request.getfixturevalue("postgres_ledgers").lent() if opened else new_database(postgres_folder)
    with lent as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same tests on both kinds of ledger."""
    if request.param == "sqlite":
        if "ledger" in request.fixturenames:
            shutil.copyfile(request.getfixturevalue("sqlite_ledger"), tmp_path / "ledger.db")
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """An empty ledger."""
    ledger = Ledger.open(ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture(scope="session")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One for tests to which it is only the place of their rows, and which leave nothing in it but rows.

    What takes time is not only its making: every ledger compiles its statements anew.
    """
    ledger = Ledger.open(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def emptied_ledger(shared_ledger: Ledger) -> Ledger:
    """The shared one, with nothing in it."""
    return empty(shared_ledger)


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A real Valkey of this test's own."""
    with EmbeddedRedis(tmp_path) as server:
        yield server.url


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """elepay on localhost without faults; `simulator.control(...)` adds some."""
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    """One simulator for a file; starting one for each test would take most of the time."""
    with Simulator() as running:
        yield running


@pytest.fixture
def reset_simulator(shared_simulator: Simulator) -> Simulator:
    """It as if just started."""
    shared_simulator.post("reset", profile="clean", seed=1)
    return shared_simulator
