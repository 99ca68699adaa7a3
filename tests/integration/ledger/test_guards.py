"""Closed methods, and answers that stop a batch, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time

from factories import answer, new_worker, running_batch, whole

from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.ledger import Ledger
from tasks.models import BatchState, RowState
from tasks.send.batch_guards import BatchGuards
from tasks.send.outcomes import Decision


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
