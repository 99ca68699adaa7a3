"""Work that needs a person, over several nights, on SQLite and on PostgreSQL: carried over, never counted twice."""

from __future__ import annotations

import pytest
from factories import answer, new_row, new_worker, whole

from tasks.errors import LedgerError
from tasks.identities import identity_of
from tasks.ledger import CustomerIndex, Ledger
from tasks.models import BatchState, NewRow, Origin, RowState, Work

KEYS = ("creditcard", "ios", "")


def invalid(record: int, customer: str | None = None, *, keys_are_sound: bool = True) -> NewRow:
    """A row that was never to be sent."""
    row = new_row(record, customer=customer, state="invalid")._replace(request=None, content=None)
    if not keys_are_sound:
        return row
    return row._replace(intended_identity=identity_of(row.customer_id or "", *KEYS))


def corrected(row: NewRow, batch: int, record: int, reference: str = "") -> NewRow:
    """A record of a corrected failures.csv."""
    return row._replace(origin=Origin(batch, record, record + 1, reference))


def accepted(ledger: Ledger, *new_rows: NewRow) -> int:
    """Bring a file, as an acceptance does."""
    reader = new_worker(ledger).number
    batch = ledger.batches.add(name="n.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    matcher, customers = ledger.work_matching.matcher(batch), CustomerIndex()
    ledger.rows.add(batch, new_rows)
    matcher.look_at(new_rows)
    customers.add(new_rows)
    ledger.finder.file(batch, customers)
    ledger.lifecycle.start(batch, 100, taken_up=matcher.taken_up())
    ledger.workers.end(reader)
    return batch


def send_all(ledger: Ledger, batch: int, state: RowState = RowState.CREATED, code: str | None = None) -> None:
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    named = {"code": code} if code else {}
    for row in held:
        source = {"source_id": f"src_{batch}_{row.record}"} if state is RowState.CREATED else {}
        worker.record(answer(row, state, **named, **source))
    ledger.lifecycle.close(batch)


def open_keys(ledger: Ledger) -> list[tuple[int, int]]:
    return [(each.batch_id, each.row.record) for each in ledger.open_work.open_rows()]


def test_a_corrected_report_resolves_the_rows_that_it_names(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1), invalid(2), invalid(3), new_row(4))
    send_all(ledger, first)
    assert ledger.open_work.of_batch(first) == Work(open=3)
    second = accepted(ledger, corrected(new_row(1), first, 1), corrected(invalid(2), first, 2))
    assert ledger.open_work.of_batch(first) == Work(open=1, under_way={second: 1}, carried_over={second: 1})
    send_all(ledger, second)
    assert ledger.open_work.of_batch(first) == Work(open=1, resolved={second: 1}, carried_over={second: 1})
    assert ledger.open_work.of_batch(second) == Work(open=1)
    assert open_keys(ledger) == [(first, 3), (second, 2)]
    third = accepted(ledger, corrected(new_row(1, customer="cus_000002"), second, 2))
    send_all(ledger, third)
    assert ledger.open_work.of_batch(first) == Work(open=1, resolved={second: 1, third: 1})
    assert ledger.open_work.of_batch(second) == Work(resolved={third: 1})
    assert open_keys(ledger) == [(first, 3)]


def test_the_report_of_the_first_night_corrected_twice_leaves_nothing_behind(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1))
    second = accepted(ledger, corrected(invalid(1), first, 1))
    assert open_keys(ledger) == [(second, 1)]
    third = accepted(ledger, corrected(new_row(1), first, 1))  # the old report once more, right this time
    send_all(ledger, third)
    assert open_keys(ledger) == []
    assert ledger.open_work.of_batch(first) == ledger.open_work.of_batch(second) == Work(resolved={third: 1})


