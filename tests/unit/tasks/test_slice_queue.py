"""Which rows are taken next, by a real breaker, real guards, and a clock that the test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import ManualClock, new_row, running_batch

from tasks.ledger import Ledger
from tasks.models import LeasedRow, Outcome, RowState, Slice
from tasks.send import slice_queue
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import OPEN_AFTER, SLOW_START_ROWS, CircuitBreaker
from tasks.send.outcomes import Decision, Effect
from tasks.send.slice_queue import COMMIT_ROWS, Completed, QueuedRow, SliceQueue, SliceRun

WORKER = 7


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: ManualClock) -> Iterator[Ledger]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    yield ledger
    ledger.close()


@pytest.fixture
def guards(ledger: Ledger) -> BatchGuards:
    return BatchGuards(ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)


@pytest.fixture
def breaker(clock: ManualClock) -> CircuitBreaker:
    return CircuitBreaker(clock)


@pytest.fixture
def queue(ledger: Ledger, breaker: CircuitBreaker, guards: BatchGuards, clock: ManualClock) -> SliceQueue:
    return SliceQueue(ledger, breaker, guards, 400, clock)


def leased(batch: int, record: int, *, look_up: bool = False) -> LeasedRow:
    return LeasedRow(
        batch_id=batch,
        record=record,
        line=record + 1,
        reference=f"ref{batch}-{record}",
        customer_id=f"cus_{record}",
        payment_method="creditcard",
        resource="web",
        request=b"{}",
        attempts=0,
        look_ups=0,
        resends=0,
        sent_at=None,
        code=None,
        look_up=look_up,
    )


def run_of(batch: int, rows: int, *, look_ups: int = 0, ends_at: float = 1e9) -> SliceRun:
    total = rows + look_ups
    run = SliceRun(Slice(batch, 1, total), WORKER, ends_at, claimed=total, open=total)
    for record in range(1, total + 1):
        run.add(leased(batch, record, look_up=record > rows))
    return run


def known(breaker: CircuitBreaker, *batches: int) -> None:
    """Let batches have had their first definite answer."""
    for batch in batches:
        breaker.create_leaves(batch)
        breaker.create_ended(batch, definite=True)


def keys(rows: list[QueuedRow]) -> list[tuple[int, int]]:
    return [(row.batch_id, row.record) for _, row in rows]


def decided(queued: QueuedRow, state: RowState = RowState.CREATED, *, again_after: float | None = None) -> Completed:
    run, row = queued
    outcome = Outcome(row.batch_id, row.record, 1, state, worker=None if again_after is None else WORKER, look_ups=3)
    return Completed(run, row, Decision(outcome, again_after, definite=True))


def test_slices_take_turns_whatever_their_size(queue: SliceQueue, breaker: CircuitBreaker) -> None:
    known(breaker, 1, 2)
    queue.add(run_of(1, 200))
    queue.add(run_of(2, 2))
    taken = keys(queue.take())
    assert len(taken) == COMMIT_ROWS
    assert taken[:5] == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]


def test_the_slice_that_came_first_does_not_always_come_first(queue: SliceQueue, breaker: CircuitBreaker) -> None:
    known(breaker, 1, 2)
    queue.add(run_of(1, 500))
    queue.add(run_of(2, 500))
    assert [keys(queue.take())[0][0] for _ in range(3)] == [1, 2, 1]


def test_a_slice_gives_a_row_to_look_up_and_one_to_send_in_turn(queue: SliceQueue, breaker: CircuitBreaker) -> None:
    known(breaker, 1)
    queue.add(run_of(1, 2, look_ups=2))
    assert [row.look_up for _, row in queue.take()] == [True, False, True, False]


def test_no_more_rows_are_taken_than_may_be_in_flight(
    ledger: Ledger, breaker: CircuitBreaker, guards: BatchGuards, clock: ManualClock
) -> None:
    queue = SliceQueue(ledger, breaker, guards, 5, clock)
    known(breaker, 1)
    queue.add(run_of(1, 20))
    first = queue.take()
    queue.start(len(first))
    assert (len(first), queue.in_flight) == (5, 5)
    assert queue.take() == []
    queue.complete(decided(first[0]), was_look_up=False)
    assert keys(queue.take()) == [(1, 6)]


def test_an_idle_queue_that_drains_is_woken(queue: SliceQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_queue, "IDLE_PAUSE_SECONDS", 3600.0)
    waiting = threading.Thread(target=queue.wait, daemon=True)
    waiting.start()
    queue.draining = True
    waiting.join(0.1)  # it waits by now, or finds that the process drains as it begins to
    queue.wake()
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_new_batch_starts_slowly(queue: SliceQueue) -> None:
    queue.add(run_of(1, 50))
    assert len(queue.take()) == SLOW_START_ROWS
    assert queue.take() == []


def test_rows_that_cannot_leave_come_back_in_front_and_free_their_places(queue: SliceQueue) -> None:
    queue.add(run_of(1, 50))
    taken = queue.take()
    queue.put_back(taken)
    assert keys(queue.take()) == keys(taken)


def test_a_slice_is_done_with_its_last_outcome(queue: SliceQueue) -> None:
    run = run_of(1, 2)
    queue.add(run)
    taken = queue.take()
    queue.start(2)
    for queued in taken:
        queue.complete(decided(queued), was_look_up=False)
    assert not queue.is_empty
    completed = queue.take_completed()
    queue.finish(completed[:1])
    assert not run.done.is_set()
    queue.finish(completed[1:])
    assert run.done.is_set()
    assert queue.is_empty


def test_a_slice_without_rows_is_done_at_once(queue: SliceQueue) -> None:
    run = run_of(1, 0)
    queue.add(run)
    assert run.done.is_set()
    assert queue.is_empty


def test_outcomes_that_could_not_be_written_come_before_those_that_came_meanwhile(queue: SliceQueue) -> None:
    queue.add(run_of(1, 3))
    taken = queue.take()
    queue.start(3)
    for queued in taken[:2]:
        queue.complete(decided(queued), was_look_up=False)
    first = queue.take_completed()
    queue.complete(decided(taken[2]), was_look_up=False)
    queue.put_back_completed(first)
    assert [each.row.record for each in queue.take_completed()] == [1, 2, 3]


def test_a_row_that_is_tried_again_waits_until_it_is_due(queue: SliceQueue, clock: ManualClock, ledger: Ledger) -> None:
    run = run_of(1, 1)
    queue.add(run)
    (queued,) = queue.take()
    before = ledger.now()
    queue.finish([decided(queued, RowState.UNCLEAR, again_after=5.0)])
    queue.refresh()
    assert queue.take() == []
    assert before + 5.0 <= run.not_before[1, 1] <= ledger.now() + 5.0
    clock.now += 5.0
    queue.refresh()
    ((_, row),) = queue.take()
    assert (row.look_up, row.look_ups) == (True, 3)


def test_a_row_that_others_may_try_again_is_done_here(queue: SliceQueue) -> None:
    run = run_of(1, 1)
    queue.add(run)
    (queued,) = queue.take()
    completed = decided(queued, RowState.UNCLEAR, again_after=5.0)
    completed.decision.outcome.worker = None
    queue.finish([completed])
    assert run.done.is_set()


def test_a_slice_whose_time_is_over_gives_back_what_is_not_in_flight(queue: SliceQueue, clock: ManualClock) -> None:
    run = run_of(1, 50, ends_at=clock.now + 10.0)
    queue.add(run)
    taken = queue.take()
    queue.start(len(taken))
    clock.now += 10.0
    queue.refresh()
    assert len(run.unsent) == 50 - SLOW_START_ROWS
    assert not run.done.is_set(), "what is in flight is waited for"
    for queued in taken:
        queue.complete(decided(queued), was_look_up=False)
    queue.finish(queue.take_completed())
    assert run.done.is_set()


def test_a_slice_does_not_wait_for_rows_that_are_due_only_after_its_time(queue: SliceQueue, clock: ManualClock) -> None:
    run = run_of(1, 2, ends_at=clock.now + 10.0)
    queue.add(run)
    for queued in queue.take():
        queue.finish([decided(queued, RowState.CLAIMED, again_after=20.0)])
    queue.refresh()
    assert run.done.is_set()
    assert [row.record for row in run.unsent] == [1, 2]
    assert set(run.not_before) == {(1, 1), (1, 2)}, "nobody is to take them before"


def test_a_draining_process_gives_everything_back(queue: SliceQueue) -> None:
    runs = [run_of(1, 5), run_of(2, 5)]
    for run in runs:
        queue.add(run)
    queue.draining = True
    queue.refresh()
    assert all(run.done.is_set() and len(run.unsent) == 5 for run in runs)
    assert queue.is_empty


def test_a_batch_that_stopped_gives_back_its_rows_and_no_others(queue: SliceQueue) -> None:
    stopped, other = run_of(1, 3), run_of(2, 3)
    queue.add(stopped)
    queue.add(other)
    queue.give_up_batches({1})
    assert stopped.done.is_set()
    assert len(stopped.unsent) == 3
    assert len(queue.take()) == 3


def test_rows_of_a_closed_method_are_refused_without_a_request(
    ledger: Ledger, queue: SliceQueue, guards: BatchGuards
) -> None:
    batch = running_batch(ledger, [new_row(1), new_row(2)])
    closes = leased(batch, 9)
    outcome = Outcome(batch, 9, 1, RowState.REFUSED, code="M001001")
    guards.take_effect(closes, Decision(outcome, effect=Effect.CLOSE_METHOD, definite=True))
    queue.add(run_of(batch, 2))
    assert queue.take() == []
    completed = queue.take_completed()
    assert [(each.decision.outcome.code, each.decision.outcome.parameter) for each in completed] == [
        ("method_closed", str(closes.line))
    ] * 2


def test_rows_of_a_method_that_is_closed_for_a_time_wait_for_it(
    ledger: Ledger, queue: SliceQueue, guards: BatchGuards, clock: ManualClock
) -> None:
    batch = running_batch(ledger, [new_row(1)])
    outcome = Outcome(batch, 9, 1, RowState.CLAIMED, code="S002001")
    guards.take_effect(leased(batch, 9), Decision(outcome, 60.0, effect=Effect.CLOSE_METHOD, definite=True))
    run = run_of(batch, 1)
    queue.add(run)
    assert queue.take() == []
    assert queue.take_completed() == []
    ((due_at, _, row),) = run.delayed
    assert row.record == 1
    assert due_at == pytest.approx(clock.now + 60.0, abs=5.0)


def test_an_outage_pauses_the_fleet_once(queue: SliceQueue, breaker: CircuitBreaker) -> None:
    known(breaker, 1)
    queue.add(run_of(1, OPEN_AFTER + 5))
    taken = queue.take()
    queue.start(len(taken))
    pauses = []
    for run, row in taken:
        lost = Decision(Outcome(1, row.record, 1, RowState.UNCLEAR), definite=False)
        pauses.append(queue.complete(Completed(run, row, lost), was_look_up=False))
    assert [pause is not None for pause in pauses].count(True) == 1
    assert breaker.is_open


def test_waiting_ends_when_there_is_something_to_do(queue: SliceQueue, breaker: CircuitBreaker) -> None:
    known(breaker, 1)
    queue.add(run_of(1, 50))
    queue.wait()
    assert len(queue.take()) == 50


def test_a_queue_that_ends_lets_nobody_wait(queue: SliceQueue) -> None:
    run = run_of(1, 5)
    queue.add(run)
    queue.end_all()
    assert run.done.is_set()
