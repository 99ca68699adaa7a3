"""When the rows of a commit may leave: places of the fleet's rate limit, reserved before the rows are marked.

A place lies in the future, and a commit takes time. Where places are scarce they are reserved so far ahead (the *lead*)
that the rows are marked when their places come, and not much sooner: no row should stand in `sending` while it waits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from tasks.errors import RateLimitUnavailable
from tasks.send.rate_limit import RateLimit

#: A wait for the rate limit longer than this is worth writing the outcomes first.
LONG_WAIT_SECONDS = 0.03
#: The lead is expected to be so long at first: the first commit is the slowest.
FIRST_LEAD_SECONDS = 0.15
#: ... and so long at most: a commit that takes longer makes its rows late, and late rows crowd into the second after.
MOST_LEAD_SECONDS = 0.25
#: Places missed by more than this are given up.
LATE_SECONDS = 0.02
#: What is asked for less than this before its end is given only then; a pause is looked at so often at most.
PAUSE_STEP_SECONDS, LEAST_PAUSE_SECONDS, MOST_PAUSE_SECONDS = 0.5, 0.02, 1.0


class Places(NamedTuple):
    """Places of the rate limit, by the loop's clock; none: ask again at `first_at`."""

    rows: int  #: so many rows have one
    first_at: float
    interval_seconds: float

    def at(self, number: int) -> float:
        """Return when a place comes; the first is number 0."""
        return self.first_at + number * self.interval_seconds


#: For a commit without rows to send.
NO_PLACES = Places(0, 0.0, 0.0)


class Pacing:
    """Reserves the places of one process's commits; used by the loop's thread only."""

    def __init__(self, limiter: RateLimit, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._limiter, self._clock, self._sleep = limiter, clock, sleep
        self._lead_seconds = FIRST_LEAD_SECONDS
        self._is_scarce = True
        self.paused_until = 0.0  #: the fleet gives no places before

    def reserve(self, rows: int) -> Places:
        """Reserve places for up to so many rows. Raises RateLimitUnavailable."""
        lead = self._lead_seconds if self._is_scarce else 0.0
        reserved = self._limiter.reserve(rows, lead)
        now, wait = self._clock(), reserved.wait_seconds
        self._is_scarce = wait > lead + 0.001
        if not reserved.places:
            self.paused_until = now + wait
            wait = min(max(wait - PAUSE_STEP_SECONDS, LEAST_PAUSE_SECONDS), MOST_PAUSE_SECONDS)
        return Places(reserved.places, now + wait, reserved.interval_seconds)

    def is_long_before(self, places: Places) -> bool:
        """Return whether the first place is so far away that outcomes should be written before it."""
        return places.first_at - self._clock() > LONG_WAIT_SECONDS

    def wait_for(self, places: Places) -> None:
        """Sleep until the rows must be marked to leave at the first place."""
        self._sleep(max(0.0, places.first_at - self._clock() - self._lead_seconds))

    def learn(self, commit_seconds: float) -> None:
        """Note how long a commit took: the next ones may take as long."""
        self._lead_seconds = min(MOST_LEAD_SECONDS, max(1.3 * commit_seconds + 0.005, 0.97 * self._lead_seconds))

    def replace_missed(self, places: Places, rows: int) -> Places:
        """Let places go that the commit has missed, and take others: late rows would crowd into the next second."""
        if not rows or not self._is_scarce or self._clock() - places.first_at <= LATE_SECONDS:
            return places
        with contextlib.suppress(RateLimitUnavailable):
            reserved = self._limiter.reserve(rows)
            if reserved.places == rows:
                return Places(rows, self._clock() + reserved.wait_seconds, reserved.interval_seconds)
        return places