def test_a_later_dump_resolves_by_identity_and_repeats_nothing(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1), new_row(2), new_row(3))
    send_all(ledger, first, RowState.REFUSED, "M002003")
    second = accepted(ledger, invalid(1), new_row(2))  # the whole dump again: one still invalid, one created now
    send_all(ledger, second)
    assert ledger.open_work.of_batch(first) == Work(open=1, carried_over={second: 1}, resolved={second: 1})
    assert open_keys(ledger) == [(first, 3), (second, 1)]
    since = {(each.batch_id, each.row.record): each.since for each in ledger.open_work.open_rows()}
    assert since[second, 1] == ledger.batches.get(first).created_at
    send_all(ledger, accepted(ledger, new_row(1), new_row(2), new_row(3)))
    assert open_keys(ledger) == []


def test_a_retry_that_is_refused_again_is_open_once(ledger: Ledger) -> None:
    first = accepted(ledger, new_row(1))
    send_all(ledger, first, RowState.REFUSED, "M002003")
    second = accepted(ledger, new_row(1))
    assert ledger.open_work.of_batch(first) == Work(under_way={second: 1})
    send_all(ledger, second, RowState.REFUSED, "M002003")
    assert ledger.open_work.of_batch(first) == Work(carried_over={second: 1})
    assert open_keys(ledger) == [(second, 1)]


def test_rows_without_readable_identity_are_linked_by_customer_and_method_if_there_are_as_many(ledger: Ledger) -> None:
    unreadable = [invalid(record, "cus_a", keys_are_sound=False) for record in (1, 2)]
    first = accepted(ledger, *unreadable, invalid(3, "cus_b", keys_are_sound=False))
    second = accepted(ledger, new_row(1, customer="cus_a"), new_row(2, customer="cus_b"))
    send_all(ledger, second)
    assert open_keys(ledger) == [(first, 1), (first, 2)]  # which of the two it was nobody knows
    assert ledger.open_work.of_batch(first) == Work(open=2, resolved={second: 1})


def test_what_was_onboarded_before_takes_nothing_up(ledger: Ledger) -> None:
    before = accepted(ledger, new_row(1, customer="cus_a", reference="other"))
    send_all(ledger, before)
    first = accepted(ledger, invalid(1, "cus_a", keys_are_sound=False))
    accepted(ledger, new_row(1, customer="cus_a", reference="other"))
    assert open_keys(ledger) == [(first, 1)]


def test_a_report_of_another_ledger_resolves_nothing(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1), new_row(2))
    send_all(ledger, first, RowState.REFUSED, "M002003")
    another_customer = corrected(new_row(1, customer="cus_x"), first, 1)
    another_line = new_row(2, customer="cus_y")._replace(origin=Origin(first, 2, 9, ""))
    another_reference = corrected(new_row(3, customer="cus_z"), first, 2, "abcdefghijklmnopqrstuvwxyz")
    second = accepted(ledger, another_customer, another_line, another_reference, corrected(new_row(4), 99, 1))
    send_all(ledger, second)
    assert open_keys(ledger) == [(first, 1), (first, 2)]


def test_a_corrected_row_that_was_created_elsewhere_meanwhile_is_resolved_there(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1, keys_are_sound=False)._replace(payment_method=None))
    elsewhere = accepted(ledger, new_row(1))
    send_all(ledger, elsewhere)
    assert open_keys(ledger) == [(first, 1)]
    accepted(ledger, corrected(new_row(1), first, 1))
    assert ledger.open_work.of_batch(first) == Work(resolved={elsewhere: 1})


