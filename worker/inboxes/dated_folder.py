"""Closed claims by day, as in `archive/` and `rejected/`: DATE/NAME/."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tasks.files.atomic_write import sync_folder
from worker.inboxes.names import free_names


class DatedFolder:
    """A folder with a folder a day, by the dates of a time zone."""

    def __init__(self, folder: Path, time_zone: str) -> None:
        self._folder, self._zone = folder, ZoneInfo(time_zone)

    def add(self, claim: Path, name: str) -> Path:
        """Move a claim's folder to today's, under `name` or the next free one; return where it is. Raises OSError."""
        day = self._day(0)
        day.mkdir(mode=0o700, exist_ok=True)
        target = next(path for free in free_names(name) if _move(claim, path := day / free))
        for folder in (day, self._folder, claim.parent):
            sync_folder(folder)
        return target

    def recent(self) -> list[Path]:
        """Return the folders that were added today and yesterday. Raises OSError."""
        days = [self._day(1), self._day(0)]
        return [folder for day in days if day.is_dir() for folder in sorted(day.iterdir())]

    def _day(self, days_ago: int) -> Path:
        return self._folder / f"{datetime.now(self._zone) - timedelta(days=days_ago):%Y-%m-%d}"


def _move(folder: Path, target: Path) -> bool:
    """Move a folder to a name that is free; return False if it is taken. Raises OSError."""
    if os.path.lexists(target):
        return False
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # taken since
            return False
        raise
    return True
