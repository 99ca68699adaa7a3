"""Pages of batches and rows, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from factories import answer, new_row, new_worker, running_batch, whole

from tasks.ledger import BatchFilter, Ledger, RowFilter
from tasks.models import BatchState, Reason, RowState, encode_reasons

TRICKY = 'a value that says ["missing_value","email", in its text'


def rows_with_reasons(reasons: list[list[Reason]]) -> list[object]:
    made = [new_row(record) for record in range(1, len(reasons) + 1)]
    return [
        row._replace(state=RowState.INVALID, identity=None, reasons=encode_reasons(found)) if found else row
        for row, found in zip(made, reasons, strict=True)
    ]


@pytest.fixture
def batch(ledger: Ledger) -> int:
    """Seven invalid rows with reasons of their own, and three that can be sent: created, refused, unclear."""
    reasons = [
        [Reason("missing_value", "email")],
        [Reason("missing_value", "name"), Reason("value_too_long", "email", "x" * 20, "30")],
        [Reason("value_too_long", "note", TRICKY)],
        [Reason("missing_value", 'na"me')],
        [Reason("missing_value", "メール")],
        [Reason("missing_value")],
        [Reason("missing_values", "email")],
        *([] for _ in range(3)),
    ]
    made = running_batch(ledger, rows_with_reasons(reasons))  # type: ignore[arg-type]
    worker = new_worker(ledger)
    created, refused, unclear = ledger.leases.claim(whole(made), worker.number)
    worker.mark([created, refused, unclear])
    worker.record(
        answer(created),
        answer(refused, RowState.REFUSED, code="M002002", parameter="extra.x"),
        answer(unclear, RowState.UNCLEAR),
    )
    ledger.lifecycle.close(made)
    return made


@pytest.mark.parametrize(
    ("wanted", "records"),
    [
        (RowFilter(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (RowFilter(state="invalid"), [1, 2, 3, 4, 5, 6, 7]),
        (RowFilter(state="open"), []),
        (RowFilter(code="missing_value"), [1, 2, 4, 5, 6]),
        (RowFilter(code="missing_value", column="email"), [1]),
        (RowFilter(code="missing_value", column='na"me'), [4]),
        (RowFilter(code="missing_value", column="メール"), [5]),
        (RowFilter(code="value_too_long", column="email"), [2]),
        (RowFilter(code="M002002"), [9]),
        (RowFilter(code="M002002", column="extra.x"), [9]),
        (RowFilter(code="M002002", column="extra.y"), []),
        (RowFilter(state="unclear", code="lost_answer"), [10]),
        (RowFilter(needs_person=True), [1, 2, 3, 4, 5, 6, 7, 9, 10]),
    ],
)
def test_rows_are_found_by_state_cause_and_column(
    ledger: Ledger, batch: int, wanted: RowFilter, records: list[int]
) -> None:
    found = ledger.listing.rows_page(batch, wanted, after=0, limit=100)
    assert [each.row.record for each in found] == records


def test_pages_go_on_behind_a_record(ledger: Ledger, batch: int) -> None:
    assert [each.row.record for each in ledger.listing.rows_page(batch, RowFilter(), after=3, limit=2)] == [4, 5]


def test_a_row_that_was_set_aside_needs_nobody(ledger: Ledger, batch: int) -> None:
    ledger.open_work.dismiss(batch, [1, 9], "closed", "hanako")
    found = ledger.listing.rows_page(batch, RowFilter(needs_person=True), after=0, limit=100)
    assert [each.row.record for each in found] == [2, 3, 4, 5, 6, 7, 10]


def test_batches_are_found_by_state_and_time(ledger: Ledger, batch: int) -> None:
    running = running_batch(ledger, [new_row(50)])
    created = ledger.batches.get(batch).created_at

    def found(**wanted: object) -> list[int]:
        return [each.id for each in ledger.listing.batches_page(BatchFilter(**wanted), before=None, limit=10)]  # type: ignore[arg-type]

    assert found() == [running, batch]
    assert found(state=BatchState.RUNNING) == [running]
    assert found(state=BatchState.INTERRUPTED) == []
    assert found(live=True) == []
    assert found(until=created) == []
    assert batch in found(since=created)
    assert [each.id for each in ledger.listing.batches_page(BatchFilter(), before=running, limit=10)] == [batch]
