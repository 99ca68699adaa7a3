"""Which slices are due, and when a batch is over, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from collections import Counter

from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.models import BatchState, RowState, Slice


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
    soon = time.time() + 60
    mine.record(
        answer(rows[0]), answer(rows[1]), answer(rows[2], RowState.UNCLEAR, not_before=soon, code="read_timeout")
    )
    ledger.dispatch.finish(one)
    assert ledger.dispatch.take_due() == []
    assert not ledger.lifecycle.close(batch)
    with ledger.engine.write() as connection:  # a minute later
        connection.execute(text("update slices set due_at = due_at - 60"))
        connection.execute(text("update rows set not_before = not_before - 60"))
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
