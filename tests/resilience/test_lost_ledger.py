"""Nights after the ledger was lost: every identity is looked up before it is sent."""

from __future__ import annotations

import signal

import pytest
from conftest import ROWS, Night
from factories import Command, wait_until
from judge import at_the_simulator, count_history, rows_of
from test_watcher import Drop

OLD = 250


def lose_the_ledger(command: Command) -> None:
    """Let all of it be gone, and begin anew: nobody has a backup."""
    for path in command.home.glob("ledger.db*"):
        path.unlink()
    assert command("ledger", "create").returncode == 0


@pytest.mark.representative
def test_after_a_lost_ledger_verify_first_creates_nothing_twice(night: Night) -> None:
    """Half of the old customers have a second generation; the run is interrupted, and goes on verifying."""
    night.simulator.control(latency_ms=10)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0)
    assert night.run(command, night.file(OLD)).json()["books"]["created"] == OLD
    assert night.run(command, night.file(OLD // 2, "half.csv"), "--again").json()["books"]["created"] == OLD // 2
    lose_the_ledger(command)
    looked_up = night.asked("listSources")
    command.environment["ELEPAY_REQUESTS_PER_SECOND"] = "100"
    file = night.file(ROWS, "all.csv")
    started = night.run(command, file, "--verify-first")
    wait_until(lambda: night.asked("listSources") >= looked_up + 40, 30, "look-ups")
    started.signal(signal.SIGINT)
    assert started.json()["exit"] == 3
    said = night.run(command, file).json(90)
    night.judge(command, said, sources=OLD + OLD // 2 + ROWS - OLD)
    rows = rows_of(command, said["batch"])
    assert [row.adopted for row in rows] == [True] * OLD + [False] * (ROWS - OLD)
    seconds = {one["id"] for one in night.simulator.sources() if str(one["reference"]).endswith("-2")}
    assert {str(row.source_id) for row in rows[: OLD // 2]} == seconds, "the newest generation is taken over"


def test_where_lists_prove_nothing_verify_first_sends_nothing(night: Night) -> None:
    command = night.machine(ONBOARD_LOOK_UPS=2, ELEPAY_REQUESTS_PER_SECOND=0)
    file = night.file()
    assert night.run(command, file).json()["books"]["created"] == ROWS
    lose_the_ledger(command)
    night.simulator.control(list_only_active=True)
    said = night.run(command, file, "--verify-first").json(90)
    night.judge(command, said, exit_code=1, created=0, unclear=ROWS, sources=ROWS)
    night.simulator.control(list_only_active=False)
    night.judge(command, night.start(command, "retry", said["batch"], "--json").json(90))


def test_files_dropped_again_after_a_lost_ledger_are_verified_by_a_watcher_that_is_told_so(night: Night) -> None:
    drop = Drop(night.folder / "drop")
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0, ONBOARD_DROP_FOLDER=drop.root, ONBOARD_SETTLE_SECONDS=0.5)
    drop.file("old.csv", OLD)
    assert night.start(command, "watch", "--once", "--json").json()["exit"] == 0
    lose_the_ledger(command)
    drop.file("all.csv", ROWS)
    assert night.start(command, "watch", "--once", "--verify-first", "--json").json()["exit"] == 0
    assert count_history(command, "found by look-up") == OLD
    at_the_simulator(command, night.simulator, ROWS)
    night.note(rows=OLD + ROWS)
