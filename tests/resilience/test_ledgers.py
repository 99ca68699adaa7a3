"""Nights in which the ledger, or the disk for the reports, is not there for a while."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
from pathlib import Path

import pytest
from conftest import ROWS, Night
from factories import wait_until
from machines import Postgres, Valkey, pause


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.representative
def test_a_postgresql_that_restarts_in_mid_run_loses_and_doubles_nothing(
    night: Night, valkey: Valkey, postgres: Postgres, mode: str
) -> None:
    night.simulator.control(latency_ms=30)
    command = night.machine(
        REDIS_URL=valkey.url, LEDGER_URL=postgres.url, ELEPAY_REQUESTS_PER_SECOND=60, ONBOARD_LEASE_SECONDS=45
    )
    night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    for nth in (1, 2, 3):
        night.until_asked(nth * 50)
        postgres.stop(mode)
        pause(0.3 * nth)
        postgres.start()
    night.judge(command, started.json(150))


def test_a_ledger_locked_by_another_writer_for_ten_seconds_only_waits(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    started = night.run(command, night.file())
    night.until_asked(60)
    with contextlib.closing(sqlite3.connect(command.home / "ledger.db", isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        pause(1)
        before = night.asked()
        pause(9)
        assert night.asked() == before < ROWS, "nothing is sent that is not on disk"
        other.execute("ROLLBACK")
    night.judge(command, started.json())


def test_a_disk_that_is_full_when_reports_are_written_leaves_no_half_set(
    night: Night, valkey: Valkey, postgres_url: str
) -> None:
    """The limit on file sizes stands for the full disk: it needs no root, and the write fails the same way."""
    command = night.machine(REDIS_URL=valkey.url, LEDGER_URL=postgres_url, ELEPAY_REQUESTS_PER_SECOND=100)
    night.fleet(command)
    started = night.run(command, night.file(), "--no-workers")
    night.until_asked(20)
    resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (16_384, 16_384))
    said = started.json()
    assert said["exit"] == 1
    assert "onboard report" in said["error"]
    reports = command.home / "reports" / str(said["batch"])
    assert not (reports / "manifest.json").exists()
    again = command.json("report", said["batch"])
    night.judge(command, again)
    manifest = json.loads((reports / "manifest.json").read_text())
    assert {Path(path).name for path in again["reports"].values()} >= {"results.csv", "failures.csv", "report.html"}
    assert manifest
    assert not list(reports.glob("*.tmp*")) + list(reports.glob("*.part*"))


def test_a_ledger_that_cannot_be_reached_stops_the_start_with_a_sentence(night: Night) -> None:
    command = night.machine(LEDGER_URL="postgresql+psycopg://postgres@127.0.0.1:9/ledger")
    started = night.run(command, night.file(3))
    assert started.wait() == 2
    said = started.said()
    assert "the ledger failed" in said
    assert "Traceback" not in said
    wait_until(lambda: night.asked() == 0, 1)
