"""Celery's own command line finds the app at `-A worker`, and a worker that it starts sends rows."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from factories import ROOT, Command, Simulator, wait_until, write_csv

from tasks.send.rate_limit import connect


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


def test_a_second_worker_of_one_name_is_refused_and_a_restarted_one_is_not(fleet: Command) -> None:
    write_csv(fleet.folder / "a.csv", 2)
    assert fleet("status").returncode == 0

    def holds(name: str) -> bool:
        return bool(connect(fleet.environment["REDIS_URL"]).keys(f"onboard:worker:*:{name}@*"))

    worker = fleet.start("worker", "--name", "one")
    wait_until(lambda: holds("onboard-one"), 60, "the first worker")
    second = fleet("worker", "--name", "one")
    assert second.returncode == 2
    assert "another worker of this fleet has the name onboard-one@" in second.stderr
    third = celery(fleet, "worker", "--pool", "threads", "-n", f"onboard-one@{socket.gethostname()}")
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 2, said
    assert "another worker of this fleet has the name" in said
    assert "Traceback" not in said
    worker.kill()
    worker.communicate(timeout=10)
    again = fleet.start("worker", "--name", "one")
    wait_until(lambda: fleet.json("run", "--no-wait", fleet.folder / "a.csv")["exit"] == 0, 60, "its successor")
    assert again.poll() is None
    again.terminate()
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert not holds("onboard-one"), "a worker that is told to end gives its name up"
