"""The services of docker-compose.yml as processes of this machine: their commands, settings, secrets and health checks.

What only containers have (networks, read-only file systems, users) is not tried here: docs/run/containers.md says when
it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from consoles import PASSWORD, Browser
from deployed import DOCKERFILE, OURS, SERVICES, filled_in, in_image, seconds
from factories import ROOT, wait_until, write_csv
from listeners import free_port
from postgres import new_database

from tests import warm
from worker.embedded_redis import find_server

#: Started in this order; `sample` is a `cp`.
STARTED = ("simulator", "worker", "watcher", "beat", "console")


class Fleet:
    """Every service of ours as a process, in one folder that stands for volumes and secrets."""

    def __init__(self, folder: Path, ledger_url: str) -> None:
        self.folder = folder
        self.ports = {port: free_port() for port in ("6379", "8130", "8140")}
        self.processes: dict[str, warm.Process] = {}
        shutil.copy(ROOT / "Makefile", folder)
        subprocess.run(["make", "secrets"], cwd=folder, check=True, timeout=20, capture_output=True)
        (folder / "secrets" / "ledger_url").write_text(ledger_url)
        self._metrics = {name: free_port() for name in ("worker", "watcher")}

    def here(self, text: str, name: str = "") -> str:
        """Return a text of the compose file, or of the image, as it is on this machine."""
        text = text.replace("rough_night", "clean").replace("9464", str(self._metrics.get(name, 0)))
        for host, port in (("broker", "6379"), ("simulator", "8130")):
            text = text.replace(f"{host}:{port}", f"127.0.0.1:{self.ports[port]}")
        for port, free in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(free), text)
        for place in ("/run/secrets", "/var/lib/onboard", "/srv/drop"):
            text = text.replace(place, str(self.folder / Path(place).name))
        return text.replace("0.0.0.0", "127.0.0.1")

    def environment(self, name: str) -> dict[str, str]:
        """What a service finds in its environment."""
        given = {key: filled_in(str(value)) for key, value in OURS[name].get("environment", {}).items()}
        image = {key: value for key, value in in_image().items() if key.startswith("ONBOARD_")}
        own = {key: value for key, value in os.environ.items() if not key.startswith(("ELEPAY_", "ONBOARD_"))}
        return {**own, **{key: self.here(value, name) for key, value in {**image, **given}.items()}}

    def start(self, name: str) -> None:
        """Start a service of ours."""
        words = [self.here(word, name) for word in OURS[name]["command"]]
        environment = {**self.environment(name), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("a") as log:
            self.processes[name] = warm.start(
                "worker.cli",
                *words,
                environment=environment,
                folder=self.folder,
                stdout=log.fileno(),
                stderr=log.fileno(),
            )

    def onboard(self, name: str, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Do what `docker compose exec NAME onboard …` does."""
        environment = {**self.environment(name), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "worker.cli", *words]
        return subprocess.run(
            command, env=environment, cwd=self.folder, input=typed, capture_output=True, text=True, timeout=60
        )

    def is_healthy(self, name: str) -> bool:
        """Run a service's own health check."""
        check = OURS[name].get("healthcheck", {}).get("test") or ["CMD", *json.loads(of_image())]
        kind, *words = [self.here(word, name) for word in check]
        command = ["sh", "-c", *words] if kind == "CMD-SHELL" else [sys.executable, *words[1:]]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0


def of_image() -> str:
    found = re.search(r"^ *CMD (\[\"python.*\])$", DOCKERFILE, re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, postgres_folder: str) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("compose")
    with ExitStack() as stack:
        fleet = Fleet(folder, stack.enter_context(new_database(postgres_folder)))
        words = [
            *SERVICES["broker"]["command"][1:],
            "--port",
            fleet.ports["6379"],
            "--bind",
            "127.0.0.1",
            "--dir",
            folder,
        ]
        broker = subprocess.Popen([find_server(), *map(str, words)], stdout=subprocess.DEVNULL)
        stack.callback(broker.wait, 20)
        stack.callback(broker.terminate)
        stack.callback(
            lambda: [one.send_signal(signal.SIGKILL) for one in fleet.processes.values() if one.poll() is None]
        )
        yield fleet


def test_the_services_start_become_healthy_take_a_file_and_end(fleet: Fleet) -> None:
    assert not any(map(fleet.is_healthy, STARTED)), "a check that says so of what does not run is none"
    refused = fleet.onboard(
        "console", *[fleet.here(word).replace("127.0.0.1", "0.0.0.0") for word in OURS["console"]["command"]]
    )
    assert (refused.returncode, "nobody has to sign in" in refused.stderr) == (2, True)
    added = fleet.onboard("console", "console", "add-user", "hana.suzuki", "--role", "approver", typed=PASSWORD)
    assert added.returncode == 0, added.stderr
    for name in STARTED:
        fleet.start(name)
    for name in STARTED:
        wait_until(lambda name=name: fleet.is_healthy(name), 60, f"the health of {name}")

    program, source, target = OURS["sample"]["entrypoint"]
    dropped = write_csv(fleet.folder / Path(source).name, 40)
    subprocess.run([program, dropped, fleet.here(target)], check=True)
    drop = Path(fleet.here("/srv/drop"))
    wait_until(lambda: list(drop.glob("outbox/1-*/report.html")), 60, "the reports")
    wait_until(lambda: list(drop.glob("archive/*/1/file/*")), 60, "the archive")
    assert fleet.onboard("watcher", "status", "1").returncode == 0

    browser = Browser(f"http://127.0.0.1:{fleet.ports['8140']}")
    assert browser.sign_in("hana.suzuki").status_code == 303
    assert "40 created" in browser.get("/batches/1").text

    for name in reversed(STARTED):
        started = time.monotonic()
        fleet.processes[name].send_signal(signal.SIGTERM)
        assert fleet.processes[name].wait(60) == 0, (fleet.folder / f"{name}.log").read_text()
        assert time.monotonic() - started < seconds(OURS[name].get("stop_grace_period", "10s"))
    logs = "".join(path.read_text() for path in fleet.folder.glob("*.log"))
    assert not any(word in logs for word in ("sk_test_demo", "cus_000001", PASSWORD))