def test_rows_of_a_cancelled_batch_are_open_until_another_file_brings_them(ledger: Ledger) -> None:
    first = accepted(ledger, new_row(1), new_row(2))
    assert ledger.open_work.of_batch(first) == Work()
    ledger.lifecycle.change_state(first, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    assert ledger.open_work.of_batch(first) == Work(open=2)
    second = accepted(ledger, new_row(1))
    send_all(ledger, second)
    assert ledger.open_work.of_batch(first) == Work(open=1, resolved={second: 1})


def test_what_is_dismissed_stays_visible_and_comes_back(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1), invalid(2))
    ledger.open_work.dismiss(first, [1, 1], "customer left", "ops")
    assert ledger.open_work.of_batch(first) == Work(open=1, dismissed=1)
    assert open_keys(ledger) == [(first, 2)]
    with pytest.raises(LedgerError, match="does not need a person"):
        ledger.open_work.dismiss(first, [2, 1], "again", "ops")
    assert open_keys(ledger) == [(first, 2)]
    with pytest.raises(LedgerError, match="was not dismissed"):
        ledger.open_work.take_back_dismissals(first, [1, 2], "ops")
    assert open_keys(ledger) == [(first, 2)], "all or none"
    ledger.open_work.take_back_dismissals(first, [1, 1], "ops")
    assert open_keys(ledger) == [(first, 1), (first, 2)]
    assert [line["what"] for line in ledger.history.lines(first, 1)] == [
        "dismissed: customer left",
        "dismissal taken back",
    ]


def test_a_discarded_reading_takes_nothing_up_and_is_not_found(ledger: Ledger) -> None:
    first = accepted(ledger, invalid(1))
    reader = new_worker(ledger).number
    reading = ledger.batches.add(name="n.csv", sha256="1" * 64, file_format={}, reader=reader, parent_id=None)
    customers = CustomerIndex()
    customers.add([new_row(1)])
    ledger.rows.add(reading, [new_row(1)])
    ledger.finder.file(reading, customers)
    ledger.batches.discard(reading)
    assert open_keys(ledger) == [(first, 1)]
    assert [row.batch_id for row in ledger.finder.by_customer("cus_000001")] == [first]


def test_a_row_is_found_by_customer_source_and_reference(ledger: Ledger) -> None:
    first = accepted(ledger, *(new_row(record) for record in (1, 2, 3)))
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(first), worker.number)
    worker.mark(held)
    worker.record(*[answer(row) for row in held])
    (found,) = ledger.finder.by_customer("cus_000002")
    assert (found.batch_id, found.record, found.state) == (first, 2, "created")
    assert ledger.finder.by_source(found.source_id) == [found]  # of a running batch
    ledger.lifecycle.close(first)
    assert ledger.finder.by_source(found.source_id) == ledger.finder.by_reference(found.reference) == [found]
    assert ledger.finder.by_customer("nobody") == ledger.finder.by_source("nothing") == []
    assert ledger.finder.by_reference("no reference") == []


def test_causes_count_what_the_rows_say_one_by_one(ledger: Ledger) -> None:
    first = accepted(
        ledger, *(invalid(record) for record in range(1, 9)), *(new_row(record) for record in range(9, 21))
    )
    send_all(ledger, first, RowState.REFUSED, code="U003005")
    second = accepted(
        ledger, *(invalid(record, f"cus_b{record}") for record in range(1, 4)), new_row(4, customer="cus_b4")
    )
    send_all(ledger, second, RowState.UNCLEAR, code="lost_answer")
    third = accepted(ledger, corrected(invalid(1, "cus_1"), first, 1), new_row(2, customer="cus_c2"))
    ledger.lifecycle.change_state(third, BatchState.CANCELLED, None, only_from=(BatchState.RUNNING,))
    ledger.open_work.dismiss(first, [2, 9], "left us", "hana")
    for batch in (None, first, second, third):
        every = list(ledger.open_work.open_rows(batch))
        found = list(ledger.open_causes.first_rows(batch, 3))
        assert sum(each.rows for each in found) == len(every)
        for cause in {(each.batch_id, each.row.state, each.row.code, each.row.reasons) for each in every}:
            alike = [
                each for each in every if (each.batch_id, each.row.state, each.row.code, each.row.reasons) == cause
            ]
            shown = [
                each for each in found if (each.batch_id, each.row.state, each.row.code, each.row.reasons) == cause
            ]
            assert [each.row for each in shown] == [each.row for each in alike[:3]]
            assert [each.rows for each in shown] == [len(alike), 0, 0][: len(shown)]
            assert {each.since for each in shown} == {min(each.since for each in alike)}
