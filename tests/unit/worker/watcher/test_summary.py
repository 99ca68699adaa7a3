"""The highest exit code counts."""

from __future__ import annotations

from worker.watcher.summary import Summary


def test_the_highest_exit_code_counts() -> None:
    summary = Summary()
    for code in (0, 3, 1):
        summary.raise_exit_code(code)
    assert summary.exit_code == 3


def test_the_counts_do_not_contain_the_exit_code() -> None:
    assert Summary(taken=2, archived=1).counts() == {"taken": 2, "archived": 1, "rejected": 0, "already_onboarded": 0}
