"""What may take longer than a proxy waits for an answer: done in a thread, and shown when it has ended.

Nothing of it is kept but in the ledger and in files, as the use cases leave them: a console that is killed in the
middle has done nothing, or all of it, and whoever asks again gets the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import structlog

from tasks.errors import OnboardingError

log = structlog.get_logger("onboard")

T = TypeVar("T")

#: Whoever asks waits for so long, then is told that it goes on.
WAIT_SECONDS = 3.0
_AT_ONCE = 4


class Key(NamedTuple):
    """What is done to which batch."""

    batch_id: int
    name: str


class LongDeeds:
    """Does each thing once at a time, however often it is asked for; `ended` is called after each."""

    def __init__(self, ended: Callable[[], None], wait_seconds: float = WAIT_SECONDS) -> None:
        self._ended = ended
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_AT_ONCE)
        self._under_way: dict[Key, threading.Thread] = {}
        self._failed: dict[Key, Exception] = {}

    def under_way(self, batch_id: int) -> list[str]:
        """Return the names of what is being done to a batch."""
        with self._lock:
            return sorted(key.name for key in self._under_way if key.batch_id == batch_id)

    def failure(self, batch_id: int) -> Exception | None:
        """Return why the last thing that was done to a batch behind somebody's back failed, if it did."""
        with self._lock:
            return next((error for key, error in self._failed.items() if key.batch_id == batch_id), None)

    def do(self, key: Key, deed: Callable[[], T]) -> T | None:
        """Return what a deed returns, or raise what it raises; None if it goes on, or is being done already."""
        done: list[T] = []
        with self._lock:
            if key in self._under_way:
                return None
            self._failed = {other: error for other, error in self._failed.items() if other.batch_id != key.batch_id}
            thread = threading.Thread(
                target=self._do, args=(key, lambda: done.append(deed())), name=key.name, daemon=True
            )
            self._under_way[key] = thread
        thread.start()
        thread.join(self._wait_seconds)
        with self._lock:
            error = self._failed.pop(key, None) if key not in self._under_way else None
        if error is not None:
            raise error
        return done[0] if done else None

    def _do(self, key: Key, deed: Callable[[], Any]) -> None:
        error: Exception | None = None
        try:
            with self._places:
                deed()
        except Exception as raised:  # noqa: BLE001 - the door of a thread
            error = raised
            if not isinstance(raised, OnboardingError):
                log.error("page failed", path=f"/batches/{key.batch_id}/{key.name}", error=type(raised).__name__)  # noqa: TRY400 - its text may quote
        self._ended()
        with self._lock:
            del self._under_way[key]
            if error is not None:
                self._failed[key] = error
