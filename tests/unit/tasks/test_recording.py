"""One commit of the send loop, on a real ledger: what is marked, what is written, and what becomes of each row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from factories import ManualClock, answer, new_row, new_worker, running_batch, whole

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.models import BatchState, LeasedRow, RowState, Stop, StopCode
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import SLOW_START_ROWS, CircuitBreaker
from tasks.send.outcomes import Decision, Effect
from tasks.send.recording import Recorder
from tasks.send.slice_queue import Completed, QueuedRow, SliceQueue, SliceRun
from tasks.send.worker_lease import WorkerLease

LEASE_SECONDS = 60.0


class Desk(NamedTuple):
    """A process with a batch of five rows, taken and not yet marked."""

    ledger: Ledger
    batch: int
    lease: WorkerLease
    queue: SliceQueue
    recorder: Recorder
    run: SliceRun
    taken: list[QueuedRow]
    renewals: list[str]

    def states(self) -> list[str]:
        return [row.state for row in self.ledger.queries.report_rows(self.batch)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger, clock = Ledger.open(f"sqlite:///{tmp_path}/ledger.db"), ManualClock()
    batch = running_batch(ledger, 5)
    lease = WorkerLease(lambda: new_worker(ledger, LEASE_SECONDS).number, LEASE_SECONDS, clock)
    lease.register()
    guards = BatchGuards(ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)
    queue = SliceQueue(ledger, CircuitBreaker(clock), guards, 100, clock)
    renewals: list[str] = []
    recorder = Recorder(ledger, lease, queue, guards, lambda: renewals.append("renewed"), 5.0, clock)
    rows = ledger.leases.claim(whole(batch), lease.worker)
    run = SliceRun(whole(batch), lease.worker, 1e9, claimed=5, open=5)
    for row in rows:
        run.add(row)
    queue.add(run)
    yield Desk(ledger, batch, lease, queue, recorder, run, queue.take(), renewals)
    ledger.close()


def created(desk: Desk, *rows: LeasedRow) -> list[Completed]:
    return [Completed(desk.run, row, Decision(answer(row), definite=True)) for row in rows]


def test_rows_may_leave_once_they_are_marked(desk: Desk) -> None:
    marked, _ = desk.recorder.write([], desk.taken)
    assert marked == desk.taken
    assert desk.states() == ["sending"] * 5
    assert [row.attempts for _, row in marked] == [1] * 5
    assert all(row.sent_at is not None for _, row in marked)


def test_outcomes_are_written_with_the_marks_of_the_next_rows(desk: Desk) -> None:
    first, others = desk.taken[:2], desk.taken[2:]
    desk.recorder.write([], first)
    marked, _ = desk.recorder.write(created(desk, *(row for _, row in first)), others)
    assert marked == others
    assert desk.states() == ["created"] * 2 + ["sending"] * 3
    assert desk.run.open == 3


def test_the_last_outcome_ends_the_slice(desk: Desk) -> None:
    desk.recorder.write([], desk.taken)
    desk.recorder.write(created(desk, *(row for _, row in desk.taken)), [])
    assert desk.run.done.is_set()
    assert desk.queue.is_empty


def test_what_an_outcome_means_for_its_batch_comes_before_the_end_of_its_slice(desk: Desk) -> None:
    """Else a small batch may be closed as finished although its answers halt it."""

    class Watched(BatchGuards):
        def take_effect(self, row: LeasedRow, decision: Decision) -> None:
            assert not desk.run.done.is_set()
            seen.append(row.record)
            super().take_effect(row, decision)

    seen: list[int] = []
    guards = Watched(desk.ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)
    recorder = Recorder(desk.ledger, desk.lease, desk.queue, guards, lambda: None, 5.0, ManualClock())
    recorder.write([], desk.taken)
    recorder.write(created(desk, *(row for _, row in desk.taken)), [])
    assert seen == [1, 2, 3, 4, 5]
    assert desk.run.done.is_set()


def test_an_answer_about_the_key_halts_the_batch(desk: Desk) -> None:
    desk.recorder.write([], desk.taken)
    row, stop = desk.taken[0][1], Stop(StopCode.KEY_INVALID, {"code": "M004001"})
    outcome = answer(row, RowState.WAITING, source_id=None)
    desk.recorder.write([Completed(desk.run, row, Decision(outcome, effect=Effect.HALT, stop=stop))], [])
    batch = desk.ledger.batches.get(desk.batch)
    assert (batch.state, batch.stop) == (BatchState.HALTED, stop)


def test_rows_of_a_paused_batch_do_not_leave_and_are_given_back(desk: Desk) -> None:
    desk.ledger.lifecycle.pause(desk.batch, Stop(StopCode.PERSON, {"who": "somebody", "batch": desk.batch}))
    marked, _ = desk.recorder.write([], desk.taken)
    assert marked == []
    assert [row.record for row in desk.run.unsent] == [1, 2, 3, 4, 5]
    assert desk.run.done.is_set()
    assert desk.states() == ["claimed"] * 5


def test_a_row_that_somebody_else_has_moved_does_not_leave(desk: Desk) -> None:
    desk.ledger.leases.release(desk.lease.worker, [desk.taken[0][1]], {})
    marked, _ = desk.recorder.write([], desk.taken)
    assert marked == desk.taken[1:]
    assert desk.run.unsent == [], "it is not this process's to give back"
    assert desk.run.open == 4


def test_after_a_lost_lease_nothing_leaves_and_the_process_goes_on_under_a_new_number(desk: Desk) -> None:
    former = desk.lease.worker
    desk.ledger.workers.end(former)
    marked, _ = desk.recorder.write([], desk.taken)
    assert marked == []
    assert desk.run.done.is_set()
    assert desk.lease.worker > former
    assert desk.lease.outlives(desk.lease.worker, LEASE_SECONDS)


def test_rows_that_a_former_number_claimed_are_not_marked_and_their_outcomes_are_left_to_others(desk: Desk) -> None:
    lost, row = desk.taken[0][1], desk.taken[1]
    desk.recorder.write([], desk.taken[:1])
    desk.lease.register()
    again = answer(lost, RowState.CLAIMED, worker=desk.run.worker, not_before=0.0)
    marked, _ = desk.recorder.write([Completed(desk.run, lost, Decision(again, 5.0, definite=True))], [row])
    assert marked == []
    assert desk.run.unsent == [row[1]]
    assert desk.states()[:2] == ["waiting", "claimed"]
    assert desk.run.delayed == [], "it is not tried again here"


def test_outcomes_survive_a_ledger_that_is_away(desk: Desk) -> None:
    desk.recorder.write([], desk.taken)
    completed = created(desk, *(row for _, row in desk.taken))
    with desk.ledger.engine.write() as connection:
        connection.exec_driver_sql("create trigger away before update on rows begin select raise(abort, 'away'); end")
    with pytest.raises(LedgerError):
        desk.recorder.write(completed, [])
    with desk.ledger.engine.write() as connection:
        connection.exec_driver_sql("drop trigger away")
    kept = desk.queue.take_completed()
    assert [each.row.record for each in kept] == [1, 2, 3, 4, 5]
    desk.recorder.write(kept, [])
    assert desk.states() == ["created"] * 5


def test_connections_are_renewed_when_an_answer_named_the_source_of_another_row(desk: Desk) -> None:
    other = running_batch(desk.ledger, [new_row(9)])
    worker = new_worker(desk.ledger)
    held = desk.ledger.leases.claim(whole(other), worker.number)
    worker.mark(held)
    worker.record(answer(held[0], source_id="src_taken"))
    assert desk.ledger.lifecycle.close(other)
    desk.recorder.write([], desk.taken)
    row = desk.taken[0][1]
    outcome = answer(row, source_id="src_taken")
    desk.recorder.write([Completed(desk.run, row, Decision(outcome, definite=True))], [])
    assert desk.renewals == ["renewed"]
    assert desk.states()[0] == "unclear"


def test_rows_that_do_not_leave_free_their_places_of_the_slow_start(desk: Desk) -> None:
    desk.ledger.lifecycle.pause(desk.batch, Stop(StopCode.PERSON, {"who": "somebody", "batch": desk.batch}))
    desk.recorder.write([], desk.taken)
    rows = [new_row(record) for record in range(20, 20 + 2 * SLOW_START_ROWS)]
    batch = running_batch(desk.ledger, rows)
    run = SliceRun(whole(batch), desk.lease.worker, 1e9, open=len(rows))
    for row in desk.ledger.leases.claim(whole(batch), desk.lease.worker):
        run.add(row)
    desk.queue.add(run)
    assert len(desk.queue.take()) == SLOW_START_ROWS


def test_a_commit_moves_the_watchdog_only_with_an_outcome(desk: Desk) -> None:
    ticks = itertools.count(200.0)
    guards = BatchGuards(desk.ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)
    recorder = Recorder(desk.ledger, desk.lease, desk.queue, guards, lambda: None, 5.0, lambda: next(ticks))
    assert recorder.moved_at == 200.0
    recorder.write([], desk.taken)
    assert recorder.moved_at == 200.0
    recorder.write(created(desk, desk.taken[0][1]), [])
    assert recorder.moved_at > 200.0
