"""The fleet's allowance on a real Valkey, shared by real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import ROOT, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from tasks.errors import RateLimitUnavailable
from tasks.send.rate_limit import BETWEEN_BARE_CUTS_SECONDS, PAUSE_AFTER_THROTTLING_SECONDS, RateLimit, connect, is_up
from worker.embedded_redis import EmbeddedRedis

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
            subprocess.Popen([sys.executable, "-c", SENDER, *arguments], stdout=subprocess.PIPE, cwd=ROOT, text=True)
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


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of its own to look, and to set the scene."""
    client = Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def limiter_of(redis_url: str) -> Iterator[Callable[[float], RateLimit]]:
    """Limiters with this limit, all sharing one allowance."""
    clients: list[Redis] = []

    def limiter_of(limit: float) -> RateLimit:
        clients.append(connect(redis_url))
        return RateLimit(clients[-1], limit, clock=clock)

    yield limiter_of
    for client in clients:
        client.close()


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


# ---------------------------------------------------------------------- the limit is kept and used


@pytest.mark.parametrize(("limit", "wanted"), [(100.0, 25), (500.0, 50)])
def test_four_processes_use_the_whole_limit_and_never_more(redis_url: str, limit: float, wanted: int) -> None:
    fleet = fleet_in_peace(redis_url, processes=4, limit=limit, seconds=3.5, wanted=wanted)
    assert fleet.share_used >= 0.99
    assert fleet.worst_second <= limit * 1.02
    assert len(fleet.times) >= 3.4 * limit
    assert all(noted for noted in fleet.each), "every process had its turn"


def test_places_are_evenly_apart_and_no_two_at_once(limiter_of: Callable[[float], RateLimit]) -> None:
    limiter = limiter_of(1000)
    first = limiter.reserve(1, lead_seconds=0.5)
    for _ in range(20):
        one = limiter.reserve(10)
        assert one.interval_seconds == pytest.approx(0.001)
        assert one.places == 10
    assert first.wait_seconds == pytest.approx(0.5, abs=0.01)
    last = limiter.reserve(1)
    assert 0 < last.wait_seconds <= 0.5 + 0.201, "the places lie one behind the other, from half a second ahead"


@pytest.mark.parametrize(
    ("limit", "wanted", "places"),
    [(100.0, 50, 10), (100.0, 3, 3), (500.0, 1000, 50), (9.0, 50, 1), (0.5, 50, 1), (10_000.0, 50, 50), (19.0, 50, 1)],
)
def test_at_most_a_tenth_of_a_second_is_given_at_once(
    limiter_of: Callable[[float], RateLimit], limit: float, wanted: int, places: int
) -> None:
    assert limiter_of(limit).reserve(wanted).places == places


