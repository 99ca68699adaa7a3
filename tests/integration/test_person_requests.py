"""What elepay is asked for a person counts against the fleet's rate limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import KEY, Simulator, makes_services

from tasks.operations import person_requests
from tasks.operations.person_requests import wait_for_place
from tasks.services import Services


@pytest.fixture
def make(tmp_path: Path, simulator: Simulator) -> Iterator[Callable[..., Services]]:
    with makes_services(tmp_path, ELEPAY_SECRET_KEY=KEY, ELEPAY_BASE_URL=simulator.url) as services:
        yield services


def test_a_place_is_taken_of_the_fleets_limit(make: Callable[..., Services], redis_url: str) -> None:
    services = make(REDIS_URL=redis_url, ELEPAY_REQUESTS_PER_SECOND="5")
    wait_for_place(services)
    started = time.monotonic()
    for _ in range(5):
        wait_for_place(services)
    assert time.monotonic() - started > 0.7


def test_a_person_waits_no_longer_than_some_seconds_for_a_fleet_that_pauses(
    make: Callable[..., Services], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_requests, "MOST_SECONDS", 1.0)
    services = make(REDIS_URL=redis_url)
    services.rate_limit.pause(60)
    started = time.monotonic()
    wait_for_place(services)
    assert 0.9 < time.monotonic() - started < 10


def test_without_a_fleet_or_its_redis_nobody_waits(make: Callable[..., Services]) -> None:
    wait_for_place(make())
    wait_for_place(make(REDIS_URL="redis://127.0.0.1:9/0"))
