"""Which watchers of a drop folder are alive: each keeps a file in `processing/.watchers/`, touched while it lives."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import orjson

from tasks import process_identity
from tasks.files.atomic_write import atomic_write


class Heartbeats:
    """The heartbeats of all watchers, as one of them sees them; `watcher` is its own name."""

    def __init__(self, folder: Path, silent_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.watcher = secrets.token_hex(4)
        self._folder = folder
        self._silent_seconds = silent_seconds
        self._now = now
        self._last_seen: dict[str, tuple[int, float]] = {}  # watcher -> its last heartbeat, and when it was noticed

    def send(self) -> None:
        """Show that this watcher is alive. Raises OSError."""
        path = self._path(self.watcher)
        try:
            os.utime(path)
        except FileNotFoundError:
            pid = os.getpid()
            process = {"host": process_identity.host(), "pid": pid, "process_started": process_identity.started(pid)}
            with atomic_write(path) as file:
                file.write(orjson.dumps(process))

    def end(self) -> None:
        """Show that this watcher has ended: from now on the others see it as dead."""
        with contextlib.suppress(OSError):
            self._path(self.watcher).unlink(missing_ok=True)

    def is_dead(self, watcher: str) -> bool:
        """Return whether a watcher has ended: on this machine by its process, elsewhere by its silence.

        Raises OSError.
        """
        try:
            process, beat = _read(self._path(watcher))
        except FileNotFoundError:
            return True
        if process.get("host") == process_identity.host():
            return process_identity.is_dead(int(process["pid"]), str(process["process_started"]))
        return self._is_silent(watcher, beat)

    def _is_silent(self, watcher: str, beat: int) -> bool:
        """Return whether no new heartbeat was noticed for too long; by this machine's clock alone."""
        last, noticed_at = self._last_seen.get(watcher, (None, 0.0))
        if beat != last:
            self._last_seen[watcher] = beat, self._now()
            return False
        return self._now() - noticed_at > self._silent_seconds

    def remove_dead(self, but: Collection[str]) -> None:
        """Remove the files of dead watchers, without asking about those in `but`. Raises OSError."""
        for path in self._folder.glob("*.json"):
            if path.stem not in but and self.is_dead(path.stem):
                path.unlink(missing_ok=True)

    def _path(self, watcher: str) -> Path:
        return self._folder / f"{watcher}.json"


def _read(path: Path) -> tuple[dict[str, Any], int]:
    """Return which process a heartbeat is of, and when it was; a damaged one is of an unknown machine."""
    try:
        return orjson.loads(path.read_bytes()), path.stat().st_mtime_ns
    except orjson.JSONDecodeError:
        return {}, 0
