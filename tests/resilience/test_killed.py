"""Nights in which processes die by kill -9."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

import pytest
from conftest import ROWS, Night
from factories import Command, wait_until
from judge import rows_of
from machines import kill, pause


def workers_of(night: Night, place: dict[str, Any], started: Any) -> list[int]:
    """The workers that may be killed: the command's own, or the fleet's."""
    if place:
        return [one.pid for one in night.started if one is not started and one.alive]
    return started.workers()


@pytest.mark.representative
def test_a_worker_killed_five_times_doubles_and_loses_nothing(night: Night, place: dict[str, Any]) -> None:
    night.simulator.control(latency_ms=150, jitter_ms=100)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=50, **place)
    if place:
        night.fleet(command)
    started = night.run(command, night.file(), *(["--no-workers"] if place else []))
    for nth in range(1, 6):
        night.until_asked(nth * 20)
        pause(night.dice.random() * 0.4)
        night.kills += kill(night.dice.choice(workers_of(night, place, started)))
        if place:
            night.fleet(command, 1)
    night.judge(command, started.json())
    assert night.kills == 5


def test_all_workers_killed_between_request_and_answer_leave_no_row_behind(night: Night, place: dict[str, Any]) -> None:
    night.simulator.control(latency_ms=4000)  # the source exists at once, its answer comes late
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0, **place)
    if place:
        night.fleet(command)
    started = night.run(command, night.file(), *(["--no-workers"] if place else []))
    night.until_asked(55)  # 20 have been answered: a batch starts slowly
    for pid in workers_of(night, place, started):
        night.kills += kill(pid)
    night.simulator.control(latency_ms=10)
    if place:
        night.fleet(command)
    said = started.json()
    night.judge(command, said)
    adopted = sum(row.adopted for row in rows_of(command, said["batch"]))
    assert adopted >= 30, "sources without an answer are found, not made again"


def test_a_source_that_comes_into_being_after_its_worker_died_is_found(night: Night) -> None:
    night.simulator.control(late_commit={"share": 1.0, "for_seconds": 2.0}, late_commit_seconds=1.2)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0, ONBOARD_LOOK_UP_DELAY_SECONDS=1.0)
    started = night.run(command, night.file())
    night.until_asked(40)
    for pid in started.workers():
        night.kills += kill(pid)
    night.judge(command, started.json())


def test_the_whole_command_killed_and_started_again_goes_on(night: Night) -> None:
    night.simulator.control(latency_ms=200)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=80)
    file = night.file()
    for nth in range(1, 4):
        started = night.run(command, file)
        night.until_asked(nth * 50)
        pause(night.dice.random() * 0.3)
        workers = started.workers()
        started.kill()
        night.kills += 1
        if nth != 2:  # the second time they are left to find out by themselves
            night.kills += sum(kill(pid) for pid in workers)
    said = night.run(command, file).json()
    assert said["batch"] == 1, "the same batch goes on"
    night.judge(command, said)


def test_killed_at_any_moment_of_a_commit_doubles_and_loses_nothing(night: Night) -> None:
    night.simulator.control(latency_ms=15, jitter_ms=15)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=120, ONBOARD_WORKERS=3)
    started = night.run(command, night.file(600))
    while night.kills < 12 and started.alive and night.asked() < 560:
        before = night.asked()
        wait_until(lambda seen=before: night.asked() > seen or not started.alive, 30, "a request")
        pause(night.dice.random() * 0.1)
        workers = started.workers()
        if workers:
            night.kills += kill(night.dice.choice(workers))
    night.judge(command, started.json(), rows=600)
    assert night.kills >= 5


def test_a_reader_killed_in_the_middle_of_the_file_leaves_nothing_behind(night: Night) -> None:
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0)
    started = night.run(command, night.file(200_000))
    wait_until(lambda: _being_read(command), 30, "the first rows")
    started.kill()
    night.kills += 1
    assert _being_read(command), "the file was read to its end before the kill"
    said = night.run(command, night.file(ROWS)).json()
    night.judge(command, said)


def _being_read(command: Command) -> bool:
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(command.home / "ledger.db")) as db,
    ):
        found = db.execute("select state, (select max(record) from rows) from batches").fetchall()
        return [state for state, last in found if last] == ["reading"]
    return False
