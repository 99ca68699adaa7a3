"""No source stands for two rows, and one row's bad data never stops the others; on both kinds of ledger."""

from __future__ import annotations

import itertools
import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from factories import Command, Simulator, answer, new_row, new_worker, running_batch, whole, write_csv
from sqlalchemy import text

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.ledger.held_sources import HeldSources
from tasks.models import BatchState, LeasedRow, NewRow, Outcome, RowState
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import CircuitBreaker
from tasks.send.outcomes import Decision
from tasks.send.recording import Recorder
from tasks.send.slice_queue import Completed, SliceQueue, SliceRun
from tasks.send.worker_lease import WorkerLease

_CUSTOMERS = itertools.count()


def sent(ledger: Ledger, batch: int) -> tuple[Any, list[LeasedRow]]:
    """A worker and the rows of a batch that it is sending."""
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    return worker, held


def row_of(ledger: Ledger, batch: int, record: int) -> Any:
    with ledger.engine.read() as connection:
        query = text("select * from rows where batch_id = :b and record = :r")
        return connection.execute(query, {"b": batch, "r": record}).one()


def states(ledger: Ledger, batch: int) -> list[str]:
    return [row.state for row in ledger.queries.report_rows(batch)]


def others(count: int) -> list[NewRow]:
    """Rows of customers that no other batch of these tests has."""
    return [new_row(record + 1, customer=f"cus_other_{next(_CUSTOMERS)}") for record in range(count)]


def created(ledger: Ledger, *source_ids: str, names_row: bool = True) -> int:
    """A batch whose rows hold these sources, by answers."""
    batch = running_batch(ledger, others(len(source_ids)))
    worker, held = sent(ledger, batch)
    worker.record(*(answer(row, source_id=one, names_row=names_row) for row, one in zip(held, source_ids, strict=True)))
    return batch


def test_a_source_that_a_row_of_a_finished_batch_holds_is_not_believed(ledger: Ledger) -> None:
    first = created(ledger, "src_a")
    assert ledger.lifecycle.close(first)
    second = running_batch(ledger, [new_row(7), new_row(8)])
    other, later = sent(ledger, second)
    result = ledger.leases.record_and_mark(
        other.number,
        [answer(later[0], source_id="src_a"), answer(later[1], source_id="src_b")],
        [],
        60.0,
        look_up_delay_seconds=5.0,
    )
    assert result.doubted == 1
    doubted = row_of(ledger, second, later[0].record)
    assert (doubted.state, doubted.source_id, doubted.code, doubted.worker) == ("unclear", None, "source_taken", None)
    assert doubted.not_before == pytest.approx(doubted.ended_at + 5.0)
    assert states(ledger, first) == ["created"]
    assert states(ledger, second) == ["unclear", "created"]
    assert "src_a" in ledger.history.lines(second, later[0].record)[-1]["what"]


def test_an_answer_with_the_rows_reference_is_compared_before_its_batch_finishes(ledger: Ledger) -> None:
    first = created(ledger, "src_a")
    assert ledger.lifecycle.close(first)
    second = created(ledger, "src_a", "src_b")
    assert states(ledger, second) == ["created", "created"]
    assert not ledger.lifecycle.close(second)
    assert states(ledger, second) == ["unclear", "created"]
    doubted = row_of(ledger, second, 1)
    assert (doubted.source_id, doubted.code, doubted.look_ups) == (None, "source_taken", 0)
    assert doubted.not_before == doubted.ended_at
    assert "src_a" in ledger.history.lines(second, 1)[-1]["what"]
    assert states(ledger, first) == ["created"]
    assert second in [one.batch_id for one in ledger.dispatch.take_due()]


def test_rows_of_a_batch_that_hold_one_source_are_all_doubted(ledger: Ledger) -> None:
    batch = created(ledger, "src_a", "src_b", "src_a", "src_a")
    assert not ledger.lifecycle.close(batch)
    assert states(ledger, batch) == ["unclear", "created", "unclear", "unclear"]


