"""Who has a row, and what is recorded of it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
import time

from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.models import BatchState, RowState, Slice, Stop, StopCode


def test_every_row_is_claimed_by_exactly_one_of_many_workers(ledger: Ledger) -> None:
    batch = running_batch(ledger, 300)
    claimed: list[int] = []
    start = threading.Barrier(6)

    def claim() -> None:
        mine = new_worker(ledger)
        start.wait()
        claimed.extend(row.record for row in ledger.leases.claim(whole(batch), mine.number))

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 301))


def test_only_rows_still_held_are_marked_sending(ledger: Ledger) -> None:
    batch = running_batch(ledger, 4)
    first = new_worker(ledger, lease_seconds=60)
    rows = ledger.leases.claim(whole(batch), first.number)
    ledger.leases.release(first.number, rows[:2], {})
    second = new_worker(ledger)
    ledger.leases.claim(whole(batch), second.number)
    assert first.mark(rows) == {(batch, 3), (batch, 4)}
    assert ledger.queries.count_states(batch) == {RowState.CLAIMED: 2, RowState.SENDING: 2}


def test_rows_that_are_being_sent_are_not_given_back(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows[:1])
    ledger.leases.release(mine.number, rows, {})
    assert ledger.queries.count_states(batch) == {RowState.SENDING: 1, RowState.WAITING: 1}


def test_a_mark_whose_commit_was_not_heard_is_recognised(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    ledger.leases.record_and_mark(
        mine.number, [], rows, 60
    )  # committed, but the answer got lost: the worker does not count it
    assert mine.mark(rows) == {(batch, 1), (batch, 2)}


def test_an_outcome_is_recorded_once_and_the_books_balance(ledger: Ledger) -> None:
    batch = running_batch(ledger, [*[new_row(n) for n in range(1, 4)], new_row(4, state="invalid")])
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows)
    mine.record(answer(rows[0]), answer(rows[1], RowState.REFUSED, code="U003005"), answer(rows[0]))
    mine.record(answer(rows[0], RowState.REFUSED, code="M002001"))
    counts = ledger.queries.counts(batch)
    assert (counts.created, counts.refused, counts.invalid, counts.open) == (1, 1, 1, 1)
    assert counts.balance


def test_a_late_answer_settles_a_row_that_was_swept_but_not_sent_again(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    mine = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(batch), mine.number)
    mine.mark([row])
    ledger.workers.end(mine.number)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 1
    assert ledger.queries.count_states(batch) == {RowState.UNCLEAR: 1}
    mine.record(answer(row, source_id="src_late"))
    assert ledger.queries.count_states(batch) == {RowState.CREATED: 1}


def test_a_late_answer_to_a_row_sent_again_is_kept_in_the_history(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    mine, other = new_worker(ledger), new_worker(ledger)
    (row,) = ledger.leases.claim(whole(batch), mine.number)
    mine.mark([row])
    ledger.workers.end(mine.number)
    ledger.reaper.reap(look_up_delay_seconds=0)
    (again,) = ledger.leases.claim(whole(batch), other.number)
    assert again.look_up
    other.record(answer(again, RowState.CLAIMED, worker=other.number))
    other.mark([again])
    mine.record(answer(row, source_id="src_late"))
    assert ledger.queries.count_states(batch) == {RowState.SENDING: 1}
    assert any("src_late" in line["what"] for line in ledger.history.lines(batch, 1))


def test_claimed_rows_of_a_dead_worker_wait_again_and_sent_ones_become_unclear(ledger: Ledger) -> None:
    batch = running_batch(ledger, 5)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows[:2])
    assert ledger.reaper.reap(look_up_delay_seconds=5) == 0, "its lease has not ended"
    ledger.workers.end(mine.number)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 5
    assert ledger.queries.count_states(batch) == {RowState.WAITING: 3, RowState.UNCLEAR: 2}
    held = ledger.leases.claim(whole(batch), new_worker(ledger).number)
    assert [(row.record, row.look_up) for row in held] == [(1, True), (2, True), (3, False), (4, False), (5, False)]


def test_a_row_that_one_worker_looks_up_is_not_claimed_by_another(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    first = new_worker(ledger)
    first.mark(ledger.leases.claim(whole(batch), first.number))
    ledger.workers.end(first.number)
    ledger.reaper.reap(look_up_delay_seconds=0)
    (row,) = ledger.leases.claim(whole(batch), new_worker(ledger).number)
    assert row.look_up
    assert ledger.leases.claim(whole(batch), new_worker(ledger).number) == []


def test_a_silent_worker_keeps_what_it_sends_until_no_request_can_be_under_way(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger, lease_seconds=60)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows[:1])

    def let_time_pass(seconds: float) -> None:
        with ledger.engine.write() as connection:
            connection.execute(text("update workers set lease_ends_at = lease_ends_at - :s"), {"s": seconds})

    assert ledger.reaper.reap(look_up_delay_seconds=0) == 0
    let_time_pass(61)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 1
    assert ledger.queries.count_states(batch) == {RowState.SENDING: 1, RowState.WAITING: 1}
    let_time_pass(40)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 1
    assert ledger.queries.count_states(batch) == {RowState.UNCLEAR: 1, RowState.WAITING: 1}


def test_rows_are_taken_back_by_the_longest_request_of_their_holder(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    quick, slow = new_worker(ledger, longest_request_seconds=10.0), new_worker(ledger, longest_request_seconds=300.0)
    for worker, record in ((quick, 1), (slow, 2)):
        worker.mark(ledger.leases.claim(Slice(batch, record, record), worker.number))
    for seconds, states in ((71.0, ["unclear", "sending"]), (229.0, ["unclear", "sending"]), (61.0, ["unclear"] * 2)):
        with ledger.engine.write() as connection:
            connection.execute(text("update workers set lease_ends_at = lease_ends_at - :s"), {"s": seconds})
        ledger.reaper.reap(look_up_delay_seconds=0)
        assert [row.state for row in ledger.queries.report_rows(batch)] == states


def test_a_worker_that_was_given_up_for_dead_learns_it_and_marks_nothing(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger, lease_seconds=0.1)
    rows = ledger.leases.claim(whole(batch), mine.number)
    time.sleep(0.2)
    wave = ledger.leases.record_and_mark(mine.number, [], rows, 60)
    assert not wave.lease_kept
    assert not wave.marked


def test_rows_of_an_unknown_worker_are_taken_back(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    ledger.leases.claim(whole(batch), 4711)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 2
    assert ledger.queries.count_states(batch) == {RowState.WAITING: 2}


def test_nothing_leaves_a_batch_that_was_stopped(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    assert ledger.lifecycle.change_state(
        batch, BatchState.HALTED, Stop(StopCode.SILENT), only_from=[BatchState.RUNNING]
    )
    wave = ledger.leases.record_and_mark(mine.number, [], rows, 60)
    assert wave.stopped == {batch}
    assert not wave.marked
    ledger.leases.release(mine.number, rows, {})
    assert ledger.dispatch.take_due() == []
    assert ledger.leases.claim(whole(batch), mine.number) == []
    assert ledger.lifecycle.resume(batch, "somebody")
    assert len(ledger.dispatch.take_due()) == 1
