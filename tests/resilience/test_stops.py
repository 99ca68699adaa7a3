"""Nights that are stopped: by a revoked key, a wrong mode, maintenance, a signal."""

from __future__ import annotations

import csv
import signal

import pytest
from conftest import ROWS, Night
from factories import KEY, wait_until
from judge import rows_of
from machines import Valkey, pause


@pytest.mark.representative
def test_a_key_revoked_in_mid_run_halts_and_the_new_key_goes_on(night: Night) -> None:
    night.simulator.control(latency_ms=50)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=80)
    file = night.file()
    started = night.run(command, file)
    night.until_asked(80)
    night.simulator.control(accepted_keys=["sk_test_9876543210"])
    halted = started.json()
    assert (halted["exit"], halted["state"]) == (3, "halted")
    assert "ELEPAY_SECRET_KEY" in halted["state_reason"]
    assert halted["books"]["refused"] == halted["books"]["unclear"] == 0
    assert KEY not in halted["stderr"] + str(halted)
    command.environment["ELEPAY_SECRET_KEY"] = "sk_test_9876543210"
    unasked = night.run(command, file).json()
    assert (unasked["batch"], unasked["exit"], unasked["state"]) == (halted["batch"], 3, "halted")
    said = night.start(command, "resume", halted["batch"], "--json").json()
    night.judge(command, said)


def test_a_live_key_by_mistake_sends_nothing(night: Night) -> None:
    command = night.machine(ELEPAY_SECRET_KEY="sk_live_0123456789")
    started = night.run(command, night.file())
    assert started.wait() == 2
    assert "ELEPAY_MODE" in started.said()
    assert night.simulator.statistics()["requests"] == {}


def test_answers_of_the_other_mode_halt_at_once(night: Night) -> None:
    night.simulator.control(wrong_live_mode=1.0, latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    said = night.run(command, night.file()).json()
    assert (said["exit"], said["state"]) == (3, "halted")
    created = said["books"]["created"]
    assert 1 <= created <= 40, "no more than was under way"
    night.judge(command, said, exit_code=3, created=created, open=ROWS - created, sources=created)


def test_a_key_of_another_account_halts_after_the_first_answers_and_refuses_nothing(night: Night) -> None:
    night.simulator.control(missing_prefix="cus_", latency_ms=200)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=100)
    file = night.file()
    halted = night.run(command, file).json()
    assert (halted["exit"], halted["state"]) == (3, "halted")
    assert "does not exist" in halted["state_reason"]
    assert halted["books"]["refused"] == 0, "not those either whose answers came after the halt"
    assert night.asked() < ROWS
    night.simulator.control(missing_prefix="missing_")
    night.judge(command, night.start(command, "resume", halted["batch"], "--json").json())


def test_maintenance_of_the_system_is_waited_for(night: Night) -> None:
    night.simulator.control(S002000_window={"share": 1.0, "after_seconds": 1, "for_seconds": 5}, latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=80)
    said = night.run(command, night.file()).json(90)
    statistics = night.judge(command, said)
    assert 1 <= statistics["faults"]["S002000_window"] <= ROWS, "the gaps grow"


def test_maintenance_of_one_provider_holds_up_its_own_rows_only(night: Night) -> None:
    night.simulator.control(S002001_window={"share": 1.0, "for_seconds": 600}, S002001_methods=["paidy"], latency_ms=20)
    file = night.folder / "two.csv"
    with file.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(["customer_id", "payment_method", "resource"])
        writer.writerows([f"cus_{n:04d}", ("creditcard", "paidy")[n % 2], "ios"] for n in range(ROWS))
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=80)
    started = night.run(command, file)
    wait_until(lambda: night.simulator.statistics()["created"] >= ROWS / 2, 30, "the other method's rows")
    night.simulator.control(S002001_window={"share": 0.0})
    statistics = night.judge(command, started.json(90))
    assert statistics["faults"]["S002001_window"] < ROWS


def test_a_method_closed_in_mid_run_refuses_its_other_rows_unsent(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(ONBOARD_BREAKER_ANSWERS=0, ELEPAY_REQUESTS_PER_SECOND=60)
    started = night.run(command, night.file())
    night.until_asked(60)
    night.simulator.control(disabled_methods=["creditcard"])
    said = started.json()
    created = said["books"]["created"]
    statistics = night.judge(command, said, exit_code=1, created=created, refused=ROWS - created, sources=created)
    assert 50 <= created < ROWS
    assert statistics["requests"]["createSource"] <= created + 40, "no more than was under way"
    refused = [row for row in rows_of(command, said["batch"]) if row.state == "refused"]
    assert {row.code for row in refused} == {"M001001", "method_closed"}


def test_a_worker_told_to_end_finishes_or_gives_back_what_it_holds(night: Night, valkey: Valkey) -> None:
    night.simulator.control(latency_ms=400)
    command = night.machine(REDIS_URL=valkey.url, ELEPAY_REQUESTS_PER_SECOND=50)
    first, _ = night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(50)
    first.signal(signal.SIGTERM)
    assert first.wait(20) == 0
    statistics = night.judge(command, started.json())
    assert statistics["requests"]["listSources"] == 5, "the sample: nothing was left in doubt"


@pytest.mark.parametrize("gap", [0.05, 0.5])
def test_a_second_ctrl_c_is_immediate_and_loses_nothing(night: Night, gap: float) -> None:
    night.simulator.control(latency_ms=3000)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0)
    file = night.file()
    started = night.run(command, file)
    night.until_asked(40)
    workers = started.workers()
    started.signal(signal.SIGINT)
    pause(gap)
    started.signal(signal.SIGINT)
    assert started.wait() == 3  # on a busy machine by its watchdog, which prints no JSON
    wait_until(lambda: not [pid for pid in workers if pid in started.workers()], what="the workers' end")
    night.simulator.control(latency_ms=10)
    night.judge(command, night.run(command, file).json())


def test_a_pause_in_mid_run_holds_and_resume_goes_on(night: Night, valkey: Valkey) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(REDIS_URL=valkey.url, ELEPAY_REQUESTS_PER_SECOND=20)
    night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(60)
    assert command("pause", 1).returncode == 0
    assert started.json()["state"] == "paused"
    before = night.asked()
    pause(2)
    assert night.asked() == before
    assert command("resume", 1).returncode == 0
    night.judge(command, command.until_finished(1))
