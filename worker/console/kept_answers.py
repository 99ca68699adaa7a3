"""Answers that take a while, kept for a moment and shared by everybody who looks."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tasks.errors import OnboardingError

T = TypeVar("T")

#: An answer is kept for so long, or for so many times as long as it took, and never longer than the last.
LEAST_SECONDS, TIMES_AS_LONG, MOST_SECONDS = 1.0, 60.0, 60.0
#: One that takes longer than this is asked for anew behind the scenes, while the last is shown, unless that is too old.
SLOW_SECONDS, OLDEST_SECONDS = 0.25, 300.0
#: The same goes for one that is not quite as slow, or hardly changes by itself, unless the last is as old as this.
HARDLY_SLOW_SECONDS, OLDEST_QUICK_SECONDS = 0.1, 60.0
_MOST_ANSWERS = 500


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    answer: Any = None
    took: float = 0.0
    at: float = -math.inf  #: when it was given
    until: float = -math.inf
    is_asked_anew: bool = False
    changed_at: float = -math.inf  #: when somebody has changed something

    def oldest_shown(self, *, hardly_changes: bool) -> float:
        """Return how old it may be and still be shown while it is asked for anew."""
        if self.took > SLOW_SECONDS:
            return OLDEST_SECONDS
        return OLDEST_QUICK_SECONDS if hardly_changes or self.took > HARDLY_SLOW_SECONDS else 0.0


class KeptAnswers:
    """Asks a question once, however many people wait for its answer."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._behind = threading.Lock()  # one at a time is asked anew: pages come first
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, key: Hashable, ask: Callable[[], T], *, hardly_changes: bool = False) -> T:
        """Return the answer to a question; one thread asks, others that come meanwhile get what it was told.

        Nobody waits for one that `hardly_changes` while the last is not too old.
        """
        with self._lock:
            if len(self._kept) > _MOST_ANSWERS:
                self._kept.clear()
            kept = self._kept.setdefault(key, _Kept())
        if self._now() < kept.at + kept.oldest_shown(hardly_changes=hardly_changes):
            self._ask_anew_if_due(kept, ask)
        else:
            with kept.lock:
                if self._now() >= kept.until:
                    self._ask(kept, ask)
        answer: T = kept.answer
        return answer

    def _ask_anew_if_due(self, kept: _Kept, ask: Callable[[], T]) -> None:
        with kept.lock:
            if self._now() < kept.until or kept.is_asked_anew:
                return
            kept.is_asked_anew = True
        threading.Thread(target=self._ask_behind, args=(kept, ask), name="kept answers", daemon=True).start()

    def _ask_behind(self, kept: _Kept, ask: Callable[[], T]) -> None:
        try:
            with self._behind:
                self._ask(kept, ask)
        except OnboardingError:
            kept.at = -math.inf  # whoever asks next is told why
        finally:
            kept.is_asked_anew = False

    def _ask(self, kept: _Kept, ask: Callable[[], T]) -> None:
        began = self._now()
        kept.answer = ask()
        kept.at = self._now()
        kept.took = kept.at - began
        is_true = kept.changed_at <= began  # else it may be what was true before
        kept.until = (
            kept.at + min(max(LEAST_SECONDS, TIMES_AS_LONG * kept.took), MOST_SECONDS) if is_true else -math.inf
        )

    def forget(self) -> None:
        """Forget what is quick to ask again, and let the rest be asked anew: somebody has changed something."""
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if kept.took > SLOW_SECONDS}
            for kept in self._kept.values():
                kept.until, kept.changed_at = -math.inf, self._now()
