"""What this process has asked elepay and what came of it: plain numbers, kept where they arise, read by metrics."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Fenced,
    Halted,
    Maintenance,
    MethodClosed,
    NotSent,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)

#: The word for each thing that can come of a request.
OUTCOMES: Mapping[type[ElepayError] | None, str] = MappingProxyType(
    {
        None: "created",
        Refused: "refused",
        Throttled: "throttled",
        Unclear: "unclear",
        NotSent: "not_sent",
        Fenced: "held_back",
        Maintenance: "maintenance",
        TryLater: "try_later",
        AlreadyThere: "already_there",
        MethodClosed: "method_closed",
        Halted: "halted",
    }
)
#: What a look-up can say; `failed`: it brought no list.
FINDINGS = ("found", "absent", "unknown", "failed")
#: Upper ends of the latency histogram, in seconds.
LATENCY_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)


@dataclass(frozen=True, slots=True)
class Counted:
    """The counters at one moment."""

    requests: Mapping[str, int]
    look_ups: Mapping[str, int]
    commits: int
    latencies: tuple[int, ...]  #: answers in each part of the histogram; the last: slower than all of them
    latency_seconds: float  #: the sum of all
    halted: bool  #: the last that elepay said about key and account was no


class Counters:
    """Counts for one process; many threads count, some tenths of a microsecond a row."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = dict.fromkeys(OUTCOMES.values(), 0)
        self._look_ups = dict.fromkeys(FINDINGS, 0)
        self._latencies = [0] * (len(LATENCY_SECONDS) + 1)
        self._latency_seconds = 0.0
        self._halted = False
        self._commits = 0

    def count_request(self, error: ElepayError | None, seconds: float) -> None:
        """Count one request: what came of it, and how long its answer took if there was one."""
        outcome = OUTCOMES.get(None if error is None else type(error), "unclear")
        with self._lock:
            self._requests[outcome] += 1
            if error is None or error.http_status is not None:
                self._latencies[bisect_left(LATENCY_SECONDS, seconds)] += 1
                self._latency_seconds += seconds
            if error is None:
                self._halted = False
            elif isinstance(error, Halted):
                self._halted = True

    def count_look_up(self, finding: str) -> None:
        """Count one look-up."""
        with self._lock:
            self._look_ups[finding] += 1

    def count_commit(self) -> None:
        """Count one commit of the send loop; only that loop may call this."""
        self._commits += 1

    def read(self) -> Counted:
        """Return how the counters stand."""
        with self._lock:
            return Counted(
                dict(self._requests),
                dict(self._look_ups),
                self._commits,
                tuple(self._latencies),
                self._latency_seconds,
                self._halted,
            )


#: This process's own.
counters = Counters()
