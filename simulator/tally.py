"""What arrived and what was answered, for judging a run."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

from simulator.state import Sources

#: Longest list of doubled references in the statistics.
MAX_DOUBLED_SHOWN = 100


class Arrivals:
    """The times at which requests arrived, in epoch seconds, never decreasing; figures are computed when asked for."""

    def __init__(self) -> None:
        self.times = array("d")
        self._worst = 0
        self._tail = 0
        self._seen = 0
        self._per_second: Counter[int] = Counter()

    def add(self, at: float) -> None:
        """Count a request; a time before the last one counts as the last one's."""
        times = self.times
        times.append(at if not times or at >= times[-1] else times[-1])

    def worst_second(self) -> int:
        """Return the largest number of requests in any sliding second."""
        self._catch_up()
        return self._worst

    def per_second(self) -> list[list[int]]:
        """Return `[epoch second, requests]` for every second with requests, in order."""
        self._catch_up()
        return [[second, count] for second, count in sorted(self._per_second.items())]

    def first(self) -> float | None:
        """Return when the first request arrived."""
        return self.times[0] if self.times else None

    def last(self) -> float | None:
        """Return when the last request arrived."""
        return self.times[-1] if self.times else None

    def _catch_up(self) -> None:
        """Go on where the last question stopped, so that asking often costs nothing twice."""
        times, tail = self.times, self._tail
        for head in range(self._seen, len(times)):
            arrived = times[head]
            self._per_second[int(arrived)] += 1
            while times[tail] <= arrived - 1.0:
                tail += 1
            self._worst = max(self._worst, head - tail + 1)
        self._tail, self._seen = tail, len(times)


class Tally:
    """Counts of one run."""

    def __init__(self) -> None:
        self.requests = Arrivals()
        self.creates = Arrivals()
        self.by_operation: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.throttled = 0
        self.wrong_auth = 0
        self.missing_auth = 0

    def arrived(self, operation: str, at: float) -> None:
        """Count a request."""
        self.requests.add(at)
        self.by_operation[operation] += 1
        if operation == "createSource":
            self.creates.add(at)

    def as_json(self, sources: Sources, distinct_keys: int) -> dict[str, Any]:
        """Return the statistics in the form that `simulator.control` documents."""
        doubled = list(sources.doubled_references())
        return {
            "created": len(sources),
            "references": {
                "total": sources.references,
                "doubled": doubled[:MAX_DOUBLED_SHOWN],
                "doubled_count": len(doubled),
            },
            "without_reference": sources.without_reference,
            "requests": dict(self.by_operation),
            "answers": dict(self.answers),
            "faults": dict(self.faults),
            "throttled": self.throttled,
            "wrong_auth": self.wrong_auth,
            "missing_auth": self.missing_auth,
            "requests_per_second": self.requests.per_second(),
            "creates_per_second": self.creates.per_second(),
            "worst_second": self.requests.worst_second(),
            "worst_second_creates": self.creates.worst_second(),
            "first_request_at": self.requests.first(),
            "last_request_at": self.requests.last(),
            "first_create_at": self.creates.first(),
            "last_create_at": self.creates.last(),
            "distinct_keys_seen": distinct_keys,
        }
