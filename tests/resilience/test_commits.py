"""Nights in which a process dies at, or the disk refuses, a commit of the send loop."""

from __future__ import annotations

import resource
from typing import Any

import pytest
from conftest import ROWS, Night
from judge import count_history, rows_of
from machines import pause

from tests import warm

#: A worker kills itself at a commit that marks rows, as often as there are numbers in the folder to take.
DIES = """
import os, pathlib, signal, sys
if sys.argv[1:2] == ["worker"]:
    from tasks.ledger.leases import Leases
    record_and_mark, deaths, commits = Leases.record_and_mark, pathlib.Path({folder!r}), [0]

    def die():
        for death in deaths.glob("*"):
            try:
                death.unlink()
            except FileNotFoundError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(self, worker, outcomes, to_send, lease_seconds, **more):
        commits[0] += bool(to_send)
        if to_send and commits[0] == 3 and {when!r} == "before":
            die()
        result = record_and_mark(self, worker, outcomes, to_send, lease_seconds, **more)
        if to_send and commits[0] == 3 and {when!r} == "after":
            die()
        return result

    Leases.record_and_mark = dying
"""
DEATHS = 6


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.representative
def test_killed_at_a_commit_doubles_and_loses_nothing(night: Night, place: dict[str, Any], when: str) -> None:
    """Before: outcomes are lost that elepay has given. After: rows are marked that never leave."""
    night.simulator.control(latency_ms=50)
    deaths, patch = night.folder / "deaths", night.folder / "dies.py"
    deaths.mkdir()
    for number in range(DEATHS):
        (deaths / str(number)).touch()
    patch.write_text(DIES.format(folder=str(deaths), when=when))
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60, **{warm.PATCH: patch}, **place)
    if place:
        night.fleet(command)
    started = night.run(command, night.file(), *(["--no-workers"] if place else []))
    while place and started.alive:
        dead = [one for one in night.started if one is not started and not one.alive and one.process.returncode == -9]
        missing = len(dead) + 2 - (len(night.started) - 1)
        night.fleet(command, max(0, missing))
        pause(0.2)
    said = started.json(120)
    night.kills = DEATHS - len(list(deaths.iterdir()))
    night.judge(command, said)
    assert night.kills >= 4
    lost = count_history(command, "worker died")
    assert lost >= night.kills, "rows were in doubt"
    adopted = sum(row.adopted for row in rows_of(command, said["batch"]))
    assert adopted if when == "before" else adopted < lost


@pytest.mark.representative
def test_a_disk_that_is_full_under_the_ledger_stops_the_sending_and_loses_nothing(night: Night) -> None:
    """The limit on file sizes stands for the full disk: SQLite's log cannot grow, and the write fails the same way."""
    night.simulator.control(latency_ms=20)
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=60)
    started = night.run(command, night.file())
    night.until_asked(60)
    workers = started.workers()
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
    assert night.until_quiet(5) < ROWS, "nothing is sent that is not on disk"
    for pid in workers:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    night.judge(command, started.json(90))
