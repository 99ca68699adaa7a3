"""The ledger's laws, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter

import pytest
from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import text

from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.ledger.postgres import IDLE_IN_TRANSACTION_SECONDS
from tasks.models import BatchState, RowState, Slice, Stop, StopCode
from tasks.send.batch_guards import BatchGuards
from tasks.send.outcomes import Decision


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
    assert counts.need_a_person == 3


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


# ---------------------------------------------------------------------- identities


def test_a_nightly_dump_creates_only_what_is_new(ledger: Ledger) -> None:
    first = running_batch(ledger, 3)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(first), mine.number)
    mine.mark(rows)
    mine.record(*[answer(row) for row in rows])
    second = running_batch(ledger, 5)
    assert ledger.queries.count_states(second) == {RowState.SKIPPED: 3, RowState.WAITING: 2}
    skipped = next(ledger.queries.report_rows(second))
    assert skipped.reasons[0].code == "onboarded_before"
    assert skipped.reasons[0].detail == f"batch {first} record 1"
    assert skipped.source_id == "src_1"


def test_a_duplicate_in_the_file_is_skipped_and_says_where(ledger: Ledger) -> None:
    batch = running_batch(ledger, [new_row(1, customer="a"), new_row(2, customer="b"), new_row(3, customer="a")])
    rows = list(ledger.queries.report_rows(batch))
    assert [row.state for row in rows] == ["waiting", "waiting", "skipped"]
    assert rows[2].reasons[0] == ("duplicate_in_file", "", "", "record 1")


def test_other_content_for_a_known_identity_is_flagged(ledger: Ledger) -> None:
    running_batch(ledger, [new_row(1, customer="a", description="old")])
    second = running_batch(ledger, [new_row(1, customer="a", description="new")])
    assert next(ledger.queries.report_rows(second)).reasons[0].code == "changed"


def test_a_refused_identity_may_be_sent_by_a_later_file(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    mine = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(first), mine.number)
    mine.mark([row])
    mine.record(answer(row, RowState.REFUSED, code="U003005"))
    assert ledger.queries.count_states(running_batch(ledger, 1)) == {RowState.WAITING: 1}


def test_a_cancelled_batch_gives_up_what_was_never_sent_and_nothing_else(ledger: Ledger) -> None:
    first = running_batch(ledger, 2)
    mine = new_worker(ledger)
    sent, unsent = ledger.leases.claim(whole(first), mine.number)
    mine.mark([sent])
    mine.record(answer(sent, RowState.UNCLEAR, not_before=0.0))
    ledger.leases.release(mine.number, [unsent], {})
    assert ledger.lifecycle.change_state(first, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    assert [row.state for row in ledger.queries.report_rows(running_batch(ledger, 2))] == [
        RowState.SKIPPED,
        RowState.WAITING,
    ]


@pytest.mark.parametrize("status", ["failed", "inactive", "deleted"])
def test_an_identity_whose_source_has_ended_gets_the_next_generation(ledger: Ledger, status: str) -> None:
    first = running_batch(ledger, 1)
    mine = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(first), mine.number)
    mine.mark([row])
    mine.record(answer(row, source_status=status))
    (again,) = ledger.leases.claim(whole(running_batch(ledger, 1)), mine.number)
    assert again.reference == f"{row.reference}-2"


def test_again_makes_one_more_source_but_never_two_from_one_file(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    mine = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(first), mine.number)
    mine.mark([row])
    mine.record(answer(row))
    same = [new_row(1), new_row(2, customer="cus_000001")]
    second = running_batch(ledger, same, again=True)
    assert ledger.queries.count_states(second) == {RowState.WAITING: 1, RowState.SKIPPED: 1}


def test_two_files_read_at_once_share_no_identity(ledger: Ledger) -> None:
    batches: list[int] = []
    start = threading.Barrier(2)

    def read() -> None:
        start.wait()
        batches.append(running_batch(ledger, 500))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Counter[RowState]()
    for batch in batches:
        total.update(ledger.queries.count_states(batch))
    assert total == {RowState.WAITING: 500, RowState.SKIPPED: 500}


def test_a_reader_that_died_leaves_nothing(ledger: Ledger) -> None:
    reader = ledger.workers.add("elsewhere", 1, "", 60)
    batch = ledger.batches.add(name="f", sha256="1" * 64, file_format={}, reader=reader, parent_id=None)
    ledger.rows.add(batch, [new_row(1)])
    ledger.batches.discard_dead_readings()
    assert ledger.batches.get(batch).state is BatchState.READING, "its reader may still be at it"
    ledger.workers.end(reader)
    ledger.batches.discard_dead_readings()
    assert ledger.batches.newest() == []
    assert ledger.queries.count_states(running_batch(ledger, 1)) == {RowState.WAITING: 1}


# ---------------------------------------------------------------------- the doorbell


def test_slices_are_rung_in_turn_and_a_bounded_number_lies_unread(ledger: Ledger) -> None:
    large = running_batch(ledger, 60, slice_rows=2)
    small = running_batch(ledger, [new_row(n, customer=f"s{n}") for n in range(1, 5)], slice_rows=2)
    rung = ledger.dispatch.take_due(room=6)
    assert Counter(one.batch_id for one in rung) == {large: 4, small: 2}
    assert [one.batch_id for one in rung[:4]] == [large, small, large, small]
    assert ledger.dispatch.take_due(room=6) == []
    ledger.leases.claim(rung[0], new_worker(ledger).number)
    assert len(ledger.dispatch.take_due(room=6)) == 1


def test_one_free_place_goes_to_the_batch_with_the_fewest_unread_messages(ledger: Ledger) -> None:
    large = running_batch(ledger, 40, slice_rows=2)
    rung = ledger.dispatch.take_due(room=6)
    small = running_batch(ledger, [new_row(n, customer=f"s{n}") for n in range(1, 5)], slice_rows=2)
    for turn in range(2):
        ledger.leases.claim(rung[turn], new_worker(ledger).number)
        assert [one.batch_id for one in ledger.dispatch.take_due(room=6)] == [small], "one place is free each time"
    ledger.leases.claim(rung[2], new_worker(ledger).number)
    assert [one.batch_id for one in ledger.dispatch.take_due(room=6)] == [large], "the small one has no slice left"


def test_a_lost_message_is_rung_again(ledger: Ledger) -> None:
    batch = running_batch(ledger, 4, slice_rows=2)
    assert len(ledger.dispatch.take_due()) == 2
    assert ledger.dispatch.take_due() == []
    ledger.dispatch.repeat()
    assert len(ledger.dispatch.take_due()) == 2
    ledger.dispatch.repeat(Slice(batch, 1, 2))
    assert ledger.dispatch.take_due() == [Slice(batch, 1, 2)]


def test_a_slice_is_due_again_when_its_earliest_row_is(ledger: Ledger) -> None:
    batch = running_batch(ledger, 3)
    mine = new_worker(ledger)
    (one,) = ledger.dispatch.take_due()
    rows = ledger.leases.claim(one, mine.number)
    mine.mark(rows)
    soon = time.time() + 0.4
    mine.record(
        answer(rows[0]), answer(rows[1]), answer(rows[2], RowState.UNCLEAR, not_before=soon, code="read_timeout")
    )
    ledger.dispatch.finish(one)
    assert ledger.dispatch.take_due() == []
    assert not ledger.lifecycle.close(batch)
    time.sleep(0.5)
    assert ledger.dispatch.take_due() == [one]
    (row,) = ledger.leases.claim(one, mine.number)
    assert row.look_up
    assert row.code == "read_timeout"


def test_a_slice_is_not_forgotten_while_somebody_holds_one_of_its_rows(ledger: Ledger) -> None:
    """Its holder may give the row back and be killed before it says that the slice is due."""
    running_batch(ledger, 2)
    mine = new_worker(ledger)
    (one,) = ledger.dispatch.take_due()
    rows = ledger.leases.claim(one, mine.number)
    ledger.dispatch.finish(one)  # the same message, delivered to somebody else who finds nothing to do
    ledger.leases.release(mine.number, rows, {})
    with ledger.engine.read() as connection:
        assert connection.execute(text("select due_at from slices")).scalar_one() is not None


def test_a_batch_is_closed_by_exactly_one_caller_and_only_when_all_is_done(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    mine = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(batch), mine.number)
    assert not ledger.lifecycle.close(batch)
    mine.mark([row])
    mine.record(answer(row, RowState.UNCLEAR, code="lookup_inconclusive"))
    assert [ledger.lifecycle.close(batch), ledger.lifecycle.close(batch)] == [True, False]
    assert ledger.batches.get(batch).state is BatchState.FINISHED
    assert next(ledger.queries.report_rows(batch)).needs_person


# ---------------------------------------------------------------------- guards, closed methods, errors


def test_a_method_closed_for_good_stays_closed(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    (row,) = ledger.leases.claim(whole(batch), new_worker(ledger).number)
    ledger.guards.close_method(row, resource="", code="S002001", until=time.time() + 60)
    ledger.guards.close_method(row, resource="", code="M001001", until=None)
    ledger.guards.close_method(row, resource="", code="S002001", until=time.time() + 60)
    (closed,) = ledger.guards.closed_methods(batch)
    assert (closed.code, closed.until, closed.line) == ("M001001", None, 2)


def test_refusals_by_a_wrong_key_are_taken_back(ledger: Ledger) -> None:
    batch = running_batch(ledger, 3)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows)
    mine.record(*[answer(row, RowState.REFUSED, code="M002003") for row in rows])
    assert ledger.guards.all_answers_say(batch, "M002003", 3)
    assert not ledger.guards.all_answers_say(batch, "M002003", 4)
    assert ledger.guards.take_back_refusals(batch, "M002003") == 3
    assert ledger.queries.count_states(batch) == {RowState.WAITING: 3}


def test_a_batch_closed_before_its_last_answers_took_effect_is_halted_all_the_same(ledger: Ledger) -> None:
    """Another process may close it between the commit of the answers and what they mean for the batch."""
    batch = running_batch(ledger, 2)
    mine = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), mine.number)
    mine.mark(rows)
    refusals = [answer(row, RowState.REFUSED, code=DOES_NOT_EXIST) for row in rows]
    mine.record(*refusals)
    assert ledger.lifecycle.close(batch)
    guards = BatchGuards(ledger, guard_answers=2, breaker_answers=0, breaker_share=1.0)
    for row, refusal in zip(rows, refusals, strict=True):
        guards.take_effect(row, Decision(refusal, definite=True))
    halted = ledger.batches.get(batch)
    assert (halted.state, halted.finished_at) == (BatchState.HALTED, None)
    assert ledger.queries.count_states(batch) == {RowState.WAITING: 2}
    assert not ledger.lifecycle.close(batch)


def test_a_ledger_error_quotes_neither_statement_nor_values(ledger: Ledger) -> None:
    running_batch(ledger, 1)
    with pytest.raises(LedgerError) as caught, ledger.engine.write() as connection:
        connection.execute(text("select secret_column from nowhere where name = 'TARO YAMADA'"))
    assert "TARO" not in str(caught.value)


def test_an_unreachable_ledger_is_one_sentence() -> None:
    with pytest.raises(LedgerError, match="the ledger failed"):
        Ledger.open("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(LedgerError, match="LEDGER_URL"):
        Ledger.open("not a url")
    with pytest.raises(LedgerError, match="memory"):
        Ledger.open("sqlite://")


def test_no_number_is_given_twice_not_even_after_its_line_was_deleted(ledger: Ledger) -> None:
    """A process that wakes after its line was deleted must not pass for another one."""
    first = ledger.workers.add("host", 1, "", 30)
    ledger.workers.end(first)
    ledger.reaper.reap(look_up_delay_seconds=1)
    assert ledger.workers.processes() == []
    second = ledger.workers.add("host", 2, "", 30)
    assert second != first
    told = {"name": "f.csv", "sha256": "0" * 64, "file_format": {}, "reader": second, "parent_id": None}
    batch = ledger.batches.add(**told)
    ledger.batches.discard(batch)
    assert ledger.batches.add(**told) != batch


def test_a_process_frozen_in_a_transaction_does_not_hold_up_the_fleet(postgres_url: str) -> None:
    """PostgreSQL takes its locks away after a while; by itself it would wait until the process wakes."""
    ledger, frozen = Ledger.open(postgres_url), Ledger.open(postgres_url)
    batch = running_batch(ledger, 5)
    with contextlib.suppress(LedgerError), frozen.engine.write() as connection:
        connection.execute(text("update rows set code = 'held'"))
        started = time.monotonic()
        assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 5
        assert time.monotonic() - started > IDLE_IN_TRANSACTION_SECONDS / 2, "it had to wait"
    assert ledger.queries.report_row(batch, 1).code == "", "what the frozen one had written is undone"
    frozen.close()
    ledger.close()
