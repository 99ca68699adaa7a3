"""What elepay is asked for a person counts against the fleet's rate limit."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from factories import KEY, Simulator

from tasks.operations import person_requests
from tasks.operations.person_requests import wait_for_place
from tasks.services import Services
from tasks.settings import load_settings


def services_of(folder: Path, simulator: Simulator, **settings: object) -> Services:
    environment = {"ELEPAY_SECRET_KEY": KEY, "ELEPAY_BASE_URL": simulator.url, "ONBOARD_HOME": str(folder / "home")}
    return Services(load_settings({**environment, **{name: str(value) for name, value in settings.items()}}))


def test_a_place_is_taken_of_the_fleets_limit(tmp_path: Path, simulator: Simulator, redis_url: str) -> None:
    services = services_of(tmp_path, simulator, REDIS_URL=redis_url, ELEPAY_REQUESTS_PER_SECOND=5)
    wait_for_place(services)
    started = time.monotonic()
    for _ in range(5):
        wait_for_place(services)
    assert time.monotonic() - started > 0.7


def test_a_person_waits_no_longer_than_some_seconds_for_a_fleet_that_pauses(
    tmp_path: Path, simulator: Simulator, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_requests, "MOST_SECONDS", 1.0)
    services = services_of(tmp_path, simulator, REDIS_URL=redis_url)
    services.rate_limit.pause(60)
    started = time.monotonic()
    wait_for_place(services)
    assert 0.9 < time.monotonic() - started < 10


def test_without_a_fleet_or_its_redis_nobody_waits(tmp_path: Path, simulator: Simulator) -> None:
    wait_for_place(services_of(tmp_path, simulator))
    wait_for_place(services_of(tmp_path, simulator, REDIS_URL="redis://127.0.0.1:9/0"))
