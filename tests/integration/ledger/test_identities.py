"""Which rows of a file are new: identities, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from factories import answer, new_row, new_worker, running_batch, whole

from tasks.ledger import Ledger
from tasks.models import BatchState, RowState


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