def test_before_a_batch_finishes_a_list_is_believed_more_than_an_answer(ledger: Ledger) -> None:
    """Whichever of the rows comes first; of two that a list showed, the first is believed."""
    batch = running_batch(ledger, 5)
    worker, held = sent(ledger, batch)
    listed = {"adopted": True}
    worker.record(answer(held[0], source_id="src_a"), answer(held[1], source_id="src_b", **listed))
    worker.record(answer(held[2], source_id="src_a", **listed), answer(held[3], source_id="src_b", names_row=True))
    assert states(ledger, batch) == ["created"] * 4 + ["sending"]
    worker.record(answer(held[4], source_id="src_a", **listed))
    assert not ledger.lifecycle.close(batch)
    assert states(ledger, batch) == ["unclear", "created", "created", "unclear", "unclear"]


def test_a_source_that_was_given_up_is_filed_for_the_row_that_holds_it_now(ledger: Ledger) -> None:
    first = created(ledger, "src_a")
    assert ledger.lifecycle.close(first)
    with ledger.engine.write() as connection:
        connection.execute(text("update rows set state = 'unclear', source_id = null"))
    second = created(ledger, "src_a")
    assert ledger.lifecycle.close(second)
    assert states(ledger, second) == ["created"]
    third = created(ledger, "src_a")
    assert not ledger.lifecycle.close(third)
    assert states(ledger, third) == ["unclear"]


def test_closing_a_batch_again_doubts_nobody(ledger: Ledger) -> None:
    batch = created(ledger, "src_a", "src_b")
    assert ledger.lifecycle.close(batch)
    assert not ledger.lifecycle.close(batch)
    assert states(ledger, batch) == ["created", "created"]
    assert ledger.batches.get(batch).state is BatchState.FINISHED


