"""Celery's own command line finds the app at `-A worker`, and a worker that it starts sends rows."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from factories import ROOT, Command, Simulator, wait_until, write_csv


@pytest.fixture
def fleet(tmp_path: Path, simulator: Simulator, redis_url: str) -> Command:
    """Settings of a fleet."""
    return Command(tmp_path, simulator, REDIS_URL=redis_url, LEDGER_URL=f"sqlite:///{tmp_path / 'fleet.db'}")


def celery(fleet: Command, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker", *words],
        cwd=ROOT,
        env=fleet.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_celery_finds_the_app_and_its_tasks(fleet: Command) -> None:
    process = celery(fleet, "call", "--help")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    process = celery(fleet, "report")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "'onboard.follow_up'" in said
    assert "task_default_queue: 'onboard'" in said


def test_settings_that_will_not_do_are_a_sentence_of_celery_too(fleet: Command) -> None:
    fleet.environment["ELEPAY_REQUESTS_PER_SECOND"] = "many"
    process = celery(fleet, "report")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert "ELEPAY_REQUESTS_PER_SECOND" in said
    assert "Traceback" not in said


def test_a_worker_that_celery_starts_sends_rows_once_and_ends_in_order(
    fleet: Command, simulator: Simulator, tmp_path: Path
) -> None:
    assert fleet("status").returncode == 0
    process = celery(fleet, "worker", "--pool", "threads", "--loglevel", "WARNING")
    said = fleet.json("run", "--no-workers", write_csv(tmp_path / "a.csv", 60))
    assert said["books"]["created"] == 60
    assert simulator.statistics()["references"]["doubled_count"] == 0
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: process.poll() is not None, 60, "the end of the worker")
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0, out
