"""A step in a thread: its result and its exception reach the loop."""

from __future__ import annotations

import threading

import pytest

from worker.watcher.background import run_in_background


def test_the_end_is_reported_when_the_result_is_available() -> None:
    ended = threading.Event()
    future = run_in_background(lambda: None, ended.set)
    assert ended.wait(10)
    assert future.done()
    assert future.exception() is None


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_an_exception_is_kept_for_the_loop(error: BaseException) -> None:
    ended = threading.Event()

    def fail() -> None:
        raise error

    future = run_in_background(fail, ended.set)
    assert ended.wait(10)
    assert future.exception() is error
