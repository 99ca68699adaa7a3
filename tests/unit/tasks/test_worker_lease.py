"""Until when a process may send what it has marked."""

from __future__ import annotations

import itertools

from factories import ManualClock

from tasks.send.worker_lease import WorkerLease


def lease(clock: ManualClock) -> WorkerLease:
    made = WorkerLease(itertools.count(1).__next__, 40.0, clock)
    made.register()
    return made


def test_a_lease_outlives_what_ends_before_it() -> None:
    clock = ManualClock()
    held = lease(clock)
    assert held.worker == 1
    assert held.outlives(1, 40.0)
    assert not held.outlives(1, 40.1)
    clock.now += 30.0
    assert held.outlives(1, 10.0)
    assert not held.outlives(1, 11.0)


def test_rows_of_a_former_number_may_not_leave_under_the_new_lease() -> None:
    held = lease(ManualClock())
    held.register()
    assert held.worker == 2
    assert held.outlives(2, 1.0)
    assert not held.outlives(1, 1.0)


def test_a_renewal_counts_from_before_its_transaction() -> None:
    clock = ManualClock()
    held = lease(clock)
    clock.now += 20.0
    held.renew(clock.now - 5.0, kept=True)
    assert held.outlives(1, 35.0)
    assert not held.outlives(1, 35.1)


def test_a_lease_that_had_ended_is_not_prolonged() -> None:
    clock = ManualClock()
    held = lease(clock)
    clock.now += 39.0
    held.renew(clock.now, kept=False)
    assert not held.outlives(1, 2.0)
    assert not held.must_be_renewed, "it was tried just now"


def test_it_must_be_renewed_after_a_quarter_of_its_time() -> None:
    clock = ManualClock()
    held = lease(clock)
    clock.now += 10.0
    assert not held.must_be_renewed
    clock.now += 0.1
    assert held.must_be_renewed
