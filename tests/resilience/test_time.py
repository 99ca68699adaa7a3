"""Nights in which time goes wrong: a frozen process, a clock an hour off, a row deadline that passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Night
from factories import ROOT
from judge import at_the_simulator
from machines import Valkey, frozen, kill, pause

SHORT = {
    "ONBOARD_READ_TIMEOUT_SECONDS": 1,
    "ONBOARD_CONNECT_TIMEOUT_SECONDS": 1,
    "ONBOARD_TOTAL_TIMEOUT_SECONDS": 2,
    "ONBOARD_LEASE_SECONDS": 7,
}
SHIFT = """
import time
_real = time.time
time.time = lambda: _real() + ({hours}) * 3600
"""


@pytest.mark.parametrize("stage", ["while the run goes on", "after the run"])
@pytest.mark.representative
def test_a_worker_frozen_past_its_lease_sends_nothing_when_it_wakes(
    night: Night, valkey: Valkey, postgres_url: str, stage: str
) -> None:
    night.simulator.control(latency_ms=300)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    late = stage == "after the run"
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=100 if late else 20, **place, **SHORT)
    sleeper, _ = night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(60)
    with frozen(sleeper.pid):
        if late:
            said = started.json(90)
        else:
            pause(12)
    said = said if late else started.json(90)
    pause(2)
    night.judge(command, said)
    assert sleeper.alive, "it goes on working for the fleet"
    at_the_simulator(command, night.simulator, 300)


def test_all_workers_frozen_together_double_nothing_when_they_wake(night: Night) -> None:
    night.simulator.control(latency_ms=200)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60, **SHORT)
    started = night.run(command, night.file())
    night.until_asked(60)
    workers = started.workers()
    with frozen(workers[0]), frozen(workers[1]):
        pause(11)
    night.judge(command, started.json(90))


@pytest.mark.parametrize("hours", [1, -1])
def test_a_machine_whose_clock_is_an_hour_off_works_like_any_other(
    night: Night, valkey: Valkey, postgres_url: str, hours: int
) -> None:
    night.simulator.control(latency_ms=20, commit_then_drop_connection=0.1, drop_before_commit=0.05, throttled=0.02)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    shifted = night.folder / "shifted"
    shifted.mkdir()
    (shifted / "sitecustomize.py").write_text(SHIFT.format(hours=hours))
    right = night.machine(**place)
    wrong = night.machine(**place, PYTHONPATH=f"{shifted}:{ROOT}")
    night.fleet(right, 1), night.fleet(wrong, 1)
    said = night.run(right, night.file(), "--no-workers").json(60)
    night.judge(right, said)
    assert said["seconds"] < 60


def test_a_frozen_worker_that_is_killed_in_its_sleep_leaves_nothing_behind(night: Night) -> None:
    night.simulator.control(latency_ms=200)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60, **SHORT)
    started = night.run(command, night.file())
    night.until_asked(60)
    victim = started.workers()[0]
    with frozen(victim):
        pause(1)
        night.kills += kill(victim)
    night.judge(command, started.json(60))


def test_the_shift_of_the_clock_is_real(tmp_path: Path) -> None:
    """The night above proves something only if the other clock really is off."""
    import subprocess
    import sys
    import time

    (tmp_path / "sitecustomize.py").write_text(SHIFT.format(hours=1))
    said = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert 3500 < float(said) - time.time() < 3700
