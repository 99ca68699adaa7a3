"""The fleet's allowance while Redis is lost, frozen, damaged or wrong about the time."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rate_fleet import KEY, fleet_in_peace, set_back, valkey_pid
from redis import Redis

from tasks.errors import RateLimitUnavailable
from tasks.send.rate_limit import RateLimit, connect, is_up
from worker.embedded_redis import EmbeddedRedis


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
    # in four seconds a tenth of one would be nearly all that the share may lack
    fleet = fleet_in_peace(redis_url, most_seconds=0.05, processes=processes, limit=limit, seconds=4, wanted=25)
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
