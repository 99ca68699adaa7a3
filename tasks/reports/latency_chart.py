"""Answer times: percentiles and a few bars out of any histogram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_STEPS = (10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000)


class LatencyBar(NamedTuple):
    """Answers that took at least `low` and less than `high` milliseconds."""

    low: int
    high: int | None  #: None: no end
    answers: int


def percentiles(histogram: Mapping[int, int]) -> dict[str, float]:
    """Return p50, p95, p99 and max of milliseconds -> answers; nothing for nothing."""
    total = sum(histogram.values())
    if not total:
        return {}
    found: dict[str, float] = {}
    seen = 0
    wanted = list(_PERCENTILES.items())
    for milliseconds, answers in sorted(histogram.items()):
        seen += answers
        while wanted and seen >= wanted[0][1] * total:
            found[wanted.pop(0)[0]] = milliseconds
    return {**found, "max": max(histogram)}


def bars(histogram: Mapping[int, int]) -> list[LatencyBar]:
    """Return the answers in steps that people know, from the first to the last that has any."""
    edges = [0, *_STEPS]
    found = []
    for low, high in zip(edges, [*_STEPS, None], strict=True):
        answers = sum(n for ms, n in histogram.items() if low <= ms and (high is None or ms < high))
        found.append(LatencyBar(low, high, answers))
    filled = [at for at, bar in enumerate(found) if bar.answers]
    return found[filled[0] : filled[-1] + 1] if filled else []
