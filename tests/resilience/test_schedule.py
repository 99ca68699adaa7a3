"""Nights by the clock: a window that opens late or closes in mid-run."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from conftest import ROWS, Night
from factories import wait_until
from judge import at_the_simulator
from machines import Valkey
from test_watcher import Drop, logged

ZONE = ZoneInfo("Asia/Tokyo")
#: A request that left in time may be counted by the simulator so much later.
ON_ITS_WAY_SECONDS = 1.0


def wall(at: float) -> str:
    """A moment as a time of day, to the second."""
    return datetime.fromtimestamp(at, ZONE).strftime("%H:%M:%S")


def window(opens_in: float, closes_in: float) -> tuple[dict[str, Any], float, float]:
    """Settings of a window around now, and when it opens and closes."""
    now = float(int(time.time()))
    opens, closes = now + opens_in, now + closes_in
    return {"ONBOARD_NOT_BEFORE": wall(opens), "ONBOARD_UNTIL": wall(closes)}, opens, closes


@pytest.mark.representative
def test_a_window_that_closes_in_mid_run_sends_nothing_afterwards_and_goes_on_the_next_night(night: Night) -> None:
    night.simulator.control(latency_ms=100)
    settings, _, closes = window(-60, 12)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=20, **settings)
    file = night.file()
    said = night.run(command, file).json(90)
    assert (said["exit"], said["state"]) == (3, "running")
    counts = said["books"]
    assert counts["open"] > 0
    assert counts["created"] + counts["open"] == ROWS
    statistics = night.judge(
        command, said, exit_code=3, created=counts["created"], open=counts["open"], sources=counts["created"]
    )
    assert statistics["requests"]["listSources"] == 5, "the sample: nothing was left in doubt"
    assert not statistics["last_create_at"] or statistics["last_create_at"] < closes + ON_ITS_WAY_SECONDS
    summary = json.loads(Path(said["reports"]["summary"]).read_text())
    assert f"{counts['open']} rows wait for the next night" in summary["verdict"]["more"]
    assert summary["times"]["goes_on_at"]
    assert "rows wait for the next night" in said["stderr"]
    command.environment.update(ONBOARD_NOT_BEFORE="", ONBOARD_UNTIL="", ELEPAY_REQUESTS_PER_SECOND="150")
    assert command.json("status", 1)["state"] == "interrupted"
    night.judge(command, night.start(command, "resume", 1, "--at-any-time", "--json").json(90))


def test_a_run_before_its_window_waits_for_the_opening(night: Night) -> None:
    _, opens, closes = window(8, 600)
    command = night.machine()
    said = night.run(command, night.file(), "--not-before", wall(opens), "--until", wall(closes)).json(90)
    assert "nothing is sent before" in said["stderr"]
    statistics = night.judge(command, said)
    assert statistics["first_create_at"] >= opens


def test_workers_of_a_fleet_keep_to_their_window_whoever_rings(night: Night, valkey: Valkey, postgres_url: str) -> None:
    settings, opens, _ = window(15, 600)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    night.fleet(night.machine(**place, **settings))
    rings = night.machine(**place)
    said = night.run(rings, night.file(), "--no-workers").json(90)
    statistics = night.judge(rings, said)
    assert statistics["first_create_at"] >= opens


def test_a_watched_file_that_the_night_leaves_unfinished_is_reported_and_goes_on(night: Night) -> None:
    night.simulator.control(latency_ms=100)
    settings, _, closes = window(-60, 20)
    drop = Drop(night.folder / "drop")
    settings |= {"ONBOARD_DROP_FOLDER": drop.root, "ONBOARD_SETTLE_SECONDS": 0.5}
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=10, **settings)
    drop.file("a.csv")
    started = night.start(command, "watch")
    wait_until(lambda: any(drop.outbox.glob("*-night-*/manifest.json")), 60, "the report of the night")
    (folder,) = drop.outbox.iterdir()
    assert folder.name == f"1-a-night-{datetime.fromtimestamp(closes, ZONE):%Y-%m-%d}"
    summary = json.loads((folder / "summary.json").read_text())
    counts = summary["books"]
    assert counts["balance"]
    assert counts["open"] > 0
    assert f"{counts['open']} rows wait for the next night" in summary["verdict"]["more"]
    assert len(drop.claims()) == 1
    started.signal(signal.SIGTERM)
    assert started.wait() == 3
    again = night.start(command, "watch", "--json")
    wait_until(lambda: logged(again, "claim of a watcher that ended taken over"), 30, "its taking over")
    again.signal(signal.SIGTERM)
    assert again.wait() == 3
    assert list(drop.outbox.iterdir()) == [folder], "one night, one report"
    command.environment.update(ONBOARD_NOT_BEFORE="", ONBOARD_UNTIL="", ELEPAY_REQUESTS_PER_SECOND="150")
    assert command("resume", 1, "--at-any-time").returncode == 0
    assert night.start(command, "watch", "--once", "--json").json(90)["exit"] == 0
    assert set(drop.published()) == {folder.name, "1-a"}
    at_the_simulator(command, night.simulator, ROWS)
    night.note(rows=ROWS)
