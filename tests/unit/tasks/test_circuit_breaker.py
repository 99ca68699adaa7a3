"""What a process still sends while nothing definite comes back."""

from __future__ import annotations

import pytest
from factories import ManualClock

from tasks.send.circuit_breaker import (
    FIRST_GAP_SECONDS,
    LAST_GAP_SECONDS,
    LAST_GAP_WITH_ANSWERS_SECONDS,
    MOST_FLEET_PAUSE_SECONDS,
    NO_LOOK_UP_SECONDS,
    OPEN_AFTER,
    SLOW_START_ROWS,
    CircuitBreaker,
)

BATCH, OTHER = 1, 2


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker(clock)


def answer(breaker: CircuitBreaker, definite: bool | None, times: int = 1, batch: int = BATCH) -> list[float]:
    """Let creates leave and end one after the other; return the pauses that the fleet shall make."""
    pauses = []
    for _ in range(times):
        breaker.create_leaves(batch)
        pauses.append(breaker.create_ended(batch, definite))
    return [pause for pause in pauses if pause is not None]


def look_up(breaker: CircuitBreaker, definite: bool | None) -> float | None:
    breaker.look_up_leaves()
    return breaker.look_up_ended(definite)


def open_it(breaker: CircuitBreaker) -> float:
    (pause,) = answer(breaker, definite=False, times=OPEN_AFTER)
    return pause


def test_a_batch_starts_slowly_until_its_first_definite_answer(breaker: CircuitBreaker) -> None:
    for in_flight in range(SLOW_START_ROWS):
        assert breaker.creates_allowed(BATCH) == SLOW_START_ROWS - in_flight
        breaker.create_leaves(BATCH)
    assert breaker.creates_allowed(BATCH) == 0
    assert breaker.creates_allowed(OTHER) == SLOW_START_ROWS, "each batch by itself"
    breaker.create_ended(BATCH, definite=True)
    assert breaker.creates_allowed(BATCH) is None
    assert breaker.creates_allowed(OTHER) == SLOW_START_ROWS


def test_what_never_left_is_no_answer(breaker: CircuitBreaker) -> None:
    assert answer(breaker, definite=None, times=10 * OPEN_AFTER) == []
    assert not breaker.is_open
    assert breaker.creates_allowed(BATCH) == SLOW_START_ROWS


def test_it_opens_after_so_many_answers_without_a_definite_one(breaker: CircuitBreaker) -> None:
    assert answer(breaker, definite=False, times=OPEN_AFTER - 1) == []
    answer(breaker, definite=True)
    assert answer(breaker, definite=False, times=OPEN_AFTER - 1) == []
    assert not breaker.is_open
    assert answer(breaker, definite=False) == [FIRST_GAP_SECONDS]
    assert breaker.is_open
    assert breaker.creates_allowed(BATCH) == breaker.look_ups_allowed() == 0


def test_a_try_is_first_a_look_up_and_then_one_row(breaker: CircuitBreaker, clock: ManualClock) -> None:
    clock.now += open_it(breaker)
    assert breaker.look_ups_allowed() == 1
    assert breaker.creates_allowed(BATCH) == 0
    breaker.look_up_leaves()
    assert breaker.look_ups_allowed() == 0
    clock.now += 10 * NO_LOOK_UP_SECONDS
    assert breaker.creates_allowed(BATCH) == 0, "the look-up is in flight"
    breaker.look_up_ended(definite=True)
    assert breaker.creates_allowed(BATCH) == breaker.creates_allowed(OTHER) == 1
    breaker.create_leaves(BATCH)
    assert breaker.creates_allowed(BATCH) == breaker.creates_allowed(OTHER) == 0
    assert breaker.create_ended(BATCH, definite=True) is None
    assert not breaker.is_open
    assert breaker.creates_allowed(BATCH) is None
    assert breaker.creates_allowed(OTHER) == SLOW_START_ROWS, "the others start slowly again"


def test_a_row_is_tried_when_there_is_no_look_up(breaker: CircuitBreaker, clock: ManualClock) -> None:
    clock.now += open_it(breaker)
    assert breaker.creates_allowed(BATCH) == 0
    clock.now += NO_LOOK_UP_SECONDS
    assert breaker.creates_allowed(BATCH) == 1


