"""Which watchers of a drop folder are alive."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from factories import ManualClock

from worker.inboxes.heartbeats import Heartbeats


@pytest.fixture
def first(tmp_path: Path, clock: ManualClock) -> Heartbeats:
    return Heartbeats(tmp_path, 120.0, clock)


@pytest.fixture
def second(tmp_path: Path, clock: ManualClock) -> Heartbeats:
    return Heartbeats(tmp_path, 120.0, clock)


def file_of(folder: Path, heartbeats: Heartbeats) -> Path:
    return folder / f"{heartbeats.watcher}.json"


def test_a_process_of_this_machine_lives_however_long_it_is_silent(
    first: Heartbeats, second: Heartbeats, clock: ManualClock
) -> None:
    first.send()
    clock.now += 10_000
    assert not second.is_dead(first.watcher)


def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(
    tmp_path: Path, first: Heartbeats, second: Heartbeats
) -> None:
    first.send()
    path = file_of(tmp_path, first)
    path.write_text(json.dumps({**json.loads(path.read_text()), "process_started": "another"}))
    assert second.is_dead(first.watcher)


@pytest.mark.parametrize("content", ['{"host": "elsewhere", "pid": 1, "process_started": ""}', "{"])
def test_a_watcher_elsewhere_is_dead_after_a_long_silence(
    tmp_path: Path, first: Heartbeats, second: Heartbeats, clock: ManualClock, content: str
) -> None:
    first.send()
    path = file_of(tmp_path, first)
    path.write_text(content)
    beats = range(3) if content != "{" else range(1)
    for beat in beats:
        os.utime(path, (beat, beat))
        assert not second.is_dead(first.watcher)
        clock.now += 119
    assert not second.is_dead(first.watcher)
    clock.now += 2
    assert second.is_dead(first.watcher)


def test_a_watcher_that_has_ended_or_never_was_is_dead(first: Heartbeats, second: Heartbeats) -> None:
    first.send()
    assert not second.is_dead(first.watcher)
    first.end()
    assert second.is_dead(first.watcher)
    assert second.is_dead("never")


def test_only_the_files_of_dead_watchers_are_removed(tmp_path: Path, first: Heartbeats, second: Heartbeats) -> None:
    first.send()
    second.send()
    for name in ("dead", "kept"):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({**json.loads(file_of(tmp_path, first).read_text()), "process_started": "another"})
        )
    second.remove_dead(but={second.watcher, "kept"})
    assert {path.stem for path in tmp_path.iterdir()} == {first.watcher, second.watcher, "kept"}
