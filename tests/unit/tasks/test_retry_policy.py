"""How long, how often: the policy's own arithmetic, with time and sleep handed in."""

from __future__ import annotations

import pytest

from tasks.errors import ElepayError, Maintenance, NotSent, Refused, Throttled, Unclear
from tasks.send.retry_policy import RetryPolicy, look_up_gap, retrying_look_up

POLICY = RetryPolicy(unreachable_seconds=60.0, maintenance_seconds=600.0)


@pytest.mark.parametrize("error", [Unclear("read_timeout"), Refused("M002002")])
def test_only_what_certainly_was_not_executed_is_tried_again(error: ElepayError) -> None:
    assert POLICY.wait_before_retry(error, 1, 0.0) is None


def test_waits_for_a_connection_grow_and_end() -> None:
    waits = [POLICY.wait_before_retry(NotSent("connection_refused"), attempt, 0.0) for attempt in range(1, 30)]
    assert all(wait is not None and 0 <= wait <= 15 for wait in waits)
    assert max(wait for wait in waits if wait is not None) > 2
    assert POLICY.wait_before_retry(NotSent("connection_refused"), 2, 60.0) is None


def test_gaps_of_maintenance_grow() -> None:
    gaps = [POLICY.wait_before_retry(Maintenance("S002000"), attempt, 1.0) or 0.0 for attempt in (1, 3, 5, 9)]
    assert gaps == sorted(gaps)
    assert gaps[-1] <= 122
    assert POLICY.wait_before_retry(Maintenance("S002000"), 1, 601.0) is None


def test_retry_after_is_the_least_wait() -> None:
    wait = POLICY.wait_before_retry(Throttled("http_429", retry_after_seconds=40), 1, 0.0)
    assert wait is not None
    assert wait >= 40


def test_a_question_is_repeated_a_few_times_and_then_raises_its_own_error() -> None:
    slept: list[float] = []
    asked = []

    def ask() -> None:
        asked.append(1)
        raise NotSent("connection_refused")

    with pytest.raises(NotSent):
        retrying_look_up(3, sleep=slept.append)(ask)
    assert (len(asked), len(slept)) == (3, 2)


def test_a_question_with_an_answer_is_not_repeated() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise Refused("M002003")

    with pytest.raises(Refused):
        retrying_look_up(3, sleep=lambda _: None)(ask)
    assert len(asked) == 1


def test_gaps_between_look_ups_grow_to_five_minutes() -> None:
    assert 4.5 <= look_up_gap(0, 5.0) <= 5.5
    assert 9 <= look_up_gap(1, 5.0) <= 11
    assert 270 <= look_up_gap(20, 5.0) <= 330
