"""The counters count each thing that can come of a request, from many threads, in next to no time."""

from __future__ import annotations

import threading
import time

import pytest

from tasks.errors import ElepayError, Fenced, Halted, NotSent, Refused, Throttled
from tasks.metrics_registry import OUTCOMES, Counters


def subclasses(kind: type[ElepayError]) -> set[type[ElepayError]]:
    found = set(kind.__subclasses__())
    return found.union(*map(subclasses, found))


def test_whatever_can_come_of_a_request_has_a_word_of_its_own() -> None:
    assert set(OUTCOMES) == {None, *subclasses(ElepayError)}
    assert len(set(OUTCOMES.values())) == len(OUTCOMES)


def test_each_request_is_counted_once_and_only_answers_have_a_time() -> None:
    counters = Counters()
    counters.count_request(None, 0.12)
    counters.count_request(Refused("U003005", http_status=400), 70.0)
    counters.count_request(NotSent("connection_refused"), 5.0)
    counters.count_request(Fenced("not_sent"), 5.0)
    counted = counters.read()
    assert {name: number for name, number in counted.requests.items() if number} == {
        "created": 1,
        "refused": 1,
        "not_sent": 1,
        "held_back": 1,
    }
    assert sum(counted.latencies) == 2
    assert counted.latencies[-1] == 1, "slower than all parts of the histogram"
    assert counted.latency_seconds == pytest.approx(70.12)


def test_a_refused_key_is_remembered_until_elepay_takes_it() -> None:
    counters = Counters()
    counters.count_request(Halted("M004001", http_status=401), 0.1)
    counters.count_request(Throttled("M005000", http_status=400), 0.1)
    assert counters.read().halted
    counters.count_request(None, 0.1)
    assert not counters.read().halted


def test_many_threads_count_every_request() -> None:
    counters = Counters()
    threads = [
        threading.Thread(target=lambda: [counters.count_request(None, 0.1) for _ in range(2000)]) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.read().requests["created"] == 32_000


def test_counting_costs_next_to_nothing() -> None:
    counters = Counters()
    best = 1.0
    for _ in range(20):
        started = time.thread_time()
        for _ in range(1000):
            counters.count_request(None, 0.1)
        best = min(best, (time.thread_time() - started) / 1000)
    assert best < 5e-6
