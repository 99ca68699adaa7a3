"""Reports so far of a batch that the night left unfinished: once a night, when nothing of it is under way."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from factories import new_worker, running_batch, whole

from tasks.ledger import Ledger
from tasks.send_window import Window
from worker.inboxes.protocol import Claim
from worker.watcher.night_reports import NightReports


def window(opens_in_hours: int, closes_in_hours: int) -> Window:
    times = [f"{datetime.now(UTC) + timedelta(hours=hours):%H:%M}" for hours in (opens_in_hours, closes_in_hours)]
    return Window.of(*times, "UTC")


@pytest.fixture
def closed(ledger: Ledger) -> NightReports:
    """The window closes again in 3 hours: it was closed 21 hours ago."""
    return NightReports(ledger, window(2, 3), "UTC")


def claim_of(hours_ago: int) -> Claim:
    return Claim(Path("1@w"), {"name": "a.csv", "claimed_at": time.time() - 3600 * hours_ago})


@pytest.mark.parametrize("open_window", [Window(), window(-2, 2)])
def test_nothing_is_due_while_the_window_is_open(ledger: Ledger, open_window: Window) -> None:
    night = NightReports(ledger, open_window, "UTC")
    assert night.window_closed_at() is None
    assert not night.are_due(claim_of(23), running_batch(ledger))


def test_the_reports_are_due_once_when_the_window_has_closed(ledger: Ledger, closed: NightReports) -> None:
    batch, claim = running_batch(ledger), claim_of(23)
    closed_at = closed.window_closed_at()
    assert closed_at is not None
    assert closed_at == pytest.approx(time.time() - 21 * 3600, abs=61)
    assert closed.are_due(claim, batch)
    name = closed.name(claim, batch, closed_at)
    assert name == f"{batch}-a-night-{datetime.fromtimestamp(closed_at, UTC):%Y-%m-%d}"
    claim.facts["outbox"] = {name: name}
    assert not closed.are_due(claim, batch), "published"


def test_a_file_that_came_after_the_night_has_no_reports_of_it(ledger: Ledger, closed: NightReports) -> None:
    assert not closed.are_due(claim_of(20), running_batch(ledger))


def test_the_reports_wait_for_rows_that_are_under_way(ledger: Ledger, closed: NightReports) -> None:
    batch, worker = running_batch(ledger), new_worker(ledger)
    ledger.leases.claim(whole(batch), worker.number)
    assert not closed.are_due(claim_of(23), batch)
    ledger.workers.end(worker.number)
    ledger.reaper.reap(look_up_delay_seconds=1.0)
    assert closed.are_due(claim_of(23), batch)
