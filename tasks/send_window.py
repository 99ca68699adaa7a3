"""When sending is allowed: a nightly window in the people's time zone, or always; pure arithmetic of times."""

from __future__ import annotations

import math
import re
from datetime import datetime, time, timedelta
from typing import NamedTuple, Self
from zoneinfo import ZoneInfo

from tasks.errors import BadValue

_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?")


class Span(NamedTuple):
    """One opening of a window, in UTC epoch seconds: from `opens_at`, and up to but not including `closes_at`."""

    opens_at: float
    closes_at: float


class Window:
    """From one time of day to another, perhaps over midnight; without both of them it is always open."""

    def __init__(self, not_before: time | None = None, until: time | None = None, zone: str = "UTC") -> None:
        self._not_before, self._until, self._zone = not_before, until, ZoneInfo(zone)

    @classmethod
    def of(cls, not_before: str, until: str, zone: str) -> Self:
        """Return the window from HH:MM (or HH:MM:SS) to HH:MM; both empty: always. Raises BadValue."""
        if bool(not_before) != bool(until):
            raise BadValue("a window needs both a beginning and an end, or neither")
        if not not_before:
            return cls(zone=zone)
        beginning, end = time_of_day(not_before), time_of_day(until)
        if beginning == end:
            raise BadValue("a window needs a beginning and an end that differ; always: leave both empty")
        return cls(beginning, end, zone)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the window that `str` wrote. Raises BadValue."""
        hours, _, zone = text.partition(" ")
        not_before, _, until = hours.partition("-")
        return cls.of(not_before, until, zone or "UTC")

    def __str__(self) -> str:
        """Return it as the ledger keeps it: `01:00-06:00 Asia/Tokyo`; always: nothing."""
        if self._not_before is None or self._until is None:
            return ""
        return f"{self._not_before.isoformat()}-{self._until.isoformat()} {self._zone.key}"

    @property
    def always(self) -> bool:
        """True if it never closes."""
        return self._not_before is None

    def span(self, now: float) -> Span:
        """Return the opening that `now` lies in, else the next one.

        Where the clocks are put forward, a time of day that does not exist counts as so much later; where they are put
        back, the first of two counts. A night in which nothing is left of the window is passed over.
        """
        if self._not_before is None or self._until is None:
            return Span(-math.inf, math.inf)
        today = datetime.fromtimestamp(now, self._zone).date()
        over_midnight = self._until <= self._not_before
        for days in range(-1, 4):
            day = today + timedelta(days=days)
            opens = datetime.combine(day, self._not_before, self._zone).timestamp()
            ends_on = day + timedelta(days=1) if over_midnight else day
            closes = datetime.combine(ends_on, self._until, self._zone).timestamp()
            if now < closes and opens < closes:
                return Span(opens, closes)
        raise AssertionError("a window opens every night")  # pragma: no cover - no zone skips three nights

    def span_with(self, other: Window, now: float) -> Span:
        """Return the next opening in which both windows are open, or until when they are; it may be closed by then.

        Whoever finds one of them closed at `opens_at` asks again.
        """
        first, second = sorted((self.span(now), other.span(now)))
        closes_at = min(first.closes_at, second.closes_at)
        return Span(second.opens_at, closes_at if closes_at > second.opens_at else second.closes_at)

    def is_open(self, now: float) -> bool:
        """Tell whether sending is allowed now."""
        return self.span(now).opens_at <= now


def time_of_day(text: str) -> time:
    """Return HH:MM or HH:MM:SS as a time. Raises BadValue."""
    found = _TIME_OF_DAY.fullmatch(text.strip())
    if found is None:
        raise BadValue("{text!r} is not a time of day such as 01:00", text=text)
    return time(int(found[1]), int(found[2]), int(found[3] or 0))
