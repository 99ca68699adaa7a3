"""Fixtures of the resilience tests: whatever one starts ends with it; its figures are printed at the end."""

from __future__ import annotations

import json
import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from factories import Command, Simulator, wait_until, write_csv
from judge import faults_of, judge
from machines import Postgres, Started, Valkey, pause

#: The nights' own pace: two workers, small slices, short waits.
SETTINGS = {
    "ONBOARD_WORKERS": 2,
    "ONBOARD_SLICE_ROWS": 50,
    "ONBOARD_IN_FLIGHT": 20,
    "ONBOARD_LOOK_UP_DELAY_SECONDS": 0.5,
    "ONBOARD_LIST_LAG_SECONDS": 2,
    "ELEPAY_REQUESTS_PER_SECOND": 150,
}
ROWS = 300


@dataclass
class Night:
    """One night: the simulator, the machine, the file, and what is under way."""

    folder: Path
    simulator: Simulator
    dice: random.Random
    record: Callable[[str, object], None]
    started: list[Started] = field(default_factory=list)
    kills: int = 0
    machines: int = 0

    def machine(self, **settings: Any) -> Command:
        """A machine with a folder of its own."""
        self.machines += 1
        folder = self.folder / f"machine{self.machines}"
        folder.mkdir()
        return Command(folder, self.simulator, **{**SETTINGS, **settings})

    def file(self, rows: int = ROWS, name: str = "customers.csv", **more: Any) -> Path:
        """A clean file."""
        return write_csv(self.folder / name, rows, **more)

    def start(self, command: Command, *arguments: object, **more: Any) -> Started:
        """Start a command and go on."""
        one = Started(command, len(self.started), *arguments, **more)
        self.started.append(one)
        return one

    def run(self, command: Command, file: Path, *arguments: object) -> Started:
        """Start `onboard run` and go on."""
        return self.start(command, "run", file, "--json", *arguments)

    def fleet(self, command: Command, count: int = 2) -> list[Started]:
        """Start `onboard worker` as often."""
        return [self.start(command, "worker", "--name", f"{command.folder.name}-{n}") for n in range(count)]

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        """Wait until something has come true."""
        wait_until(condition, seconds, what)

    def asked(self, operation: str = "createSource") -> int:
        """How many requests the simulator has seen."""
        return int(self.simulator.statistics()["requests"].get(operation, 0))

    def until_asked(self, requests: int, seconds: float = 60.0) -> None:
        """Wait until the simulator has been asked to create so many sources."""
        wait_until(lambda: self.asked() >= requests, seconds, f"{requests} requests")

    def until_quiet(self, quiet_seconds: float) -> int:
        """Wait until nothing has been asked for so long, after what may still have left; return how often it was."""
        asked, since = self.asked(), time.monotonic()
        while time.monotonic() - since < quiet_seconds:
            pause(0.1)
            if (now := self.asked()) != asked:
                asked, since = now, time.monotonic()
        return asked

    def judge(self, command: Command, said: dict[str, Any], *, rows: int = ROWS, **expected: Any) -> dict[str, Any]:
        """Judge a batch and note the figures."""
        self.note(rows=rows)
        statistics = judge(command, self.simulator, said, rows=rows, **expected)
        self.note(faults=faults_of(statistics), kills=self.kills)
        return statistics

    def note(self, **figures: int) -> None:
        """Note figures for docs/engineering/guarantees.md."""
        for name, number in figures.items():
            self.record(name, number)


@pytest.fixture
def night(
    tmp_path: Path, simulator: Simulator, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Night]:
    """A night with the simulator at its best; its dice are seeded by its name."""
    one = Night(tmp_path, simulator, random.Random(zlib.crc32(request.node.name.encode())), record_property)
    yield one
    for started in one.started:
        started.end()


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A Redis at a loopback port."""
    with Valkey() as server:
        yield server


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this night's own."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["one-machine", "fleet"])
def place(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where a night happens: one machine without any set-up, or a fleet with PostgreSQL and Redis."""
    if request.param == "one-machine":
        return {}
    redis: Valkey = request.getfixturevalue("valkey")
    ledger: str = request.getfixturevalue("postgres_url")
    return {"REDIS_URL": redis.url, "LEDGER_URL": ledger}


_figures: dict[str, dict[str, Any]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.user_properties:
        _figures[report.nodeid] = {
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
            **dict(report.user_properties),
        }


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what docs/engineering/guarantees.md quotes; RESILIENCE_FIGURES names a file that gets it as JSON."""
    if not _figures:
        return
    terminalreporter.section("figures of the resilience tests")
    for nodeid, figures in _figures.items():
        told = "  ".join(f"{name} {value}" for name, value in figures.items())
        terminalreporter.write_line(f"{nodeid.split('::')[-1]}: {told}")
    total = {
        name: sum(int(figures.get(name, 0)) for figures in _figures.values()) for name in ("rows", "faults", "kills")
    }
    terminalreporter.write_line(f"in all: {total}, {len(_figures)} nights")
    path = os.environ.get("RESILIENCE_FIGURES")
    if path:
        Path(path).write_text(json.dumps({"resilience": _figures, "total": total}, indent=1))
