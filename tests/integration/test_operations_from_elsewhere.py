"""Operations serve a door that is no terminal: a small web application, the real simulator, a real ledger."""

from __future__ import annotations

import ast
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import uvicorn
import web_door
from factories import Command, Simulator, wait_until, write_csv

from tasks.models import BatchState
from tasks.services import Services
from tasks.settings import load_settings

MOST_LINES = 60


@pytest.fixture
def onboard(tmp_path: Path, simulator: Simulator) -> Command:
    """The commands of the same installation."""
    return Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")


@pytest.fixture
def services(onboard: Command) -> Services:
    """What the web door works with: the same ledger, the same key."""
    names = ("ELEPAY_", "ONBOARD_", "LEDGER_URL", "REDIS_URL", "HOME")
    settings = {name: value for name, value in onboard.environment.items() if name.startswith(names)}
    return Services(load_settings(settings, folder=onboard.folder))


@contextlib.contextmanager
def served(services: Services) -> Iterator[str]:
    """Serve the web door on a free port; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(web_door.app(services), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        wait_until(lambda: server.started, what="the start of the web door")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
    services.ledger.close()


def post(url: str, **form: str) -> requests.Response:
    return requests.post(url, json=form, headers={"x-user": "sato"}, timeout=30)


def test_a_web_door_resolves_an_unclear_row(onboard: Command, services: Services, simulator: Simulator) -> None:
    simulator.control(commit_then_drop_connection=1.0, list_500=1.0, max_faults_per_key=1000)
    batch = onboard.json("run", write_csv(onboard.folder / "u.csv", 2))["batch"]
    simulator.control(commit_then_drop_connection=0.0, list_500=0.0)
    with served(services) as url:
        row, other = requests.get(f"{url}/unclear", timeout=30).json()
        source = next(each["id"] for each in simulator.sources() if each["reference"] == row["reference"])
        address = f"{url}/batches/{batch}/rows/{row['line']}"
        absent = post(address, decision="absent")
        assert (absent.status_code, source in absent.json()["error"]) == (409, True), "elepay has it"
        assert post(address, decision="created", source="src_none").status_code == 409, "elepay has no such source"
        created = post(address, decision="created", source=source)
        assert (created.status_code, created.json()["counts"]["created"]) == (200, 1)
        assert post(f"{url}/batches/{batch}/rows/{other['line']}", decision="give_up").status_code == 200
        assert requests.get(f"{url}/unclear", timeout=30).json() == []
        deeds = [(line["record"], line["who"]) for line in services.ledger.history.lines(batch) if line["who"]]
    assert deeds == [(1, "sato@pages"), (2, "sato@pages")]
    assert simulator.statistics()["references"]["doubled_count"] == 0


def test_a_web_door_approves_a_canary(onboard: Command, services: Services, simulator: Simulator) -> None:
    file = write_csv(onboard.folder / "c.csv", 12)
    batch = onboard.json("run", "--canary", 3, file)["batch"]
    with served(services) as url:
        approved = post(f"{url}/batches/{batch}/approve")
        assert (approved.status_code, approved.json()["state"]) == (200, BatchState.RUNNING)
        assert post(f"{url}/batches/{batch}/approve").status_code == 409, "it does not wait any more"
        assert services.ledger.history.lines(batch)[-1]["who"] == "sato@pages"
    done = onboard.json("run", file)
    assert (done["exit"], done["books"]["created"], simulator.statistics()["created"]) == (0, 12, 12)


def test_the_web_door_is_small_and_knows_operations_alone() -> None:
    source = Path(web_door.__file__).read_text("utf-8")
    imported = {node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    ours = {name for name in imported if name.startswith(("tasks", "worker"))}
    assert len(source.splitlines()) <= MOST_LINES
    assert {name for name in ours if not name.startswith("tasks.operations.")} == {"tasks.errors", "tasks.services"}
