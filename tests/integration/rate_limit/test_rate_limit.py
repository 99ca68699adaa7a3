"""The fleet's allowance on a real Valkey, shared by real processes: kept, used, and cut by throttling."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from rate_fleet import KEY, fleet_in_peace, let_time_pass
from redis import Redis

from tasks.send.rate_limit import BETWEEN_BARE_CUTS_SECONDS, PAUSE_AFTER_THROTTLING_SECONDS, RateLimit, connect

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


def test_an_allowance_that_nobody_uses_needs_no_mending(
    limiter_of: Callable[[float], RateLimit], capsys: pytest.CaptureFixture[str]
) -> None:
    user, onlooker = limiter_of(100), limiter_of(100)
    user.reserve(5)
    for _ in range(3):
        time.sleep(0.3)
        onlooker.current()
    time.sleep(0.3)
    user.reserve(5)
    assert "put right" not in capsys.readouterr().out


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
