"""Slices from their claim to their end, on a real ledger."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time
from pathlib import Path
from typing import NamedTuple

import pytest
from factories import ManualClock, new_row, new_worker, running_batch, whole

from tasks.ledger import Ledger
from tasks.send.batch_guards import BatchGuards
from tasks.send.slice_claims import SliceClaims
from tasks.send.worker_lease import WorkerLease
from tasks.send_window import Window

LEASE_SECONDS = 60.0
SLICE_SECONDS = 30.0


class Desk(NamedTuple):
    ledger: Ledger
    clock: ManualClock
    lease: WorkerLease

    def claims(self, window: Window | None = None, slice_seconds: float = SLICE_SECONDS) -> SliceClaims:
        guards = BatchGuards(self.ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)
        return SliceClaims(self.ledger, self.lease, guards, window or Window(), slice_seconds, 5.0, self.clock)

    def states(self, batch: int) -> list[str]:
        return [row.state for row in self.ledger.queries.report_rows(batch)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger, clock = Ledger.open(f"sqlite:///{tmp_path}/ledger.db"), ManualClock()
    lease = WorkerLease(lambda: new_worker(ledger, LEASE_SECONDS).number, LEASE_SECONDS, clock)
    lease.register()
    yield Desk(ledger, clock, lease)
    ledger.close()


def closed_now(desk: Desk) -> Window:
    """A window of one minute that begins in some hours."""
    hour = int(desk.ledger.now() // 3600 + 6) % 24
    return Window(time(hour, 0), time(hour, 1))


def test_a_claimed_slice_has_its_rows_and_its_end(desk: Desk) -> None:
    batch = running_batch(desk.ledger, 3)
    run = desk.claims().claim(whole(batch))
    assert run is not None
    assert [row.record for row in run.to_send] == [1, 2, 3]
    assert (run.claimed, run.open, run.worker) == (3, 3, desk.lease.worker)
    assert run.ends_at == desk.clock.now + SLICE_SECONDS
    assert desk.states(batch) == ["claimed"] * 3


def test_a_slice_outside_of_the_window_is_put_off(desk: Desk) -> None:
    batch = running_batch(desk.ledger, 3)
    claims = desk.claims(closed_now(desk))
    assert claims.claim(whole(batch)) is None
    assert desk.states(batch) == ["waiting"] * 3
    assert desk.ledger.dispatch.take_due() == [], "it is not due before the window opens"


def test_a_slice_ends_when_its_window_closes(desk: Desk) -> None:
    batch = running_batch(desk.ledger, 1)
    hour = int(desk.ledger.now() // 3600)
    window = Window(time((hour - 2) % 24, 0), time((hour + 3) % 24, 0))
    run = desk.claims(window, slice_seconds=1e9).claim(whole(batch))
    assert run is not None
    assert run.ends_at == run.closes_at
    left = (hour + 3) * 3600 - desk.ledger.now()
    assert run.closes_at == pytest.approx(desk.clock.now + left, abs=60.0)


def test_what_was_not_sent_is_given_back_at_the_end(desk: Desk) -> None:
    batch = running_batch(desk.ledger, 2)
    claims = desk.claims()
    run = claims.claim(whole(batch))
    assert run is not None
    run.delay(run.to_send.popleft(), desk.clock.now + 50.0, desk.ledger.now() + 50.0)
    run.give_up_queued()
    assert run.open == 0
    claims.end(run)
    assert desk.states(batch) == ["waiting"] * 2
    again = claims.claim(whole(batch))
    assert again is not None
    assert [row.record for row in again.to_send] == [2], "the first is not due yet"


def test_rows_that_this_process_does_not_know_are_given_back_now_and_then(desk: Desk) -> None:
    lost, batch = running_batch(desk.ledger, 2), running_batch(desk.ledger, [new_row(8), new_row(9)])
    claims = desk.claims()
    desk.ledger.leases.claim(whole(lost), desk.lease.worker)  # its answer got lost: nobody works on it
    assert claims.claim(whole(batch)) is not None
    claims.give_back_unknown()
    assert desk.states(lost) == ["claimed"] * 2, "not every time"
    desk.clock.now += LEASE_SECONDS / 4 + 1
    claims.give_back_unknown()
    assert desk.states(lost) == ["waiting"] * 2
    assert desk.states(batch) == ["claimed"] * 2


def test_rows_of_a_slice_that_is_forgotten_are_given_back(desk: Desk) -> None:
    batch = running_batch(desk.ledger, 2)
    claims = desk.claims()
    run = claims.claim(whole(batch))
    assert run is not None
    claims.forget(run)
    desk.clock.now += LEASE_SECONDS / 4 + 1
    claims.give_back_unknown()
    assert desk.states(batch) == ["waiting"] * 2
