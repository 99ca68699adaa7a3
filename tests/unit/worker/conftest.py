"""Fixtures: a drop folder, and a clock that a test moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from drop_folders import open_folder
from factories import ManualClock

from worker.inboxes.local_folder import LocalFolder


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock) -> LocalFolder:
    return open_folder(tmp_path, clock)