def test_the_gaps_grow_with_each_try_that_fails(breaker: CircuitBreaker, clock: ManualClock) -> None:
    gaps, fleet = [open_it(breaker)], [FIRST_GAP_SECONDS]
    clock.now += FIRST_GAP_SECONDS
    for _ in range(9):
        started = clock.now
        pause = look_up(breaker, definite=False)
        while breaker.look_ups_allowed() == 0:
            clock.now += 0.5
        gaps.append(clock.now - started)
        fleet += [] if pause is None else [pause]
    assert gaps == [min(FIRST_GAP_SECONDS * 2**n, LAST_GAP_SECONDS) for n in range(10)]
    assert fleet == [gap for gap in gaps if gap <= MOST_FLEET_PAUSE_SECONDS], (
        "one that is cut off stops nobody for long"
    )


def test_while_look_ups_are_answered_the_gaps_stay_short_and_the_fleet_is_not_stopped_for_ever(
    breaker: CircuitBreaker, clock: ManualClock
) -> None:
    gaps, fleet = [open_it(breaker)], [FIRST_GAP_SECONDS]
    clock.now += FIRST_GAP_SECONDS
    for _ in range(9):
        look_up(breaker, definite=True)
        started = clock.now
        fleet += answer(breaker, definite=False)
        while breaker.look_ups_allowed() == 0:
            clock.now += 0.5
        gaps.append(clock.now - started)
    assert gaps == [min(FIRST_GAP_SECONDS * 2**n, LAST_GAP_WITH_ANSWERS_SECONDS) for n in range(10)]
    assert fleet == [1.0, 2.0, 4.0, 8.0]
    look_up(breaker, definite=False)
    clock.now += LAST_GAP_WITH_ANSWERS_SECONDS
    assert breaker.look_ups_allowed() == 0, "elepay does not answer them any more"


def test_answers_to_what_left_before_do_not_count_as_tries(breaker: CircuitBreaker, clock: ManualClock) -> None:
    for _ in range(200):
        breaker.create_leaves(BATCH)
    pauses = [breaker.create_ended(BATCH, definite=False) for _ in range(200)]
    assert [pause for pause in pauses if pause is not None] == [FIRST_GAP_SECONDS]
    clock.now += FIRST_GAP_SECONDS
    assert breaker.look_ups_allowed() == 1


def test_a_late_definite_answer_closes_it(breaker: CircuitBreaker) -> None:
    breaker.create_leaves(OTHER)
    open_it(breaker)
    breaker.create_ended(OTHER, definite=True)
    assert not breaker.is_open
    assert breaker.outage_seconds == 0.0


def test_lists_that_are_answered_do_not_close_it(breaker: CircuitBreaker, clock: ManualClock) -> None:
    clock.now += open_it(breaker)
    look_up(breaker, definite=True)
    assert breaker.is_open
    assert breaker.look_ups_allowed() is None, "unclear rows are looked up meanwhile"
    answer(breaker, definite=False)
    assert breaker.creates_allowed(BATCH) == breaker.look_ups_allowed() == 0


def test_an_outage_lasts_from_its_first_answer(breaker: CircuitBreaker, clock: ManualClock) -> None:
    answer(breaker, definite=False)
    assert breaker.outage_seconds == 0.0, "one answer is no outage"
    clock.now += 7.0
    answer(breaker, definite=False, times=OPEN_AFTER)
    assert breaker.outage_seconds == 7.0
    clock.now += 3600.0
    assert breaker.outage_seconds == 3607.0


def test_lists_alone_can_be_out_and_creates_go_on(breaker: CircuitBreaker, clock: ManualClock) -> None:
    for _ in range(OPEN_AFTER):
        assert breaker.outage_seconds == 0.0
        look_up(breaker, definite=False)
    clock.now += 5.0
    assert breaker.outage_seconds == 5.0
    assert not breaker.is_open
    assert breaker.creates_allowed(BATCH) == SLOW_START_ROWS
    look_up(breaker, definite=True)
    assert breaker.outage_seconds == 0.0
