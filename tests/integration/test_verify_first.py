"""`--verify-first`: rows that begin as look-ups, on both kinds of ledger."""

from __future__ import annotations

from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import text

from tasks.elepay.client import SourceList
from tasks.identities import identity_and_generation, reference_of
from tasks.ledger import Ledger
from tasks.models import BatchState, Outcome, RowState, Source
from tasks.send.lookup_result import Finding
from tasks.send.source_lookup import SourceLookup


def verifying(ledger: Ledger, rows: int = 3) -> int:
    batch = running_batch(ledger, rows)
    ledger.lifecycle.verify_from_now_on(batch)
    return batch


def test_rows_that_were_never_sent_are_claimed_as_look_ups(ledger: Ledger) -> None:
    batch = verifying(ledger)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    assert [row.never_sent for row in held] == [True] * 3
    assert ledger.queries.count_states(batch) == {RowState.UNCLEAR: 3}
    assert worker.mark(held) == set(), "a row in doubt is never marked"


def test_a_dead_worker_leaves_them_to_be_looked_up_again(ledger: Ledger) -> None:
    batch = verifying(ledger)
    worker = new_worker(ledger)
    ledger.leases.claim(whole(batch), worker.number)
    ledger.workers.end(worker.number)
    assert ledger.reaper.reap(look_up_delay_seconds=0) == 3
    assert ledger.resolution.unclear_rows() == [], "no person is needed"
    assert [row.never_sent for row in ledger.leases.claim(whole(batch), new_worker(ledger).number)] == [True] * 3


def test_a_row_that_is_surely_absent_is_sent_and_then_is_a_row_like_any_other(ledger: Ledger) -> None:
    batch = verifying(ledger, 1)
    worker = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(batch), worker.number)
    worker.record(Outcome(batch, 1, 0, RowState.CLAIMED, worker=worker.number, resends=1))
    ledger.leases.release(worker.number, [row], {})
    (row,) = ledger.leases.claim(whole(batch), worker.number)
    assert not row.look_up, "it is not looked up once more"
    assert worker.mark([row])
    worker.record(answer(row, RowState.UNCLEAR, not_before=0.0))
    (row,) = ledger.leases.claim(whole(batch), worker.number)
    assert row.look_up
    assert not row.never_sent


def test_a_found_generation_is_the_one_that_is_shown_and_counted_on(ledger: Ledger) -> None:
    batch = verifying(ledger, 1)
    worker = new_worker(ledger)
    (row,) = ledger.leases.claim(whole(batch), worker.number)
    worker.record(
        Outcome(
            batch, 1, 0, RowState.CREATED, source_id="src_1", source_status="failed", adopted=True, source_generation=2
        )
    )
    assert ledger.queries.report_row(batch, 1).reference == f"{row.reference}-2"
    again = running_batch(ledger, [new_row(1)])
    assert ledger.queries.report_row(again, 1).reference == f"{row.reference}-3"


def test_a_persons_word_is_not_looked_up_once_more(ledger: Ledger) -> None:
    batch = verifying(ledger, 1)
    worker = new_worker(ledger)
    ledger.leases.claim(whole(batch), worker.number)
    worker.record(Outcome(batch, 1, 0, RowState.UNCLEAR, code="lookup_inconclusive"))
    ledger.resolution.resolve(batch, 1, RowState.WAITING, source_id=None, who="somebody")
    (row,) = ledger.leases.claim(whole(batch), worker.number)
    assert not row.look_up


def test_a_cancelled_batch_gives_rows_up_that_it_was_looking_up(ledger: Ledger) -> None:
    batch = verifying(ledger, 1)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    ledger.leases.release(worker.number, held, {})
    ledger.lifecycle.change_state(batch, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    other = running_batch(ledger, [new_row(1)])
    assert ledger.queries.count_states(other) == {RowState.WAITING: 1}
    assert ledger.resolution.unclear_rows() == []


class Lists:
    """An elepay that lists what it is told to."""

    def __init__(self, *listed: Source, complete: bool = True) -> None:
        self.listed, self.complete = list(listed), complete

    def list_sources(self, customer_id: str, payment_method: str, *, fresh: bool = False) -> SourceList:
        return SourceList(self.listed, self.complete)


def source(reference: str | None, status: str = "pending") -> Source:
    return Source(f"src_{reference}", status, False, "creditcard", reference, has_metadata=reference is not None)


def test_any_generation_of_the_identity_counts_and_one_that_lives_first(ledger: Ledger) -> None:
    batch = verifying(ledger, 1)
    (row,) = ledger.leases.claim(whole(batch), new_worker(ledger).number)

    def look(*listed: Source, complete: bool = True) -> object:
        api = Lists(*listed, complete=complete)
        found = SourceLookup(api, ledger, lambda: None, list_lag_seconds=0.0).look_up(row)  # type: ignore[arg-type]
        return found.finding, found.copies, found.generation

    other = reference_of(b"0" * 16, 1)
    assert look(source(row.reference)) == (Finding.FOUND, 1, None)
    assert look(source(f"{row.reference}-2")) == (Finding.FOUND, 1, 2)
    assert look(source(f"{row.reference}-2"), complete=False) == (Finding.FOUND, 1, 2)
    assert look(source(f"{row.reference}-2", "failed"), source(row.reference)) == (Finding.FOUND, 1, None)
    assert look(source(f"{row.reference}-2", "failed"), source(row.reference, "deleted")) == (Finding.FOUND, 1, 2)
    assert look(source(row.reference), source(row.reference)) == (Finding.FOUND, 2, None)
    for nothing_found in ([], [source(other)], [source(f"{row.reference}x")]):
        assert look(*nothing_found) == (Finding.ABSENT, 0, None)
    row.absent_at = ledger.now()
    for nothing_proved in ([], [source(other)], [source(None)], [source(f"{row.reference}x")]):
        assert look(*nothing_proved) == (Finding.UNKNOWN, 0, None), "there is no witness"


def test_a_found_source_is_a_control_source_only_if_it_was_pending(ledger: Ledger) -> None:
    batch = verifying(ledger, 3)
    worker = new_worker(ledger)
    ledger.leases.claim(whole(batch), worker.number)
    found = {"adopted": True}
    worker.record(Outcome(batch, 1, 0, RowState.CREATED, source_id="src_1", source_status="active", **found))
    assert ledger.control_sources.choose(batch, 3, "creditcard", after=0.0) == []
    worker.record(Outcome(batch, 2, 0, RowState.CREATED, source_id="src_2", source_status="pending", **found))
    assert [one.customer_id for one in ledger.control_sources.choose(batch, 3, "creditcard", after=0.0)] == [
        "cus_000002"
    ]


def test_references_are_read_back_exactly() -> None:
    for generation in (1, 2, 37):
        for identity in (bytes(16), b"\xff" * 16, bytes(range(16))):
            assert identity_and_generation(reference_of(identity, generation)) == (identity, generation)
    good = reference_of(bytes(range(16)), 1)
    for bad in (
        "",
        "x",
        good + "-",
        good + "-1",
        good + "-02",
        good + "-x",
        good.upper(),
        good[:-1] + "9",
        good[:-1] + "b",
    ):
        assert identity_and_generation(bad) is None, bad


def test_intake_leaves_the_new_columns_empty(ledger: Ledger) -> None:
    running_batch(ledger, 3)
    with ledger.engine.read() as connection:
        found = connection.execute(text("select count(*) from rows where follow_up_at is not null")).scalar_one()
    assert found == 0