def test_nothing_is_saved_up_while_nobody_asks(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    limiter.reserve(10)
    let_time_pass(redis, 3600)
    assert limiter.reserve(10).wait_seconds == pytest.approx(0, abs=0.001)
    assert limiter.reserve(10).wait_seconds > 0.05, "there is no burst after a rest"


def test_places_far_away_are_not_given(limiter_of: Callable[[float], RateLimit]) -> None:
    limiter = limiter_of(100)
    given = 0
    for _ in range(200):
        reserved = limiter.reserve(10)
        given += reserved.places
        if not reserved.places:
            break
    assert reserved.places == 0
    assert reserved.wait_seconds > 1
    assert given <= 150, "a second ahead at most, and what time passed meanwhile"


def test_a_low_limit_works(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(0.5)
    first = limiter.reserve(5)
    assert (first.places, first.interval_seconds) == (1, 2.0)
    assert first.wait_seconds == pytest.approx(0, abs=0.01)
    second = limiter.reserve(5)
    assert second.places == 0
    assert second.wait_seconds == pytest.approx(2.0, abs=0.5)
    let_time_pass(redis, 1.5)
    third = limiter.reserve(5)
    assert third.places == 1
    assert third.wait_seconds <= 0.5
    limiter.cut(0)
    assert limiter.current().rate == 0.5, "below one a second there is nothing to halve"


def test_looking_takes_no_place(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    for _ in range(50):
        assert limiter.current() == (100.0, 100.0, 0.0)
    assert redis.hget(KEY, "tat") is None
    assert limiter.reserve(1).wait_seconds == 0


def test_what_is_not_used_any_more_leaves_redis(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter_of(100).reserve(1)
    assert 3600 <= redis.ttl(KEY) <= 7 * 86400


def test_each_mode_has_its_own_allowance(redis_url: str) -> None:
    client = connect(redis_url)
    test, live = RateLimit(client, 10, "onboard:rate:test"), RateLimit(client, 10, "onboard:rate:live")
    test.cut(0)
    assert (test.current().rate, live.current().rate) == (pytest.approx(5, rel=0.1), 10)
    client.close()


# ---------------------------------------------------------------------- throttling


def test_throttling_halves_the_rate_of_the_whole_fleet_and_pauses_it(
    limiter_of: Callable[[float], RateLimit],
) -> None:
    mine, others = limiter_of(100), limiter_of(100)
    mine.cut(0.05)
    current = others.current()
    assert current.rate == pytest.approx(50, abs=3)
    assert 0 < current.paused_seconds <= PAUSE_AFTER_THROTTLING_SECONDS
    reserved = others.reserve(10)
    assert reserved.wait_seconds == pytest.approx(current.paused_seconds, abs=0.3)
    assert reserved.interval_seconds == pytest.approx(0.02, rel=0.1)
    assert reserved.places == 5, "a tenth of a second at the rate of now"


def test_throttling_halves_what_was_used_and_not_what_was_allowed(limiter_of: Callable[[float], RateLimit]) -> None:
    limiter = limiter_of(10_000)
    for _ in range(4):
        limiter.reserve(10)
    limiter.cut(0)
    assert limiter.current().rate < 1000, "forty requests were too many, so five thousand a second are"


def test_answers_to_requests_from_before_the_last_cut_change_nothing(
    limiter_of: Callable[[float], RateLimit], redis: Redis
) -> None:
    limiter = limiter_of(100)
    limiter.cut(0.05)
    for ago in (0.0, 0.05, 0.5, 5.0, 60.0):
        limiter.cut(ago)
    assert limiter.current().rate == pytest.approx(50, abs=5)
    let_time_pass(redis, 3)
    limiter.cut(10)
    assert limiter.current().rate > 60, "the request left before the cut"
    limiter.cut(1.5)
    assert limiter.current().rate < 40, "this one left after it"


def test_bare_statuses_halve_the_rate_less_often_than_elepays_own_word(
    limiter_of: Callable[[float], RateLimit], redis: Redis
) -> None:
    limiter = limiter_of(100)
    limiter.cut(0.05, 0, bare=True)
    let_time_pass(redis, BETWEEN_BARE_CUTS_SECONDS - 1)
    limiter.cut(0.05, 0, bare=True)
    assert limiter.current().rate > 60
    let_time_pass(redis, 1.1)
    limiter.cut(0.05, 0, bare=True)
    assert limiter.current().rate < 45
    let_time_pass(redis, 1.1)
    limiter.cut(0.05, 0)
    assert limiter.current().rate < 30


def test_a_cut_says_when_the_rate_has_recovered(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    assert limiter.cut(0.05, 0) == pytest.approx(10, abs=0.5), "half of the limit grows back in ten seconds"
    let_time_pass(redis, 1.5)
    assert limiter.cut(0.05, 0) < 7, "from a quarter to a half"
    assert limiter.cut(0.05, 30) < 7, "another answer to the same burst"
    let_time_pass(redis, 1.5)
    assert limiter.cut(0.05, 30) == pytest.approx(30, abs=1), "the pause is longer"


def test_many_throttled_answers_at_once_cut_once(redis_url: str) -> None:
    client = connect(redis_url)
    limiter = RateLimit(client, 100)
    threads = [threading.Thread(target=limiter.cut, args=(0.05,)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert 49 <= limiter.current().rate <= 60
    client.close()


def test_a_retry_after_is_kept_by_the_whole_fleet(limiter_of: Callable[[float], RateLimit]) -> None:
    limiter_of(100).cut(0.05, 7)
    others = limiter_of(100)
    assert others.current().paused_seconds == pytest.approx(7, abs=1)
    reserved = others.reserve(10)
    assert reserved.places == 0
    assert reserved.wait_seconds == pytest.approx(7, abs=1)
    limiter_of(100).cut(0.05, 0)
    assert others.current().paused_seconds > 5, "a pause is never shortened"


def test_the_rate_grows_back_step_by_step_within_a_minute(
    limiter_of: Callable[[float], RateLimit], redis: Redis
) -> None:
    limiter = limiter_of(100)
    for _ in range(5):
        limiter.cut(0)
        let_time_pass(redis, 1.1)
    seen = [limiter.current().rate]
    assert seen[0] < 25
    for _ in range(6):
        let_time_pass(redis, 10)
        seen.append(limiter.current().rate)
    assert seen == sorted(seen)
    assert seen[1] < 95, "not all at once"
    assert seen[-1] >= 95
    let_time_pass(redis, 600)
    assert limiter.current().rate == 100, "never above the limit"


def test_the_rate_has_a_floor(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    for _ in range(30):
        limiter.cut(0)
        let_time_pass(redis, 1.001)
    assert limiter.current().rate >= 1


def test_after_a_pause_the_places_follow_in_line(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    limiter.pause(0.8)
    waits = [limiter.reserve(10).wait_seconds for _ in range(3)]
    assert waits[0] == pytest.approx(0.8, abs=0.2)
    assert waits[1] - waits[0] == pytest.approx(0.1, abs=0.05)
    assert waits[2] - waits[1] == pytest.approx(0.1, abs=0.05)
    let_time_pass(redis, 0.8)
    assert limiter.current().paused_seconds == 0
    assert limiter.current().rate == 100, "a pause does not slow down"


def test_a_shorter_pause_does_not_end_a_longer_one(limiter_of: Callable[[float], RateLimit]) -> None:
    limiter = limiter_of(100)
    limiter.pause(60)
    limiter.pause(1)
    assert limiter.current().paused_seconds > 50


# ---------------------------------------------------------------------- Redis itself


def test_an_emptied_redis_starts_anew_and_whoever_knows_of_a_cut_or_a_pause_keeps_to_it(
    limiter_of: Callable[[float], RateLimit], redis: Redis
) -> None:
    knows, new = limiter_of(100), limiter_of(100)
    knows.reserve(10)
    knows.cut(0, 30)
    redis.flushall()
    redis.script_flush()
    assert new.current() == (100.0, 100.0, 0.0)
    assert knows.current().paused_seconds == pytest.approx(30, abs=5)
    reserved = knows.reserve(10)
    assert reserved.places == 0
    assert reserved.interval_seconds == pytest.approx(0.2, rel=0.2), "half of the ten that were used"
    assert new.current().paused_seconds == pytest.approx(30, abs=5), "and now all know it"


@pytest.mark.parametrize("processes", [1, 4])
def test_a_lost_key_makes_no_second_over_full_and_costs_no_pause(redis_url: str, redis: Redis, processes: int) -> None:
    over = threading.Event()

    def lose() -> None:
        while not over.wait(1.0):
            redis.delete(KEY)

    losing = threading.Thread(target=lose)
    losing.start()
    limit = 100.0
    fleet = fleet_in_peace(redis_url, processes=processes, limit=limit, seconds=4, wanted=25)
    over.set()
    losing.join(30)
    if fleet.in_peace:
        assert fleet.share_used >= 0.97
    # whoever writes the key anew may not have heard of the others' last places: a tenth of a second's worth each
    assert fleet.worst_second <= 1.04 * limit + (processes - 1) * limit / 10


@pytest.mark.parametrize("hours", [3, 24 * 365])
def test_a_clock_that_goes_back_takes_the_times_along(
    limiter_of: Callable[[float], RateLimit], redis: Redis, hours: int, capsys: pytest.CaptureFixture[str]
) -> None:
    limiter = limiter_of(100)
    limiter.cut(0.05, 2)
    set_back(redis, -hours * 3600)
    redis.hincrbyfloat(KEY, "seen", hours * 3600 * 1e6)
    now = limiter.current()
    assert now.paused_seconds == pytest.approx(2, abs=1)
    assert now.rate == pytest.approx(50, abs=5)
    assert capsys.readouterr().out.count("Redis's clock went back") == 1
    assert limiter_of(100).reserve(5).wait_seconds == pytest.approx(2, abs=1)
    assert "went back" not in capsys.readouterr().out, "it is said once"


@pytest.mark.parametrize("hours", [1 / 60, 3, 24 * 365])
def test_a_clock_that_goes_forward_ends_no_pause_and_no_cut(
    limiter_of: Callable[[float], RateLimit], redis: Redis, hours: float, capsys: pytest.CaptureFixture[str]
) -> None:
    limiter = limiter_of(100)
    limiter.reserve(10)
    limiter.cut(0.05, 30)
    before = limiter.current()
    set_back(redis, hours * 3600)
    redis.hincrbyfloat(KEY, "seen", -hours * 3600 * 1e6)
    now = limiter.current()
    assert now.paused_seconds == pytest.approx(before.paused_seconds, abs=1)
    assert now.rate == pytest.approx(before.rate, abs=6)
    assert capsys.readouterr().out.count("Redis's clock went forward") == 1
    assert limiter_of(100).current().paused_seconds == pytest.approx(30, abs=2), "and now all know it"


#: Values that could be the program's own, but for their time: microseconds from now.
AT_A_TIME = [-1e15, -86_400e6, -1e6, 0.0, 5e5, 5e6, 86_400e6]
FIELDS = ["tat", "base", "cut_at", "not_before", "second", "count", "before", "seen", "of another program"]
GARBAGE_VALUES = ["", "x", "nan", "inf", "-1", "0", "1e-300", "1", "50", "1e6", "1e300", "9" * 30, "9e15", "0x10"]
damages = st.one_of(
    st.tuples(st.just("delete"), st.just(""), st.just("")),
    st.tuples(st.just("kind"), st.sampled_from(["string", "list", "stream"]), st.just("")),
    st.tuples(st.just("expire"), st.just(""), st.sampled_from(["1", str(10 * 365 * 86_400)])),
    st.tuples(st.just("set"), st.sampled_from(FIELDS), st.sampled_from(GARBAGE_VALUES)),
    st.tuples(st.just("at"), st.sampled_from(["tat", "cut_at", "not_before", "seen"]), st.sampled_from(AT_A_TIME)),
)


def damage(redis: Redis, how: str, name: str, value: Any) -> None:
    """Do to the key what another program, or a person, might."""
    if how == "kind" or (how in ("set", "at") and redis.type(KEY) not in ("hash", "none")):
        redis.delete(KEY)
    match how, name:
        case "delete", _:
            redis.delete(KEY)
        case "expire", _:
            redis.expire(KEY, int(value))
        case "kind", "string":
            redis.set(KEY, "x")
        case "kind", "list":
            redis.rpush(KEY, "x")
        case "kind", _:
            redis.xadd(KEY, {"x": "y"})
        case "at", _:
            seconds, micro = redis.time()
            redis.hset(KEY, name, f"{seconds * 1e6 + micro + value:.0f}")
        case _:
            redis.hset(KEY, name, value)


@pytest.mark.resilience
@pytest.mark.representative
@settings(max_examples=examples(300), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(damages, min_size=1, max_size=12))
def test_no_damage_to_the_key_exceeds_the_limit_or_holds_it_up_for_ever(
    redis_url: str, redis: Redis, done: list[tuple[str, str, Any]]
) -> None:
    redis.flushall()
    limit, client = 100.0, connect(redis_url)
    limiter = RateLimit(client, limit)
    times: list[float] = []
    for each in done:
        asked_at = time.monotonic()
        reserved = limiter.reserve(10)
        times += [asked_at + reserved.wait_seconds + n * reserved.interval_seconds for n in range(reserved.places)]
        assert 0 <= reserved.wait_seconds <= 86_400 + 5
        assert 0 < reserved.interval_seconds <= 1.01
        damage(redis, *each)
    limiter.reserve(1)
    now = limiter.current()
    assert 1 <= now.rate <= limit
    assert 0 <= now.paused_seconds <= 86_400
    assert 0 < redis.ttl(KEY) <= 86_400
    client.close()
    for begin in times:
        assert sum(begin <= one < begin + 1 for one in times) <= limit * 1.1 + limit * 0.25, done


GARBAGE = ["", "x", "nan", "-nan", "inf", "-1", "1e300", "9" * 30, "9e15", "\x00\xff", "0x10", "1,5"]


@pytest.mark.parametrize("name", ["tat", "base", "cut_at", "not_before", "second", "count", "before", "seen"])
def test_garbage_is_put_right(
    limiter_of: Callable[[float], RateLimit], redis: Redis, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in GARBAGE:
        limiter = limiter_of(100)
        limiter.reserve(1)
        redis.hset(KEY, name, value)
        limiter.cut(0.05, 0)
        assert limiter.current().rate >= 1
        ends = time.monotonic() + 10
        while not (reserved := limiter.reserve(5)).places:
            assert time.monotonic() < ends, (value, reserved)
            assert reserved.wait_seconds < 5 or name == "not_before", value
            if name == "not_before":
                break
        redis.delete(KEY)
    assert "put right" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["string", "list", "set", "stream"])
def test_a_key_of_another_kind_is_replaced(
    limiter_of: Callable[[float], RateLimit], redis: Redis, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    match kind:
        case "string":
            redis.set(KEY, "x")
        case "list":
            redis.rpush(KEY, "x")
        case "set":
            redis.sadd(KEY, "x")
        case _:
            redis.xadd(KEY, {"x": "y"})
    assert limiter_of(100).reserve(5).places == 5
    assert "this program did not write" in capsys.readouterr().out
    assert redis.type(KEY) == "hash"


def test_without_redis_there_is_no_place(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        client = connect(server.url)
        limiter = RateLimit(client, 100)
        assert limiter.reserve(1).places == 1
        assert is_up(server.url)
        url = server.url
    assert not is_up(url)
    for call in (
        lambda: limiter.reserve(1),
        lambda: limiter.cut(0),
        lambda: limiter.pause(1),
        limiter.current,
    ):
        with pytest.raises(RateLimitUnavailable, match="Redis does not answer"):
            call()
    client.close()


def test_a_frozen_redis_is_given_up_after_seconds_and_used_again(redis_url: str, redis: Redis) -> None:
    limiter, pid = RateLimit(connect(redis_url), 100), valkey_pid(redis)
    limiter.reserve(1)
    os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(RateLimitUnavailable):
            limiter.reserve(1)
        assert time.monotonic() - started < 20
    finally:
        os.kill(pid, signal.SIGCONT)
    assert limiter.reserve(1).places == 1


def test_a_redis_that_may_not_write_is_no_allowance(limiter_of: Callable[[float], RateLimit], redis: Redis) -> None:
    limiter = limiter_of(100)
    redis.config_set("maxmemory", "1")
    with pytest.raises(RateLimitUnavailable):
        limiter.reserve(1)
    redis.config_set("maxmemory", "0")
    assert limiter.reserve(1).places == 1


def test_an_unreachable_address_is_unavailable_and_tells_no_password() -> None:
    limiter = RateLimit(connect("redis://:hunter2@127.0.0.1:9/0"), 100)
    with pytest.raises(RateLimitUnavailable) as caught:
        limiter.reserve(1)
    assert "hunter2" not in str(caught.value)


def test_as_many_threads_as_requests_may_be_under_way_can_speak_at_once(redis_url: str, redis: Redis) -> None:
    limiter, pid = RateLimit(connect(redis_url), 10_000), valkey_pid(redis)
    failed: list[str] = []

    def tell() -> None:
        try:
            limiter.cut(0.0)
        except RateLimitUnavailable as error:
            failed.append(str(error))

    threads = [threading.Thread(target=tell) for _ in range(100)]
    os.kill(pid, signal.SIGSTOP)  # for a moment, so that all of them are at it at the same time
    try:
        for thread in threads:
            thread.start()
        time.sleep(0.3)
    finally:
        os.kill(pid, signal.SIGCONT)
    for thread in threads:
        thread.join(30)
    assert failed == []
