"""The timeline of a run in at most a hundred steps: rows a second against the limit, throttling and pauses marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tasks.reports.report_data import TimelinePoint

_MOST_STEPS = 100
_STEP_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200)


class Step(NamedTuple):
    """What happened in one step."""

    at: float  #: epoch second in which it begins
    rate: float  #: rows a second
    throttled: int  #: answers
    paused: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run, step by step."""

    steps: list[Step]
    step_seconds: int
    limit: float | None

    @property
    def top(self) -> float:
        """The rate at the upper edge of a chart, a round number."""
        highest = max([step.rate for step in self.steps] + [self.limit or 0.0])
        if highest <= 0:
            return 1.0
        unit = 10.0 ** math.floor(math.log10(highest))
        return next(unit * factor for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12) if unit * factor >= highest * 1.05)

    @property
    def highest(self) -> float:
        """The highest rate of any step."""
        return max(step.rate for step in self.steps)

    @property
    def throttled(self) -> int:
        """Throttled answers of the whole run."""
        return sum(step.throttled for step in self.steps)

    @property
    def paused(self) -> int:
        """Steps in which the fleet paused."""
        return sum(step.paused for step in self.steps)

    @property
    def end(self) -> float:
        """Epoch second in which the last step ends."""
        return self.steps[-1].at + self.step_seconds


def timeline(points: Sequence[TimelinePoint], limit: float | None) -> Timeline | None:
    """Return the points in steps of a length that people know; None without any."""
    if not points:
        return None
    first = math.floor(min(point.at for point in points))
    seconds = math.floor(max(point.at for point in points)) + 1 - first
    length = next((each for each in _STEP_SECONDS if each * _MOST_STEPS >= seconds), math.ceil(seconds / _MOST_STEPS))
    count = math.ceil(seconds / length)
    sent, throttled, paused = [0] * count, [0] * count, [False] * count
    for point in points:
        at = (math.floor(point.at) - first) // length
        sent[at] += point.sent
        throttled[at] += point.throttled
        paused[at] = paused[at] or point.paused
    lasted = [min(length, seconds - at * length) for at in range(count)]
    steps = [Step(first + at * length, sent[at] / lasted[at], throttled[at], paused[at]) for at in range(count)]
    return Timeline(steps, length, limit)
