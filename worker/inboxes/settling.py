"""Which files of `inbox/` are complete: a companion says so, or size and time did not change for long enough."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from worker.inboxes.names import COMPANIONS, NameKind, companions_of, kind_of
from worker.inboxes.protocol import CompleteFile


class _Observation(NamedTuple):
    version: tuple[int, int, int]  #: inode, size, time
    since: float  #: by the monotonic clock


class SettlingFiles:
    """The files of a folder; remembers from one scan to the next since when each has not changed."""

    def __init__(self, folder: Path, settle_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._settle_seconds = settle_seconds
        self._now = now
        self._observed: dict[str, _Observation] = {}
        self.settling = 0  #: how many files were not complete at the last scan
        self.unreadable: dict[str, OSError] = {}  #: names that the last scan could not examine, and why

    def scan(self) -> list[CompleteFile]:
        """Return the complete files, oldest first. Raises OSError.

        A symbolic link is complete at once (to be rejected). Folders, special files, and names that are not of a file
        (`names.RULES`) are ignored.
        """
        files, companions = self._list()
        owned = companions_of(files, companions)
        self._observed = {name: self._observe(name, status) for name, status in files.items()}
        complete = []
        for name, status in files.items():
            of_file = owned.get(name, [])
            if self._has_settled(name, status) or _is_declared_complete(status, of_file, companions):
                complete.append(CompleteFile(name, tuple(of_file), status.st_mtime))
        self.settling = len(files) - len(complete)
        return sorted(complete, key=lambda file: (file.changed_at, file.name))

    def _list(self) -> tuple[dict[str, os.stat_result], dict[str, os.stat_result]]:
        """Return the files and the companions that are in the folder."""
        files, companions = {}, {}
        for name, status in self._statuses():
            kind, mode = kind_of(name), status.st_mode
            if kind in COMPANIONS and stat.S_ISREG(mode):
                companions[name] = status
            elif kind is NameKind.FILE and (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                files[name] = status
        return files, companions

    def _statuses(self) -> Iterator[tuple[str, os.stat_result]]:
        self.unreadable = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # another watcher was faster
                    continue
                except OSError as error:
                    self.unreadable[entry.name] = error

    def _observe(self, name: str, status: os.stat_result) -> _Observation:
        version = (status.st_ino, status.st_size, status.st_mtime_ns)
        before = self._observed.get(name)
        return before if before is not None and before.version == version else _Observation(version, self._now())

    def _has_settled(self, name: str, status: os.stat_result) -> bool:
        return stat.S_ISLNK(status.st_mode) or self._now() - self._observed[name].since >= self._settle_seconds


def _is_declared_complete(status: os.stat_result, of_file: list[str], companions: dict[str, os.stat_result]) -> bool:
    """Return whether a companion that says `complete` was written after the file."""
    return any(
        kind_of(name) is NameKind.COMPLETE and companions[name].st_ctime_ns >= status.st_ctime_ns for name in of_file
    )
