"""What people look for is found by the index of states, however many rows are in other states."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import event, func, select

from tasks.ledger import Ledger, RowFilter
from tasks.ledger.schema import rows
from tasks.models import RowState

ROWS = 8000
#: The first of five rows each; all before them are created.
SKIPPED, REFUSED, UNCLEAR, WAITING = 7981, 7986, 7991, 7996


@pytest.fixture
def batch(ledger: Ledger) -> int:
    """A batch that is nearly done; what is not created stands at its end."""
    new = [new_row(record) for record in range(1, ROWS + 1)]
    again = [new[record - 1]._replace(record=record - SKIPPED + 1) for record in range(SKIPPED, REFUSED)]
    running_batch(ledger, [row._replace(line=row.record + 1) for row in again])
    made = running_batch(ledger, new, slice_rows=ROWS)
    worker = new_worker(ledger)
    claimed = [row for row in ledger.leases.claim(whole(made), worker.number) if row.record < WAITING]
    worker.mark(claimed)
    worker.record(*map(outcome, claimed))
    ledger.workers.end(worker.number)
    return made


def outcome(row: Any) -> Any:
    if row.record >= UNCLEAR:
        return answer(row, RowState.UNCLEAR, code="lost_answer")
    return answer(row, RowState.REFUSED, code="U003005") if row.record >= REFUSED else answer(row)


def records(listed: Any) -> list[int]:
    return [each.row.record for each in listed]


def page(ledger: Ledger, batch: int, **wanted: Any) -> list[int]:
    return records(ledger.listing.rows_page(batch, RowFilter(**wanted), after=0, limit=50))


Question = Callable[[Ledger, int], Any]
QUESTIONS: dict[str, tuple[Question, Any]] = {
    "unclear": (
        lambda ledger, batch: [row.record for row in ledger.resolution.unclear_rows(batch, 3)],
        [*range(UNCLEAR, UNCLEAR + 3)],
    ),
    "unclear, the next page": (
        lambda ledger, batch: [row.record for row in ledger.resolution.unclear_rows(None, 3, (batch, UNCLEAR + 2))],
        [*range(UNCLEAR + 3, WAITING)],
    ),
    "how many are unclear": (lambda ledger, _: ledger.resolution.count_unclear(), 5),
    "how many of it are unclear": (lambda ledger, batch: ledger.resolution.count_unclear(batch), 5),
    "refused": (lambda ledger, batch: page(ledger, batch, state="refused"), [*range(REFUSED, UNCLEAR)]),
    "refused, by cause": (
        lambda ledger, batch: page(ledger, batch, state="refused", code="U003005", needs_person=True),
        [*range(REFUSED, UNCLEAR)],
    ),
    "open": (lambda ledger, batch: page(ledger, batch, state="open"), [*range(WAITING, ROWS + 1)]),
    "needs a person": (lambda ledger, batch: page(ledger, batch, needs_person=True), [*range(REFUSED, WAITING)]),
    "skipped": (lambda ledger, batch: ledger.queries.count_skipped(batch), {"onboarded_before": 5}),
    "work": (lambda ledger, batch: ledger.open_work.of_batch(batch).open, 10),
    "work, over all": (lambda ledger, _: ledger.open_work.count().rows, 10),
    "causes": (
        lambda ledger, _: [(each.rows, each.row.record) for each in ledger.open_causes.first_rows(most=2)],
        [(5, REFUSED), (0, REFUSED + 1), (5, UNCLEAR), (0, UNCLEAR + 1)],
    ),
    "look-ups": (lambda ledger, batch: ledger.queries.look_ups_to_come(batch), None),
    "sent": (lambda ledger, batch: ledger.queries.sent_since(batch, 0.0, most=20).rows, 25),
    "a control source of a rare method": (
        lambda ledger, batch: ledger.control_sources.choose(batch, 5, "paypay", after=0.0, few=True),
        [],
    ),
    "what may have ended": (lambda ledger, _: ledger.lifecycle.that_may_have_ended(), []),
    "the record on an early line": (lambda ledger, batch: ledger.resolution.record_before(batch, 9), (8, 9)),
}


def test_few_rows_are_found_without_a_look_at_the_others(ledger: Ledger, batch: int) -> None:
    most = every_row(ledger) / 3
    for name, (ask, expected) in QUESTIONS.items():
        found, steps = counted(ledger, partial(ask, ledger, batch))
        assert found == expected, name
        assert steps < most, name


def test_a_control_source_of_another_batch_is_found_among_few_as_among_all(ledger: Ledger) -> None:
    batch = running_batch(ledger, 20)
    worker = new_worker(ledger)
    for row in ledger.leases.claim(whole(batch), worker.number):
        worker.mark([row])
        worker.record(answer(row))
    other = running_batch(ledger, [new_row(1, customer="cus_later")])
    sent_at = ledger.queries.row_times(batch, 9).sent_at or 0.0
    for number, after in ((other, 0.0), (other, sent_at), (batch, sent_at), (other, ledger.now() + 60)):
        chosen = ledger.control_sources.choose(number, 1, "creditcard", after=after)
        assert ledger.control_sources.choose(number, 1, "creditcard", after=after, few=True) == chosen
        assert chosen


ABOUT_ALL_BATCHES: dict[str, Callable[[Ledger], Any]] = {
    "work": lambda ledger: ledger.open_work.count().rows,
    "open rows": lambda ledger: [(row.batch_id, row.row.record) for row in ledger.open_work.open_rows()],
    "causes": lambda ledger: [(each.batch_id, each.rows) for each in ledger.open_causes.first_rows()],
    "what a file may take up": lambda ledger: [
        (row.batch_id, row.record) for row in ledger.work_matching.open_rows_before(1000)
    ],
    "what may have ended": lambda ledger: ledger.lifecycle.that_may_have_ended(),
    "states": lambda ledger: ledger.batches.states([1]),
}


def test_batches_of_which_nothing_is_wanted_are_not_asked_for_one_by_one(ledger: Ledger) -> None:
    running_batch(ledger, [new_row(1, customer="cus_wrong", state="invalid")])
    before = {name: asked(ledger, partial(ask, ledger)) for name, ask in ABOUT_ALL_BATCHES.items()}
    for number in range(20):
        done_or_running = running_batch(ledger, [new_row(1, customer=f"cus_{number}")])
        worker = new_worker(ledger)
        for row in ledger.leases.claim(whole(done_or_running), worker.number) if number % 2 else ():
            worker.mark([row])
            worker.record(answer(row, source_id=f"src_{number}"))
            assert ledger.lifecycle.close(done_or_running)
        ledger.workers.end(worker.number)
    assert {name: asked(ledger, partial(ask, ledger)) for name, ask in ABOUT_ALL_BATCHES.items()} == before


def test_an_unclear_row_that_is_looked_up_keeps_its_batch_from_having_ended(ledger: Ledger) -> None:
    batch = running_batch(ledger, 2)
    worker = new_worker(ledger)
    kept, decided = ledger.leases.claim(whole(batch), worker.number)
    worker.mark([kept, decided])
    worker.record(
        answer(kept, RowState.UNCLEAR, code="lost_answer", not_before=ledger.now() + 60),
        answer(decided, RowState.UNCLEAR, code="lost_answer"),
    )
    others = running_batch(ledger, [new_row(3, state="invalid")])
    assert ledger.lifecycle.that_may_have_ended() == [others]


def test_a_batch_with_a_canary_may_wait_for_approval(ledger: Ledger) -> None:
    reader = ledger.workers.add("elsewhere", 1, "", 60.0)
    batch = ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    ledger.rows.add(batch, [new_row(record) for record in range(1, 4)])
    ledger.lifecycle.start(batch, 10, canary_rows=1)
    assert ledger.lifecycle.that_may_have_ended() == [batch]


def asked(ledger: Ledger, ask: Callable[[], Any]) -> tuple[Any, int]:
    """Return an answer, and by how many statements it was found."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    engine = ledger.engine.sqlalchemy_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        return ask(), len(statements)
    finally:
        event.remove(engine, "before_cursor_execute", note)


def every_row(ledger: Ledger) -> int:
    """Return the steps of a look at every row, the quickest there is; on PostgreSQL nobody counts."""
    with ledger.engine.read() as connection:
        query = select(func.count(rows.c.attempts)).where(rows.c.attempts >= 0)
        found, steps = counted(ledger, lambda: connection.execute(query).scalar_one())
    assert found > ROWS
    return steps or sys.maxsize


def counted(ledger: Ledger, ask: Callable[[], Any]) -> tuple[Any, int]:
    """Return an answer, and how many steps of its machine SQLite took (0: it is not SQLite)."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def watch(connection: Any, *_: Any) -> None:
        if ledger.engine.is_sqlite:
            connection.connection.dbapi_connection.set_progress_handler(step, 1)

    engine = ledger.engine.sqlalchemy_engine
    event.listen(engine, "before_cursor_execute", watch)
    try:
        return ask(), steps
    finally:
        event.remove(engine, "before_cursor_execute", watch)
