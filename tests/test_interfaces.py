"""Tables, tasks, commands, JSON keys, report columns and metrics are as they were: others rely on them."""

from __future__ import annotations

import interfaces
import pytest


@pytest.fixture(scope="module")
def now() -> dict[str, str]:
    """What they are today."""
    return interfaces.all_of_them()


@pytest.mark.parametrize("name", ["tables", "tasks", "commands", "metrics", "json", "exit_codes", "reports"])
def test_what_others_rely_on_stays_as_it_is(now: dict[str, str], name: str) -> None:
    assert now[name] == (interfaces.FOLDER / f"{name}.txt").read_text("utf-8")
