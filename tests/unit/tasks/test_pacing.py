"""When the rows of a commit may leave, by a rate limit that answers as the test says and a clock that it moves."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from tasks.errors import RateLimitUnavailable
from tasks.send.pacing import (
    FIRST_LEAD_SECONDS,
    LATE_SECONDS,
    LONG_WAIT_SECONDS,
    MOST_LEAD_SECONDS,
    NO_PLACES,
    Pacing,
)
from tasks.send.rate_limit import Reservation


class Fleet:
    """A clock, and the places that the fleet gives: the next ones of `answers`."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answers: deque[Reservation] = deque()
        self.asked: list[tuple[int, float]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def reserve(self, wanted: int, lead_seconds: float = 0.0) -> Reservation:
        self.asked.append((wanted, lead_seconds))
        if not self.answers:
            raise RateLimitUnavailable("Redis does not answer")
        return self.answers.popleft()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def pacing(fleet: Fleet) -> Pacing:
    limiter: Any = fleet
    return Pacing(limiter, fleet.clock, fleet.sleep)


def test_each_row_has_a_place_of_its_own(fleet: Fleet, pacing: Pacing) -> None:
    fleet.answers.append(Reservation(3, 0.5, 0.25))
    places = pacing.reserve(5)
    assert places.rows == 3
    assert [places.at(number) for number in range(3)] == [100.5, 100.75, 101.0]
    assert fleet.asked == [(5, FIRST_LEAD_SECONDS)], "the first commit is expected to be slow"


def test_places_are_asked_for_ahead_of_time_only_where_they_are_scarce(fleet: Fleet, pacing: Pacing) -> None:
    fleet.answers += [
        Reservation(1, FIRST_LEAD_SECONDS, 0.0),
        Reservation(1, 0.0, 0.0),
        Reservation(1, 0.3, 0.0),
        Reservation(1, 0.3, 0.0),
    ]
    for _ in range(4):
        pacing.reserve(1)
    assert [lead for _, lead in fleet.asked] == [FIRST_LEAD_SECONDS, 0.0, 0.0, FIRST_LEAD_SECONDS]


def test_rows_are_marked_as_long_before_their_place_as_commits_take(fleet: Fleet, pacing: Pacing) -> None:
    fleet.answers.append(Reservation(1, 0.5, 0.0))
    places = pacing.reserve(1)
    assert pacing.is_long_before(places)
    pacing.wait_for(places)
    assert fleet.now == pytest.approx(100.5 - FIRST_LEAD_SECONDS)
    pacing.wait_for(places)
    assert fleet.now == pytest.approx(100.5 - FIRST_LEAD_SECONDS), "never into the past"


@pytest.mark.parametrize(("seconds", "lead"), [(0.001, 0.97 * FIRST_LEAD_SECONDS), (10.0, MOST_LEAD_SECONDS)])
def test_the_lead_grows_at_once_and_shrinks_slowly(fleet: Fleet, pacing: Pacing, seconds: float, lead: float) -> None:
    pacing.learn(seconds)
    fleet.answers.append(Reservation(1, 1.0, 0.0))
    pacing.reserve(1)
    assert fleet.asked == [(1, pytest.approx(lead))]


@pytest.mark.parametrize(("wait", "ask_again_in"), [(0.1, 0.02), (0.9, 0.4), (60.0, 1.0)])
def test_a_pause_of_the_fleet_is_looked_at_again_and_again(
    fleet: Fleet, pacing: Pacing, wait: float, ask_again_in: float
) -> None:
    fleet.answers.append(Reservation(0, wait, 0.0))
    places = pacing.reserve(4)
    assert places.rows == 0
    assert places.first_at == pytest.approx(100.0 + ask_again_in)
    assert pacing.paused_until == pytest.approx(100.0 + wait)


def test_without_rows_there_is_nothing_to_wait_for(pacing: Pacing) -> None:
    assert not pacing.is_long_before(NO_PLACES)
    assert pacing.replace_missed(NO_PLACES, 0) == NO_PLACES


def test_outcomes_are_not_written_before_a_short_wait(fleet: Fleet, pacing: Pacing) -> None:
    fleet.answers.append(Reservation(1, LONG_WAIT_SECONDS, 0.0))
    places = pacing.reserve(1)
    assert not pacing.is_long_before(places._replace(first_at=100.0 + LONG_WAIT_SECONDS / 2))
    assert pacing.is_long_before(places._replace(first_at=100.0 + 2 * LONG_WAIT_SECONDS))


def scarce(fleet: Fleet, pacing: Pacing) -> Any:
    fleet.answers.append(Reservation(2, 0.5, 0.1))
    return pacing.reserve(2)


def test_places_that_a_slow_commit_has_missed_are_replaced(fleet: Fleet, pacing: Pacing) -> None:
    missed = scarce(fleet, pacing)
    fleet.now = missed.first_at + LATE_SECONDS + 0.01
    fleet.answers.append(Reservation(2, 0.2, 0.1))
    places = pacing.replace_missed(missed, 2)
    assert (places.rows, places.first_at) == (2, pytest.approx(fleet.now + 0.2))


def test_places_are_kept_that_are_hardly_missed(fleet: Fleet, pacing: Pacing) -> None:
    places = scarce(fleet, pacing)
    fleet.now = places.first_at + LATE_SECONDS / 2
    assert pacing.replace_missed(places, 2) == places
    assert len(fleet.asked) == 1


@pytest.mark.parametrize("answers", [[], [Reservation(1, 0.2, 0.1)]], ids=["Redis is gone", "too few places"])
def test_late_rows_leave_at_their_old_places_if_there_are_no_others(
    fleet: Fleet, pacing: Pacing, answers: list[Reservation]
) -> None:
    places = scarce(fleet, pacing)
    fleet.now = places.first_at + 1.0
    fleet.answers += answers
    assert pacing.replace_missed(places, 2) == places


def test_where_places_are_not_scarce_none_is_replaced(fleet: Fleet, pacing: Pacing) -> None:
    fleet.answers.append(Reservation(2, FIRST_LEAD_SECONDS, 0.0))
    places = pacing.reserve(2)
    fleet.now = places.first_at + 5.0
    assert pacing.replace_missed(places, 2) == places
    assert len(fleet.asked) == 1


def test_a_limit_without_redis_gives_no_places(pacing: Pacing) -> None:
    with pytest.raises(RateLimitUnavailable):
        pacing.reserve(1)
