"""Nights in which several do the same thing at once."""

from __future__ import annotations

import pytest
from conftest import ROWS, Night
from factories import wait_until, write_csv
from machines import Valkey, pause
from sqlalchemy import create_engine, text


def test_one_file_dropped_at_once_on_two_machines_is_one_batch(night: Night, valkey: Valkey, postgres_url: str) -> None:
    night.simulator.control(latency_ms=20)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    here, there = night.machine(**place), night.machine(**place)
    night.fleet(here, 1), night.fleet(there, 1)
    file = night.file()
    both = [night.run(here, file, "--no-workers"), night.run(there, file, "--no-workers")]
    first, second = (one.json() for one in both)
    assert first["batch"] == second["batch"]
    night.judge(here, first)
    night.judge(there, second)


def test_one_file_dropped_at_once_in_one_folder_is_sent_once(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine()
    file = night.file()
    both = [night.run(command, file), night.run(command, file)]
    counts = sorted((said["books"]["created"], said["books"]["skipped"]) for said in (one.json() for one in both))
    assert counts == [(0, ROWS), (ROWS, 0)]
    statistics = night.simulator.statistics()
    assert statistics["created"] == statistics["references"]["total"] == ROWS


@pytest.mark.representative
def test_two_batches_that_share_customers_make_one_source_for_each(
    night: Night, valkey: Valkey, postgres_url: str
) -> None:
    night.simulator.control(latency_ms=20, commit_then_drop_connection=0.05)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    here, there = night.machine(**place), night.machine(**place)
    night.fleet(here, 1), night.fleet(there, 1)
    whole = write_csv(night.folder / "whole.csv", ROWS + 150)
    lines = whole.read_text().splitlines(keepends=True)
    files = [night.folder / "first.csv", night.folder / "second.csv"]
    files[0].write_text("".join(lines[: ROWS + 1]))
    files[1].write_text("".join(lines[:1] + lines[151:]))
    both = [night.run(here, files[0], "--no-workers"), night.run(there, files[1], "--no-workers")]
    for command, said in zip((here, there), [one.json() for one in both], strict=True):
        counts = {name: said["books"][name] for name in ("created", "skipped")}
        assert sum(counts.values()) == ROWS
        night.judge(command, said, sources=ROWS + 150, **counts)


def test_slices_rung_again_and_again_while_they_are_worked_on_send_no_row_twice(night: Night, valkey: Valkey) -> None:
    night.simulator.control(latency_ms=100)
    command = night.machine(REDIS_URL=valkey.url, ELEPAY_REQUESTS_PER_SECOND=60)
    night.fleet(command, 3)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(20)
    engine = create_engine(command.ledger_url, connect_args={"timeout": 30})
    for _ in range(12):
        with engine.begin() as connection:
            connection.execute(text("update slices set due_at = 0, rung = 0"))
        pause(0.3)
    engine.dispose()
    statistics = night.judge(command, started.json())
    assert statistics["requests"]["createSource"] == ROWS


def test_a_small_file_does_not_wait_for_a_large_one(night: Night, valkey: Valkey) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(REDIS_URL=valkey.url, ELEPAY_REQUESTS_PER_SECOND=100)
    night.fleet(command)
    large = night.run(command, night.file(1500, "large.csv"), "--no-workers")
    night.until_asked(100)
    small = night.run(command, night.file(30, "small.csv", prefix="small_"), "--no-workers").json()
    assert small["books"]["created"] == 30
    assert large.alive, "the large one still runs"
    wait_until(lambda: not large.alive, 60)
    night.judge(command, large.json(), rows=1500, sources=1530)
