"""The real throttle: at most so many requests in any sliding second."""

from __future__ import annotations

from collections import deque


class Ceiling:
    """Remembers the last second's requests; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._counted: deque[float] = deque()

    def admits(self, now: float, limit: int, *, hard: bool) -> bool:
        """Count a request and tell whether it is within `limit`; 0 is no limit.

        Requests beyond the limit are not counted, unless the ceiling is `hard`.
        """
        if limit <= 0:
            return True
        counted = self._counted
        while counted and counted[0] <= now - 1.0:
            counted.popleft()
        within = len(counted) < limit
        if within or hard:
            counted.append(now)
        return within