def test_the_sources_of_a_cancelled_batch_are_known_also_of_answers_that_come_later(ledger: Ledger) -> None:
    batch = running_batch(ledger, others(3))
    worker, held = sent(ledger, batch)
    worker.record(answer(held[0], source_id="src_a"))
    ledger.lifecycle.change_state(batch, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    worker.record(answer(held[1], source_id="src_b"))
    assert not ledger.lifecycle.close(batch), "what a slice does at its end"
    later = created(ledger, "src_a", "src_b", "src_c", names_row=False)
    assert states(ledger, later) == ["unclear", "unclear", "created"]


def test_a_person_cannot_name_a_source_that_a_row_holds(ledger: Ledger) -> None:
    finished = created(ledger, "src_a")
    assert ledger.lifecycle.close(finished)
    running = created(ledger, "src_b")
    asked = running_batch(ledger, others(2))
    worker, held = sent(ledger, asked)
    worker.record(*(answer(row, RowState.UNCLEAR) for row in held))
    for source_id, batch in (("src_a", finished), ("src_b", running)):
        with pytest.raises(LedgerError, match=rf"line 2 of batch {batch} \(record 1\) already"):
            ledger.resolution.resolve(asked, 1, RowState.CREATED, source_id=source_id, who="somebody")
    ledger.resolution.resolve(asked, 1, RowState.CREATED, source_id="src_c", who="somebody")
    with pytest.raises(LedgerError, match=rf"line 2 of batch {asked} \(record 1\) already"):
        ledger.resolution.resolve(asked, 2, RowState.CREATED, source_id="src_c", who="somebody")


def test_one_source_in_two_answers_of_a_commit_is_the_first_rows(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    worker, held = sent(ledger, batch)
    worker.record(answer(held[0], source_id="src_a"), answer(held[1], source_id="src_a"))
    assert states(ledger, batch) == ["created", "unclear"]


def test_an_outcome_that_is_written_again_does_not_doubt_itself(ledger: Ledger) -> None:
    batch = running_batch(ledger, 1)
    worker, held = sent(ledger, batch)
    outcome = answer(held[0], source_id="src_a")
    worker.record(outcome)
    worker.record(outcome)
    assert outcome.state is RowState.CREATED
    assert states(ledger, batch) == ["created"]


def test_no_connection_is_used_again_after_an_answer_that_named_another_rows_source(ledger: Ledger) -> None:
    assert ledger.lifecycle.close(created(ledger, "src_a"))
    batch = running_batch(ledger, 2)
    worker, held = sent(ledger, batch)
    renewals: list[str] = []
    lease = WorkerLease(lambda: worker.number, 60.0, time.monotonic)
    lease.register()
    guards = BatchGuards(ledger, guard_answers=0, breaker_answers=0, breaker_share=1.0)
    queue = SliceQueue(ledger, CircuitBreaker(time.monotonic), guards, 1, time.monotonic)
    recorder = Recorder(ledger, lease, queue, guards, lambda: renewals.append("renewed"), 5.0, time.monotonic)
    run = SliceRun(whole(batch), worker.number, math.inf, open=2)
    for row, source_id, expected in zip(held, ("src_b", "src_a"), ([], ["renewed"]), strict=True):
        recorder.write([Completed(run, row, Decision(answer(row, source_id=source_id), definite=True))], [])
        assert renewals == expected
    assert states(ledger, batch) == ["created", "unclear"]


def test_copies_in_skipped_rows_do_not_count(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a"))
    copy = running_batch(ledger, 1)
    assert states(ledger, copy) == ["skipped"]
    assert ledger.queries.report_row(copy, 1).source_id == "src_a"
    assert ledger.held_sources.shared() == []
    worker.record(answer(held[0], source_id="src_a"))
    assert states(ledger, first) == ["created"]


def test_what_a_list_shows_is_believed_more_than_an_answer(ledger: Ledger) -> None:
    """The row that held the source is looked up, although its batch has finished."""
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a", follow_up_after=60.0))
    assert ledger.lifecycle.close(first)
    second = running_batch(ledger, [new_row(5)])
    other, later = sent(ledger, second)
    other.record(answer(later[0], RowState.UNCLEAR, not_before=0.0))
    (asked,) = ledger.leases.claim(whole(second), other.number)
    found = Outcome(second, asked.record, asked.attempts, RowState.CREATED, source_id="src_a", adopted=True)
    other.record(found)
    assert states(ledger, second) == ["created"]
    lost = row_of(ledger, first, 1)
    assert (lost.state, lost.source_id, lost.code, lost.follow_up_at) == ("unclear", None, "source_taken", None)
    assert lost.ended_at > row_of(ledger, second, later[0].record).sent_at, "its look-ups begin anew"
    assert ledger.batches.get(first).state is BatchState.RUNNING
    assert first in [one.batch_id for one in ledger.dispatch.take_due()]
    assert ledger.lifecycle.close(second)
    (asked,) = ledger.leases.claim(whole(first), other.number)
    assert asked.look_up
    again = Outcome(first, asked.record, asked.attempts, RowState.CREATED, source_id="src_a", adopted=True)
    other.record(again)
    assert states(ledger, first) == ["unclear"], "two lists that contradict each other do not take turns for ever"
    assert states(ledger, second) == ["created"]


def test_a_row_without_its_personal_data_is_left_to_a_person(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a"))
    assert ledger.lifecycle.close(first)
    with ledger.engine.write() as connection:
        connection.execute(text("update rows set customer_id = null, request = null"))
    second = running_batch(ledger, [new_row(5)])
    other, later = sent(ledger, second)
    other.record(answer(later[0], RowState.UNCLEAR, not_before=0.0))
    (asked,) = ledger.leases.claim(whole(second), other.number)
    other.record(Outcome(second, asked.record, 1, RowState.CREATED, source_id="src_a", adopted=True))
    assert row_of(ledger, first, 1).not_before is None
    assert [(one.batch_id, one.code) for one in ledger.resolution.unclear_rows()] == [(first, "source_taken")]


def test_batches_that_finish_at_the_same_time_do_not_both_hold_a_source(postgres_url: str) -> None:
    """Each sees nothing of the other's transaction, but the same source cannot be filed twice."""
    ledger = Ledger.open(postgres_url)
    pairs = [(created(ledger, f"src_{n}"), created(ledger, f"src_{n}")) for n in range(5)]
    barrier = threading.Barrier(2)

    class Meeting(HeldSources):
        def file(self, connection: Any, batch_id: int) -> None:
            barrier.wait(10)  # neither has filed anything
            super().file(connection, batch_id)

    ledgers = [Ledger.open(postgres_url) for _ in range(2)]
    for one in ledgers:
        one.lifecycle = replace(one.lifecycle, held_sources=Meeting(one.scope, one.dispatch))
    for pair in pairs:
        threads = [
            threading.Thread(target=one.lifecycle.close, args=(batch,))
            for one, batch in zip(ledgers, pair, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(states(ledger, pair[0]) + states(ledger, pair[1])) == ["created", "unclear"]
    for one in [ledger, *ledgers]:
        one.close()


@pytest.mark.parametrize("bad", ["src\0x", "src_\ud800", "x" * 10])
def test_one_rows_bad_data_does_not_stop_the_other_rows(ledger: Ledger, bad: str) -> None:
    batch = running_batch(ledger, 4)
    worker, held = sent(ledger, batch)
    refused = answer(
        held[2], RowState.REFUSED, code="M002002", parameter=bad, latency_ms=10**12 if bad == "x" * 10 else 1
    )
    worker.record(answer(held[0]), answer(held[1], source_id=bad), refused, answer(held[3]))
    found = states(ledger, batch)
    assert (found[0], found[3]) == ("created", "created")
    assert found[1] in ("created", "unclear")
    assert found[2] in ("refused", "unclear")
    assert RowState.SENDING not in ledger.queries.count_states(batch)
    for row in ledger.queries.report_rows(batch):
        if row.state == "unclear":
            assert row.code == "internal_error"
            assert not row.needs_person, "it is looked up"


def double(ledger: Ledger) -> int:
    batch = running_batch(ledger, 2)
    worker, held = sent(ledger, batch)
    worker.record(answer(held[0], source_id="src_a"), answer(held[1], source_id="src_b"))
    with ledger.engine.write() as connection:
        connection.execute(text("update rows set source_id = 'src_a'"))
    return batch


def test_sources_that_stand_for_two_rows_already_are_reported(ledger: Ledger) -> None:
    assert ledger.held_sources.shared() == []
    batch = double(ledger)
    (shared,) = ledger.held_sources.shared()
    assert shared == ("src_a", ((batch, 1), (batch, 2)))


def test_the_upgrade_command_reports_them(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.home.mkdir()
    ledger = Ledger.open(command.ledger_url)
    batch = double(ledger)
    ledger.close()
    done = command("ledger", "upgrade")
    assert done.returncode == 1
    assert f"more than one row has source src_a: batch {batch} record 1, batch {batch} record 2" in done.stdout
    assert command.json("ledger", "upgrade")["shared_sources"] == [
        {"source_id": "src_a", "rows": [[batch, 1], [batch, 2]]}
    ]


def test_a_report_of_an_unfinished_batch_calls_no_row_created_with_another_rows_source(
    tmp_path: Path, simulator: Simulator
) -> None:
    command = Command(tmp_path, simulator)
    assert command.json("run", "--canary", 3, write_csv(tmp_path / "rows.csv", 6))["books"]["created"] == 3
    ledger = Ledger.open(command.ledger_url)
    with ledger.engine.write() as connection:
        connection.execute(text("update rows set source_id = 'src_a' where record in (2, 3)"))
        connection.execute(text("delete from sources"))  # what the first report has compared
    said = command.json("report", 1)
    assert [row.state for row in ledger.queries.report_rows(1)] == ["created", "unclear", "unclear"] + ["waiting"] * 3
    lines = Path(said["reports"]["results"]).read_text().splitlines()
    assert sum("src_" in line for line in lines) == 1
    ledger.close()
