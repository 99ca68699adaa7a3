"""What takes long: done once however often it is asked for, waited for a little, and its failure is not lost."""

from __future__ import annotations

import threading

import pytest
from factories import wait_until

from tasks.errors import LedgerError
from worker.console.long_deeds import Key, LongDeeds

REPORT = Key(1, "report")


@pytest.fixture
def ended() -> list[int]:
    return []


@pytest.fixture
def deeds(ended: list[int]) -> LongDeeds:
    return LongDeeds(ended=lambda: ended.append(1), wait_seconds=0.1)


def test_what_is_quick_is_answered_at_once(deeds: LongDeeds, ended: list[int]) -> None:
    assert LongDeeds(ended=lambda: ended.append(1)).do(REPORT, lambda: "written") == "written"
    with pytest.raises(LedgerError, match="nothing to do"):
        LongDeeds(ended=lambda: ended.append(1)).do(REPORT, lambda: _fail("nothing to do"))
    assert len(ended) == 2


def _fail(why: str) -> str:
    raise LedgerError(why)


def test_what_takes_long_goes_on_and_is_not_begun_twice(deeds: LongDeeds, ended: list[int]) -> None:
    go_on, done = threading.Event(), []

    def report() -> str:
        go_on.wait(30)
        done.append(1)
        return "written"

    assert deeds.do(REPORT, report) is None
    assert deeds.do(REPORT, report) is None
    assert (deeds.under_way(1), deeds.under_way(2)) == (["report"], [])
    assert deeds.do(Key(2, "report"), lambda: "another batch") == "another batch"
    go_on.set()
    wait_until(lambda: not deeds.under_way(1))
    assert (len(done), len(ended), deeds.failure(1)) == (1, 2, None)
    assert LongDeeds(ended=lambda: None).do(REPORT, report) == "written"


def test_a_failure_that_nobody_waited_for_is_kept_until_the_next_attempt(deeds: LongDeeds) -> None:
    go_on = threading.Event()

    def report() -> str:
        go_on.wait(30)
        return _fail("no room")

    assert deeds.do(REPORT, report) is None
    go_on.set()
    wait_until(lambda: not deeds.under_way(1))
    assert (str(deeds.failure(1)), deeds.failure(2)) == ("no room", None)
    wait_until(lambda: deeds.do(REPORT, lambda: "written") is not None)
    assert deeds.failure(1) is None


def test_only_a_few_are_done_at_once_and_the_others_wait_for_their_turn(deeds: LongDeeds) -> None:
    go_on, begun = threading.Event(), []

    def report() -> str:
        begun.append(1)
        go_on.wait(30)
        return "written"

    for batch in range(6):
        assert deeds.do(Key(batch, "report"), report) is None
    assert len(begun) == 4
    go_on.set()
    wait_until(lambda: len(begun) == 6 and not any(deeds.under_way(batch) for batch in range(6)))
