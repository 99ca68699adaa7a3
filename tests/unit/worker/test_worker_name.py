"""A worker's name belongs to one living worker of a fleet; a dead one's can be had at once, or after its lease."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tasks import process_identity
from tasks.errors import SettingsError
from tasks.send.rate_limit import connect, hold_key
from worker.worker_name import WorkerName

KEY = "onboard:worker:test:onboard-1@machine"


def name(redis_url: str, lease_seconds: float = 60.0, sleep: Callable[[float], None] | None = None) -> WorkerName:
    return WorkerName(
        redis_url,
        "test",
        "onboard-1@machine",
        lease_seconds=lease_seconds,
        sleep=sleep or (lambda _seconds: pytest.fail("nothing is to be waited for")),
    )


def held_by(redis_url: str, owner: str, beat: int = 1) -> str:
    return hold_key(connect(redis_url, connections=1), KEY, f"{owner} ", beat, 60.0)


def of_process(pid: int) -> str:
    return f"{process_identity.host()} {pid} {process_identity.started(pid)}"


def test_a_free_name_is_taken_kept_and_given_up(redis_url: str) -> None:
    mine = name(redis_url)
    mine.take()
    mine.take()
    assert held_by(redis_url, "elsewhere 1 1").startswith(of_process(os.getpid()))
    mine.release()
    assert held_by(redis_url, "elsewhere 1 1") == "elsewhere 1 1 1"
    mine.release()
    assert held_by(redis_url, "another 1 1") == "elsewhere 1 1 1", "only its own is given up"


def test_the_name_of_a_living_worker_of_this_machine_is_refused_at_once(redis_url: str) -> None:
    held_by(redis_url, of_process(os.getppid()))
    with pytest.raises(SettingsError, match="another worker of this fleet has the name onboard-1@machine"):
        name(redis_url).take()


def test_the_name_of_a_dead_worker_of_this_machine_is_had_at_once(redis_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        held_by(redis_url, of_process(process.pid))
        process.kill()
    name(redis_url).take()
    assert held_by(redis_url, "elsewhere 1 1").startswith(of_process(os.getpid()))


def test_the_name_of_a_worker_elsewhere_is_refused_as_soon_as_it_gives_a_sign_of_life(redis_url: str) -> None:
    held_by(redis_url, "elsewhere 1 1")
    with pytest.raises(SettingsError, match="another worker"):
        name(redis_url, sleep=lambda _seconds: held_by(redis_url, "elsewhere 1 1", beat=2) and None).take()


def test_the_name_of_a_worker_elsewhere_is_had_when_it_gives_no_sign_of_life(redis_url: str) -> None:
    held_by(redis_url, "elsewhere 1 1")
    waited: list[float] = []
    name(redis_url, lease_seconds=0.05, sleep=waited.append).take()
    assert waited
    assert held_by(redis_url, "elsewhere 1 1", beat=2).startswith(of_process(os.getpid()))


def test_a_redis_that_does_not_answer_keeps_no_worker_from_starting() -> None:
    name("redis://127.0.0.1:9/0").take()
