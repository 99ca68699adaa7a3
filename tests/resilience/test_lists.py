"""Nights in which elepay's lists prove nothing: never a second source, a person decides instead."""

from __future__ import annotations

import pytest
from conftest import ROWS, Night
from judge import faults_of, rows_of

BLIND = {
    "truncated": {"list_truncate_at": 0},
    "without metadata": {"list_metadata": False},
    "only active ones": {"list_only_active": True},
    "failing": {"list_500": 1.0, "max_faults_per_key": 1000},
}


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.representative
def test_a_list_that_proves_nothing_never_leads_to_a_second_source(night: Night, kind: str) -> None:
    night.simulator.control(commit_then_drop_connection=0.1, latency_ms=10)
    command = night.machine(ONBOARD_LOOK_UPS=2, ONBOARD_MAINTENANCE_SECONDS=3)
    started = night.run(command, night.file())
    night.until_asked(1)  # until the sample is taken: with failing lists nothing would begin
    night.simulator.control(**BLIND[kind])
    said = started.json()
    statistics = night.simulator.statistics()
    lost = statistics["faults"]["commit_then_drop_connection"]
    assert lost >= 15
    night.judge(command, said, exit_code=1, created=ROWS - lost, unclear=lost, sources=ROWS)
    assert statistics["requests"]["createSource"] == ROWS
    listed = command.json("resolve")
    assert len(listed["unclear"]) == lost, "each of them waits for a person, in plain sight"
    night.simulator.control(list_truncate_at=None, list_metadata=True, list_only_active=False, list_500=0.0)
    night.judge(command, command.json("retry", said["batch"]))


def test_a_list_that_lags_behind_is_waited_for(night: Night) -> None:
    night.simulator.control(commit_then_drop_connection=0.1, latency_ms=10, visibility_lag_ms=4000)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    said = night.run(command, night.file()).json(90)
    statistics = night.judge(command, said)
    assert statistics["requests"]["createSource"] == ROWS
    assert sum(row.adopted for row in rows_of(command, said["batch"])) == faults_of(statistics)


def test_without_any_control_source_an_empty_list_is_not_believed(night: Night) -> None:
    """Every answer is lost and lists hide what is pending: nothing tells a lost request from a lost answer."""
    night.simulator.control(
        commit_then_drop_connection=1.0, list_only_active=True, latency_ms=10, max_faults_per_key=1000
    )
    command = night.machine(
        ONBOARD_LOOK_UPS=6, ONBOARD_MAINTENANCE_SECONDS=8
    )  # no row comes to a person before the halt
    file = night.file()
    said = night.run(command, file).json()
    assert (said["exit"], said["state"]) == (3, "halted")
    assert "nothing definite" in said["state_reason"]
    asked = night.asked()
    assert 20 <= asked <= 100, "it stopped by itself"
    assert said["books"] == {**said["books"], "created": 0, "unclear": asked, "open": ROWS - asked}
    night.simulator.control(commit_then_drop_connection=0.0, list_only_active=False)
    night.judge(command, night.start(command, "resume", said["batch"], "--json").json(90))


def test_a_first_minute_in_which_every_request_is_lost_is_made_good(night: Night) -> None:
    night.simulator.control(drop_before_commit=1.0, latency_ms=10, max_faults_per_key=1000)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    started = night.run(command, night.file())
    night.until_asked(30)
    night.simulator.control(drop_before_commit=0.0)
    statistics = night.judge(command, started.json(90))
    assert faults_of(statistics) >= 30
