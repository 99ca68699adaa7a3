"""Answers that take a while, kept for a moment and shared by everybody who looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

#: An answer is kept for so long, or for so many times as long as it took, and never longer than the last.
LEAST_SECONDS, TIMES_AS_LONG, MOST_SECONDS = 1.0, 20.0, 60.0
_MOST_ANSWERS = 500


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Any = None
    until: float = 0.0


class KeptAnswers:
    """Asks a question once, however many people wait for its answer."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer to a question; one thread asks, others that come meanwhile get what it was told."""
        with self._lock:
            if len(self._kept) > _MOST_ANSWERS:
                self._kept.clear()
            kept = self._kept.setdefault(key, _Kept())
        with kept.lock:
            if self._now() >= kept.until:
                began = self._now()
                kept.answer = ask()
                took = self._now() - began
                kept.until = self._now() + min(max(LEAST_SECONDS, TIMES_AS_LONG * took), MOST_SECONDS)
            answer: T = kept.answer
            return answer

    def forget(self) -> None:
        """Forget all of it: somebody has changed something."""
        with self._lock:
            self._kept.clear()
