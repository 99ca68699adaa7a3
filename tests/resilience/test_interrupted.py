"""Nights whose command is killed, stopped or asleep: its batch goes on only when somebody names it."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from conftest import ROWS, Night
from factories import write_csv
from machines import Valkey, kill, pause
from sqlalchemy import create_engine, text


def sent_of(night: Night, prefix: str) -> int:
    """How many sources of these customers exist."""
    return sum(source["customerId"].startswith(prefix) for source in night.simulator.sources())


def test_an_interrupted_batch_is_left_alone_by_the_next_run_of_another_file(
    night: Night, place: dict[str, Any]
) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60, **place)
    file = night.file()
    started = night.run(command, file)
    night.until_asked(60)
    workers = started.workers()
    started.kill()
    for pid in workers:
        kill(pid)
    night.kills += 1
    before = sent_of(night, "cus_")
    other = night.run(command, write_csv(night.folder / "other.csv", 40, prefix="other_")).json()
    assert (other["exit"], other["books"]["created"]) == (0, 40)
    assert "batch 1 (customers.csv) is interrupted" in other["stderr"]
    assert "onboard resume 1" in other["stderr"]
    assert sent_of(night, "cus_") == before
    assert command.json("status", 1)["state"] == "interrupted"
    night.simulator.control(latency_ms=5)
    night.judge(command, night.run(command, file).json(), sources=ROWS + 40)


@pytest.mark.representative
def test_a_fleet_leaves_the_batch_of_a_killed_run_alone_until_it_is_resumed(
    night: Night, valkey: Valkey, postgres_url: str
) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(REDIS_URL=valkey.url, LEDGER_URL=postgres_url, ELEPAY_REQUESTS_PER_SECOND=60)
    night.fleet(command)
    started = night.run(command, night.file())
    night.until_asked(60)
    started.kill()
    night.kills += 1
    pause(4)  # its workers end by themselves; those of the fleet sweep and ring twice
    before = night.asked()
    assert command.json("status", 1)["state"] == "interrupted"
    pause(3)
    assert night.asked() == before
    done = command("resume", 1)
    assert done.returncode == 0
    assert "the fleet's workers send it" in done.stdout
    night.judge(command, command.until_finished(1))
    engine = create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(text("select runner from batches")).scalar_one() is None
    engine.dispose()


def test_a_run_that_was_frozen_past_its_lease_takes_its_batch_back(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(
        ELEPAY_REQUESTS_PER_SECOND=30,
        ONBOARD_READ_TIMEOUT_SECONDS=1,
        ONBOARD_CONNECT_TIMEOUT_SECONDS=1,
        ONBOARD_TOTAL_TIMEOUT_SECONDS=2,
        ONBOARD_LEASE_SECONDS=7,
    )
    started = night.run(command, night.file())
    night.until_asked(30)
    frozen = [started.pid, *started.workers()]
    for pid in frozen:
        kill(pid, signal.SIGSTOP)
    pause(8)
    assert command.json("status", 1)["state"] == "interrupted"
    for pid in frozen:
        kill(pid, signal.SIGCONT)
    said = started.json(90)
    assert said["state"] == "finished"
    night.judge(command, said)


def test_beside_a_watcher_commands_hand_their_work_to_it(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(
        ONBOARD_DROP_FOLDER=night.folder / "drop", ONBOARD_SCAN_SECONDS=1, ONBOARD_SETTLE_SECONDS=0.5
    )
    watcher = night.start(command, "watch", "--workers", 2)
    inbox = night.folder / "drop" / "inbox"
    night.until(inbox.is_dir, "the watcher's start")
    pause(1)
    said = night.run(command, night.file()).json()
    assert "a watcher is at work in this folder" in said["stderr"]
    assert said["exit"] == 0
    night.judge(command, said)
    assert command("follow-up").returncode == 0, "it does not wait for the watcher's end"
    night.simulator.control(latency_ms=200)
    file = write_csv(night.folder / "second.csv", 400, prefix="second_")
    second = night.run(command, file)
    night.until(lambda: sent_of(night, "second_") >= 20, "rows of the second file")
    watcher.signal(signal.SIGTERM)
    assert watcher.wait(60) == 0
    left = second.json()
    assert left["exit"] == 3
    assert "the watcher has ended" in left["stderr"]
    night.simulator.control(latency_ms=5)
    last = night.run(command, file).json()
    assert (last["exit"], last["books"]["created"], last["batch"]) == (0, 400, left["batch"])
    assert night.simulator.statistics()["references"]["doubled_count"] == 0
