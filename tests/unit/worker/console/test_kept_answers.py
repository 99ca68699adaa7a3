"""A question is asked once for everybody, and again when its answer is old or somebody has changed something."""

from __future__ import annotations

import threading
import time

from factories import wait_until

from worker.console.kept_answers import (
    HARDLY_SLOW_SECONDS,
    LEAST_SECONDS,
    MOST_SECONDS,
    OLDEST_QUICK_SECONDS,
    OLDEST_SECONDS,
    KeptAnswers,
)


class Asked:
    """Counts how often it is asked."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.times, self.seconds = 0, seconds

    def __call__(self) -> int:
        time.sleep(self.seconds)
        self.times += 1
        return self.times


def test_an_answer_is_kept_for_a_moment() -> None:
    now = [100.0]
    kept, asked = KeptAnswers(lambda: now[0]), Asked()
    assert kept.get("counts", asked) == kept.get("counts", asked) == 1
    now[0] += LEAST_SECONDS
    assert kept.get("counts", asked) == 2


def test_what_took_long_is_kept_longer_and_then_asked_for_behind_the_scenes() -> None:
    now = [100.0]
    kept, asked, answers = KeptAnswers(lambda: now[0]), Asked(), threading.Event()
    answers.set()

    def slow() -> int:
        assert answers.wait(60)
        now[0] += 2.0
        return asked()

    assert kept.get("pace", slow) == 1
    now[0] += 59.0
    assert kept.get("pace", slow) == 1
    now[0] += 2.0
    answers.clear()
    assert kept.get("pace", slow) == 1  # nobody waits for the new one
    answers.set()
    wait_until(lambda: kept.get("pace", slow) == 2, 10, "the new answer")
    now[0] += OLDEST_SECONDS
    assert kept.get("pace", slow) == 3  # what is that old is not shown


def test_nobody_waits_for_what_hardly_changes_while_the_last_is_young() -> None:
    now = [100.0]
    kept, asked, may_answer = KeptAnswers(lambda: now[0]), Asked(), threading.Event()

    def counts() -> int:
        assert may_answer.wait(60)
        return asked()

    may_answer.set()
    assert kept.get("counts", counts, hardly_changes=True) == 1
    now[0] += LEAST_SECONDS
    may_answer.clear()
    assert kept.get("counts", counts, hardly_changes=True) == 1  # the new answer is still to come
    may_answer.set()
    wait_until(lambda: kept.get("counts", counts, hardly_changes=True) == 2, 10, "the new answer")
    now[0] += OLDEST_QUICK_SECONDS
    assert kept.get("counts", counts, hardly_changes=True) == 3  # what is that old is not shown
    kept.forget()
    assert kept.get("counts", counts, hardly_changes=True) == 4  # nor what somebody has changed


def test_behind_the_scenes_one_question_is_asked_at_a_time() -> None:
    now, at_once, most = [100.0], 0, 0
    kept, lock, asked = KeptAnswers(lambda: now[0]), threading.Lock(), Asked()

    def counts() -> int:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return asked()

    for key in range(8):
        kept.get(key, counts, hardly_changes=True)
    now[0] += LEAST_SECONDS
    for key in range(8):
        kept.get(key, counts, hardly_changes=True)
    wait_until(lambda: asked.times == 16, 10, "all new answers")
    assert most == 1


def test_what_took_long_is_asked_anew_after_a_change() -> None:
    now = [100.0]
    kept, asked = KeptAnswers(lambda: now[0]), Asked()

    def slow() -> int:
        now[0] += 2.0
        return asked()

    kept.get("pace", slow)
    kept.forget()
    wait_until(lambda: kept.get("pace", slow) == 2, 10, "the new answer")


def test_many_who_wait_for_an_answer_ask_once() -> None:
    kept, asked, answers = KeptAnswers(), Asked(0.2), []
    threads = [threading.Thread(target=lambda: answers.append(kept.get("counts", asked))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 10


def test_somebody_who_has_changed_something_sees_it() -> None:
    kept, asked = KeptAnswers(), Asked()
    kept.get("counts", asked)
    kept.forget()
    assert kept.get("counts", asked) == 2


def test_a_question_that_fails_is_asked_again() -> None:
    kept, asked = KeptAnswers(), Asked()

    def failing() -> int:
        raise ValueError

    for _ in range(2):
        try:
            kept.get("counts", failing)
        except ValueError:
            continue
        raise AssertionError
    assert kept.get("counts", asked) == 1


def test_what_was_asked_before_a_change_is_asked_once_more() -> None:
    now, may_answer = [100.0], threading.Event()
    kept, asked = KeptAnswers(lambda: now[0]), Asked()

    begun = threading.Event()

    def slow() -> int:
        begun.set()
        assert may_answer.wait(60)
        now[0] += 2.0
        return asked()

    may_answer.set()
    assert kept.get("open", slow) == 1
    now[0] += MOST_SECONDS
    may_answer.clear()
    begun.clear()
    assert kept.get("open", slow) == 1  # asked anew behind the scenes
    assert begun.wait(60)
    now[0] += 1.0
    kept.forget()
    may_answer.set()
    wait_until(lambda: kept.get("open", slow) == 3, 10, "the answer after the change")


def test_nobody_waits_for_what_is_hardly_slow_while_the_last_is_young() -> None:
    now, may_answer = [100.0], threading.Event()
    kept, asked = KeptAnswers(lambda: now[0]), Asked()

    def counts() -> int:
        assert may_answer.wait(60)
        now[0] += HARDLY_SLOW_SECONDS + 0.01
        return asked()

    may_answer.set()
    assert kept.get("counts", counts) == 1
    now[0] += OLDEST_QUICK_SECONDS - 1
    may_answer.clear()
    assert kept.get("counts", counts) == 1
    may_answer.set()
    wait_until(lambda: kept.get("counts", counts) == 2, 10, "the new answer")
    now[0] += OLDEST_QUICK_SECONDS
    assert kept.get("counts", counts) == 3
