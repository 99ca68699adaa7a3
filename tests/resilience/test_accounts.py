"""Nights with two accounts: a test key and a live key, on one ledger and one Redis."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import ROWS, Night
from factories import KEY, batches_that_run, wait_until, write_csv
from machines import Valkey

from tasks.ledger import Ledger

LIVE = {"ELEPAY_SECRET_KEY": KEY.replace("test", "live"), "ELEPAY_MODE": "live"}


def by_mode(night: Night) -> dict[bool, set[str]]:
    """The customers with a source, by `liveMode`."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for source in night.simulator.sources():
        found[source["liveMode"]].add(source["customerId"])
    return found


@pytest.mark.representative
def test_a_test_fleet_and_a_live_fleet_share_ledger_and_redis_and_each_sends_its_own(
    night: Night, valkey: Valkey, postgres_url: str
) -> None:
    night.simulator.control(live=True)
    place: dict[str, Any] = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url, "ELEPAY_REQUESTS_PER_SECOND": 60}
    test, live = night.machine(**place), night.machine(**place, **LIVE)
    assert live("ledger", "create").returncode == 0
    night.fleet(test)
    night.fleet(live)
    files = {mode: write_csv(night.folder / f"{mode}.csv", ROWS, prefix=f"{mode}_") for mode in ("test", "live")}
    runs = {mode: night.run(command, files[mode], "--no-workers") for mode, command in (("test", test), ("live", live))}
    for run in runs.values():
        said = run.json(90)
        assert (said["exit"], said["books"]["created"]) == (0, ROWS), said
        assert said["seconds"] > 0.9 * ROWS / 60, "each keeps its own limit"
    modes = by_mode(night)
    assert len(modes[True]) == len(modes[False]) == ROWS
    assert all(customer.startswith("live_") for customer in modes[True])
    assert all(customer.startswith("test_") for customer in modes[False])
    statistics = night.simulator.statistics()
    assert statistics["created"] == 2 * ROWS
    # on a busy machine some arrive late, in the second after; without limits of their own there would be 240
    assert statistics["worst_second_creates"] <= 2 * 60 * 1.2, "two limits, and no more"
    night.note(rows=2 * ROWS)


def test_a_live_fleet_leaves_a_test_batch_on_its_ledger_alone(night: Night, valkey: Valkey, postgres_url: str) -> None:
    night.simulator.control(live=True)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    test, live = night.machine(**place), night.machine(**place, **LIVE)
    assert live("ledger", "create").returncode == 0
    started = night.run(test, night.file(), "--no-workers")
    ledger = Ledger.open(postgres_url)
    wait_until(lambda: batches_that_run(ledger) == [1], 60, "the test batch")
    night.fleet(live)
    said = night.run(live, write_csv(night.folder / "live.csv", 100, prefix="live_"), "--no-workers").json(90)
    assert said["books"]["created"] == 100
    assert not by_mode(night)[False]
    assert ledger.queries.counts(1).open == ROWS
    night.fleet(test)
    said = started.json(90)
    assert said["books"]["created"] == ROWS
    assert {len(customers) for customers in by_mode(night).values()} == {100, ROWS}
    ledger.close()
    night.note(rows=ROWS + 100)
