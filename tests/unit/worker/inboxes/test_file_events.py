"""A change of a folder is reported."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from worker.inboxes.file_events import events_in


def test_a_change_of_a_folder_is_reported(tmp_path: Path) -> None:
    """Files are written until an event came, because it is not known when the watching has begun."""
    came = threading.Event()

    def wait() -> None:
        next(iter(events_in(tmp_path)))
        came.set()

    threading.Thread(target=wait, daemon=True).start()
    for number in range(300):
        (tmp_path / f"{number}.csv").touch()
        if came.wait(0.1):
            break
    assert came.is_set()


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(iter(events_in(tmp_path / "gone")))
