"""Nights in which elepay, or the way to it, answers badly."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROWS, Night
from judge import faults_of, rows_of
from machines import pause

#: Fault -> what the night needs besides: how it strikes, other knobs, settings of ours.
SHORT = {
    "ONBOARD_READ_TIMEOUT_SECONDS": 1,
    "ONBOARD_CONNECT_TIMEOUT_SECONDS": 1,
    "ONBOARD_TOTAL_TIMEOUT_SECONDS": 2,
    "ONBOARD_LEASE_SECONDS": 7,
}
CREATED_BUT = {
    "commit_then_drop_connection": {},
    "commit_then_500_S001000": {},
    "html_502_after_commit": {},
    "malformed_201": {},
    "empty_201": {},
    "commit_then_hang": SHORT,
    "slow_drip": SHORT,
    "late_commit": SHORT,
}
NOT_CREATED = {
    "drop_before_commit": {},
    "error_500_before_commit": {},
    "html_502": {},
    "hang_before_commit": SHORT,
}
NOT_TAKEN = {"throttled": 0.5, "http_429_with_retry_after": 0.02}


@pytest.mark.parametrize("fault", CREATED_BUT)
def test_an_answer_lost_after_creation_is_found_and_never_asked_for_again(night: Night, fault: str) -> None:
    night.simulator.control(
        **{fault: 0.2}, latency_ms=10, hang_seconds=10, drip_seconds=4, late_commit_seconds=1.6, visibility_lag_ms=200
    )
    command = night.machine(**CREATED_BUT[fault])
    said = night.run(command, night.file()).json()
    statistics = night.judge(command, said)
    struck = faults_of(statistics)
    assert 40 <= struck <= 80
    assert statistics["requests"]["createSource"] == ROWS, "nothing was sent twice"
    assert sum(row.adopted for row in rows_of(command, said["batch"])) == struck


@pytest.mark.parametrize("fault", NOT_CREATED)
def test_a_request_lost_before_creation_is_sent_again_once_it_is_surely_absent(night: Night, fault: str) -> None:
    night.simulator.control(**{fault: 0.2}, latency_ms=10, hang_seconds=10)
    command = night.machine(**NOT_CREATED[fault])
    said = night.run(command, night.file()).json()
    statistics = night.judge(command, said)
    struck = faults_of(statistics)
    assert struck >= 40
    assert statistics["requests"]["createSource"] == ROWS + struck, "once more for each that surely was lost"


@pytest.mark.representative
def test_everything_lost_at_once_brings_one_source_a_row(night: Night, place: dict[str, Any]) -> None:
    night.simulator.control(
        commit_then_drop_connection=0.15,
        commit_then_500_S001000=0.05,
        drop_before_commit=0.05,
        error_500_before_commit=0.05,
        html_502=0.05,
        html_502_after_commit=0.05,
        malformed_201=0.05,
        empty_201=0.02,
        throttled=0.005,
        list_500=0.1,
        latency_ms=10,
        jitter_ms=20,
        visibility_lag_ms=200,
    )
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=400, **place)
    if place:
        night.fleet(command)
    said = night.run(command, night.file(500), *(["--no-workers"] if place else [])).json()
    statistics = night.judge(command, said, rows=500)
    assert faults_of(statistics) >= 200


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_a_throttling_storm_slows_the_fleet_and_refuses_nobody(night: Night, fault: str) -> None:
    night.simulator.control(**{fault: NOT_TAKEN[fault]}, latency_ms=10, max_faults_per_key=4, retry_after_seconds=1)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=400)
    said = night.run(command, night.file()).json(120)
    statistics = night.judge(command, said)
    assert statistics["throttled"] >= 4
    if fault == "throttled":
        sample, times = 5, 4 + 1  # a row is throttled four times at most
        delayed = ROWS // 10  # a busy machine may keep an answer so long that its row is looked up
        assert statistics["requests"]["listSources"] <= sample * times + delayed, "elepay's own word is not unclear"
    else:
        assert statistics["requests"]["listSources"] >= 2 * faults_of(statistics), "a bare status is"


def test_a_ceiling_below_our_limit_is_found_and_respected(night: Night) -> None:
    night.simulator.control(max_requests_per_second=50, latency_ms=10)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=200)
    said = night.run(command, night.file()).json()
    statistics = night.judge(command, said)
    assert statistics["throttled"] < ROWS, "most requests are taken"


def test_elepay_out_of_reach_for_twenty_seconds_costs_nothing_but_time(night: Night) -> None:
    night.simulator.control(latency_ms=30)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=100)
    started = night.run(command, night.file())
    night.until_asked(60)
    night.simulator.post("offline", seconds=20)
    pause(20)
    said = started.json(40)
    night.judge(command, said)
    assert said["seconds"] > 20


def test_elepay_out_of_reach_for_longer_than_allowed_halts_and_goes_on_later(night: Night) -> None:
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=100, ONBOARD_UNREACHABLE_SECONDS=2)
    file = night.file()
    started = night.run(command, file)
    night.until_asked(60)
    night.simulator.post("offline", seconds=9)
    said = started.json()
    assert said["exit"] == 3
    assert said["state"] == "halted"
    assert "could not be reached" in said["state_reason"]
    assert said["books"]["open"] + said["books"]["unclear"] + said["books"]["created"] == ROWS
    pause(max(0.0, 9 - said["seconds"]) + 1)
    night.judge(command, night.start(command, "resume", said["batch"], "--json").json())
