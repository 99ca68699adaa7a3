"""No source stands for two rows, and one row's bad data never stops the others; on both kinds of ledger."""

from __future__ import annotations

import math
import threading
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from factories import Command, answer, hand, new_row, running_batch, whole
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.models import BatchState, HeldRow, Outcome, RowState
from tasks.outcomes import Decision, Rules
from tasks.retrying import RetryPolicy
from tasks.waves import WaveLoop, _Landed, _Work


def sent(ledger: Ledger, batch: int) -> tuple[Any, list[HeldRow]]:
    """A worker and the rows of a batch that it is sending."""
    worker = hand(ledger)
    held = ledger.claim_slice(whole(batch), worker.number)
    worker.mark(held)
    return worker, held


def row_of(ledger: Ledger, batch: int, record: int) -> Any:
    with ledger._read() as connection:
        query = text("select * from rows where batch_id = :b and record = :r")
        return connection.execute(query, {"b": batch, "r": record}).one()


def states(ledger: Ledger, batch: int) -> list[str]:
    return [row.state for row in ledger.report_rows(batch)]


def test_a_source_that_another_created_row_holds_is_not_believed(ledger: Ledger) -> None:
    first, second = running_batch(ledger, 2), running_batch(ledger, [new_row(7), new_row(8)])
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a"))
    other, later = sent(ledger, second)
    wave = ledger.write_wave(
        other.number,
        [answer(later[0], source_id="src_a"), answer(later[1], source_id="src_b")],
        [],
        60.0,
        look_up_delay_seconds=5.0,
    )
    assert wave.doubted == 1
    doubted = row_of(ledger, second, later[0].record)
    assert (doubted.state, doubted.source_id, doubted.code, doubted.worker) == ("unclear", None, "source_taken", None)
    assert doubted.not_before == pytest.approx(doubted.ended_at + 5.0)
    assert states(ledger, first) == ["created", "sending"]
    assert states(ledger, second) == ["unclear", "created"]
    assert "src_a" in ledger.history(second, later[0].record)[-1]["what"]


def test_one_source_in_two_answers_of_a_wave_is_the_first_rows(ledger: Ledger) -> None:
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
    batch = running_batch(ledger, 2)
    worker, held = sent(ledger, batch)
    renewals: list[str] = []
    api: Any = SimpleNamespace(renew_connections=lambda: renewals.append("renewed"))
    nobody: Any = None
    loop = WaveLoop(
        ledger,
        api,
        nobody,
        rules=Rules(False, look_up_delay_seconds=5.0, look_ups=4, resends=2, retry=RetryPolicy(60.0, 60.0)),
        register=lambda: worker.number,
        in_flight=1,
        slice_seconds=60.0,
        lease_seconds=60.0,
        guard_answers=0,
        breaker_answers=0,
        breaker_share=1.0,
    )
    loop._hire()
    work = _Work(whole(batch), worker.number, math.inf, deque(), open=2)
    for row, expected in zip(held, ([], ["renewed"]), strict=True):
        loop._write([_Landed(work, row, Decision(answer(row, source_id="src_a"), definite=True))], [])
        assert renewals == expected
    assert states(ledger, batch) == ["created", "unclear"]


