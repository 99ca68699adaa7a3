"""The places that processes get of one allowance, and the times that the allowance knows, set back and forward."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from factories import ROOT
from redis import Redis

from tests import warm

KEY = "onboard:rate"

#: What each process of a fleet does: keeps its places a little ahead of time, as a send loop does, and notes them.
#: A reservation is noted as (earliest and latest time of its first place by Redis's clock, places, seconds between).
SENDER = """
import json, sys, time
from tasks.send.rate_limit import RateLimit, connect
url, limit, seconds, wanted = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
redis = connect(url)
limiter = RateLimit(redis, limit)
def now():
    second, micro = redis.time()
    return second + micro / 1e6
redis.incr("ready")
while int(redis.get("ready")) < int(sys.argv[5]):
    time.sleep(0.01)
ends, noted, overslept = now() + seconds, [], 0.0
while (before := now()) < ends:
    reserved = limiter.reserve(wanted)
    after = now()
    if reserved.places:
        noted.append((before + reserved.wait_seconds, after + reserved.wait_seconds, reserved.places,
                      reserved.interval_seconds))
    ahead = reserved.wait_seconds + reserved.places * reserved.interval_seconds
    planned = time.monotonic() + max(0.0, ahead - 0.4)
    time.sleep(max(0.0, planned - time.monotonic()))
    overslept = max(overslept, time.monotonic() - planned)
print(json.dumps([noted, overslept]))
"""


class Fleet:
    """The places that some processes got."""

    def __init__(self, url: str, *, processes: int, limit: float, seconds: float, wanted: int) -> None:
        arguments = [url, str(limit), str(seconds), str(wanted), str(processes)]
        started = [
            warm.start("-c", SENDER, *arguments, environment=os.environ, folder=ROOT, stderr=2)
            for _ in range(processes)
        ]
        self.each: list[list[Any]] = []
        self.in_peace = False
        self.overslept = 0.0  #: the machine let a process wait so much longer than it had asked for, in seconds
        for process in started:
            out, _ = process.communicate(timeout=seconds + 60)
            assert process.returncode == 0
            noted, overslept = json.loads(out.splitlines()[-1])  # before it, the limiter may say what it has put right
            self.each.append(noted)
            self.overslept = max(self.overslept, overslept)
        reserved = sorted(one for noted in self.each for one in noted)
        self.limit = limit
        self.uncertain = max(late - early for early, late, _, _ in reserved)
        self.times = sorted(early + n * gap for early, _, places, gap in reserved for n in range(places))

    @property
    def share_used(self) -> float:
        """Places against what the limit allows from the first to the last."""
        return len(self.times) / (self.limit * (self.times[-1] - self.times[0]) + 1)

    @property
    def worst_second(self) -> int:
        """Most places in any sliding second, as far as the times are certain."""
        width, first, worst = 1.0 - self.uncertain, 0, 0
        for last, at in enumerate(self.times):
            while at - self.times[first] >= width:
                first += 1
            worst = max(worst, last - first + 1)
        return worst


def fleet_in_peace(url: str, most_seconds: float = 0.1, **given: Any) -> Fleet:
    """Return a fleet whose processes could work: a machine that keeps them waiting says nothing about the limiter.

    On a machine that never lets them it is the last of some; `in_peace` says which it is.
    """
    for _ in range(8):
        fleet = Fleet(url, **given)
        fleet.in_peace = max(fleet.overslept, fleet.uncertain) < most_seconds
        if fleet.in_peace:
            break
    return fleet


class Clock:
    """The clock of the limiters here: it goes by itself, and `let_time_pass` sets it forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


clock = Clock()


def let_time_pass(redis: Redis, seconds: float) -> None:
    """Set the limiter's times back and the limiters' clock forward, as if so many seconds had passed since."""
    clock.ahead += seconds
    set_back(redis, seconds)


def set_back(redis: Redis, seconds: float) -> None:
    """Set the limiter's times back, as if Redis's clock had gone forward by so much."""
    for name in ("tat", "cut_at", "not_before"):
        value = redis.hget(KEY, name)
        if value is not None:
            redis.hset(KEY, name, f"{float(value) - seconds * 1e6:.0f}")
    if redis.hget(KEY, "second") is not None:
        redis.hincrbyfloat(KEY, "second", -seconds)


def valkey_pid(redis: Redis) -> int:
    return int(redis.info("server")["process_id"])