def test_copies_in_skipped_rows_do_not_count(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a"))
    copy = running_batch(ledger, 1)
    assert states(ledger, copy) == ["skipped"]
    assert ledger.report_row(copy, 1).source_id == "src_a"
    assert ledger.shared_sources() == []
    worker.record(answer(held[0], source_id="src_a"))
    assert states(ledger, first) == ["created"]


def test_what_a_list_shows_is_believed_more_than_an_answer(ledger: Ledger) -> None:
    """The row that held the source is looked up, although its batch has finished."""
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a", follow_up_after=60.0))
    assert ledger.close_batch(first)
    second = running_batch(ledger, [new_row(5)])
    other, later = sent(ledger, second)
    other.record(answer(later[0], RowState.UNCLEAR, not_before=0.0))
    (asked,) = ledger.claim_slice(whole(second), other.number)
    found = Outcome(second, asked.record, asked.attempts, RowState.CREATED, source_id="src_a", adopted=True)
    other.record(found)
    assert states(ledger, second) == ["created"]
    lost = row_of(ledger, first, 1)
    assert (lost.state, lost.source_id, lost.code, lost.follow_up_at) == ("unclear", None, "source_taken", None)
    assert lost.ended_at > row_of(ledger, second, later[0].record).sent_at, "its look-ups begin anew"
    assert ledger.batch(first).state is BatchState.RUNNING
    assert first in [one.batch_id for one in ledger.ring()]
    (asked,) = ledger.claim_slice(whole(first), other.number)
    assert asked.look_up
    again = Outcome(first, asked.record, asked.attempts, RowState.CREATED, source_id="src_a", adopted=True)
    other.record(again)
    assert states(ledger, first) == ["unclear"], "two lists that contradict each other do not take turns for ever"
    assert states(ledger, second) == ["created"]


def test_a_row_without_its_personal_data_is_left_to_a_person(ledger: Ledger) -> None:
    first = running_batch(ledger, 1)
    worker, held = sent(ledger, first)
    worker.record(answer(held[0], source_id="src_a"))
    with ledger._write() as connection:
        connection.execute(text("update rows set customer_id = null, request = null"))
    second = running_batch(ledger, [new_row(5)])
    other, later = sent(ledger, second)
    other.record(answer(later[0], RowState.UNCLEAR, not_before=0.0))
    (asked,) = ledger.claim_slice(whole(second), other.number)
    other.record(Outcome(second, asked.record, 1, RowState.CREATED, source_id="src_a", adopted=True))
    assert row_of(ledger, first, 1).not_before is None
    assert [(one.batch_id, one.code) for one in ledger.unclear_for_people()] == [(first, "source_taken")]


def test_two_processes_that_record_one_source_at_the_same_time_believe_neither(postgres_url: str) -> None:
    """Each sees nothing of the other's transaction; whoever commits last sees both rows."""
    ledger = Ledger.open(postgres_url)
    batch = running_batch(ledger, 2)
    (worker, held), barrier = sent(ledger, batch), threading.Barrier(2)

    class Meeting(Ledger):
        def _renew(self, *arguments: Any) -> bool:
            barrier.wait(10)  # both have looked and written, neither has committed
            return super()._renew(*arguments)

    ledgers = [Meeting.open(postgres_url) for _ in held]
    doubted = []
    threads = [
        threading.Thread(
            target=lambda one=one, row=row: doubted.append(
                one.write_wave(worker.number, [answer(row, source_id="src_a")], [], 60.0).doubted
            )
        )
        for one, row in zip(ledgers, held, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(doubted) >= 1
    assert states(ledger, batch).count("created") <= 1
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
    assert RowState.SENDING not in ledger.count_states(batch)
    for row in ledger.report_rows(batch):
        if row.state == "unclear":
            assert row.code == "internal_error"
            assert not row.needs_person, "it is looked up"


def double(ledger: Ledger) -> int:
    batch = running_batch(ledger, 2)
    worker, held = sent(ledger, batch)
    worker.record(answer(held[0], source_id="src_a"), answer(held[1], source_id="src_b"))
    with ledger._write() as connection:
        connection.execute(text("update rows set source_id = 'src_a'"))
    return batch


def test_sources_that_stand_for_two_rows_already_are_reported(ledger: Ledger) -> None:
    assert ledger.shared_sources() == []
    batch = double(ledger)
    (shared,) = ledger.shared_sources()
    assert shared == ("src_a", ((batch, 1), (batch, 2)))


def test_the_upgrade_command_reports_them(tmp_path: Path) -> None:
    command = Command(tmp_path)
    command.home.mkdir()
    ledger = Ledger.open(command.ledger_url)
    batch = double(ledger)
    ledger.close()
    done = command("ledger", "upgrade")
    assert done.returncode == 1
    assert f"source src_a stands for more than one row: batch {batch} record 1, batch {batch} record 2" in done.stdout
    assert command.json("ledger", "upgrade")["shared_sources"] == [
        {"source_id": "src_a", "rows": [[batch, 1], [batch, 2]]}
    ]
