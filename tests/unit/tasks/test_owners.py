"""What is asked of the ledger again and again must be answered by its indexes, however many rows it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from factories import answer, new_row, new_worker, running_batch, whole
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from tasks.ledger import Ledger
from tasks.models import RowState


def asked_of(ledger: Ledger) -> list[tuple[str, Any]]:
    """Every statement from now on, with the values of its first row."""
    asked: list[tuple[str, Any]] = []
    event.listen(
        ledger.engine.sqlalchemy_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, many: asked.append(
            (statement, values[0] if many else values)
        ),
    )
    return asked


def test_owners_are_looked_up_by_their_index(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    asked = asked_of(ledger)
    running_batch(ledger, [new_row(1), new_row(2), new_row(3, customer="cus_000001")])
    looks = [(statement, values) for statement, values in asked if "rows.identity IN" in statement]
    assert looks
    with ledger.engine.read() as connection:
        for statement, values in looks:
            plan = [str(step) for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert "USING INDEX rows_one_owner (identity=?)" in plan[0], plan
    ledger.close()


def test_a_row_on_its_way_leaves_the_index_of_identities_alone(tmp_path: Path) -> None:
    """Each step would otherwise write a random page of it: a tenth of the speed in a ledger of a million rows."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = running_batch(ledger, 4)
    asked = asked_of(ledger)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    worker.record(answer(held[0]), answer(held[1], RowState.UNCLEAR, not_before=0.0))
    worker.record(answer(held[2], RowState.UNCLEAR, code="lost_answer"))
    updates = [(statement, values) for statement, values in asked if statement.startswith("UPDATE rows")]
    assert len(updates) >= 4
    with ledger.engine.read() as connection:
        root = connection.execute(text("select rootpage from sqlite_schema where name = 'rows_one_owner'")).scalar_one()
        for statement, values in updates:
            steps = connection.exec_driver_sql(f"EXPLAIN {statement}", values).all()
            written = {step.p2 for step in steps if step.opcode == "OpenWrite"}
            assert written
            assert root not in written, statement
    ledger.close()


def test_whether_a_batch_is_done_is_answered_by_the_index_of_states(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = running_batch(ledger, 3)
    asked = asked_of(ledger)
    assert not ledger.lifecycle.close(batch)
    (statement, values) = next(one for one in asked if "EXISTS" in one[0])
    with ledger.engine.read() as connection:
        plan = [step.detail for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert "SEARCH rows USING COVERING INDEX rows_by_state (batch_id=? AND state=?)" in plan, plan
    assert not any(step.endswith("USING PRIMARY KEY (batch_id=?)") for step in plan), plan
    ledger.close()


def test_no_row_that_may_be_sent_can_yield_its_identity(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = running_batch(ledger, 1)
    for state in ("waiting", "claimed", "sending", "created", "unclear"):
        with (
            ledger.engine.sqlalchemy_engine.begin() as connection,
            pytest.raises(IntegrityError, match="rows_owners_do_not_yield"),
        ):
            connection.execute(text(f"update rows set state = '{state}', yielded = true where batch_id = {batch}"))
    ledger.close()


def roots(ledger: Ledger, *names: str) -> set[int]:
    with ledger.engine.read() as connection:
        query = text("select rootpage from sqlite_schema where name = :n")
        return {connection.execute(query, {"n": name}).scalar_one() for name in names}


def written_by(ledger: Ledger, statement: str, values: Any) -> set[int]:
    with ledger.engine.read() as connection:
        steps = connection.exec_driver_sql(f"EXPLAIN {statement}", values).all()
        return {one.p2 for one in steps if one.opcode == "OpenWrite"}


def test_no_step_of_a_row_files_its_source_and_sources_are_found_by_their_key(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = running_batch(ledger, 2)
    asked = asked_of(ledger)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    worker.record(answer(held[0], names_row=True), answer(held[1]))
    steps = [one for one in asked if one[0].startswith("UPDATE rows")]
    looks = [one for one in asked if "sources.source_id IN" in one[0]]
    assert len(steps) >= 3
    for one in steps:
        assert not written_by(ledger, *one) & roots(ledger, "sources"), one
    ((statement, values),) = looks
    assert len([one for one in values if str(one).startswith("src_")]) == 1, "the other answer named its row"
    with ledger.engine.read() as connection:
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all())
    assert "SEARCH sources USING PRIMARY KEY (source_id=?)" in plan, plan
    assert "SEARCH rows USING PRIMARY KEY (batch_id=? AND record=?)" in plan, plan
    ledger.close()


def test_a_batchs_sources_are_filed_in_their_order_by_one_reading_of_its_rows(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    batch = running_batch(ledger, 1)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held)
    worker.record(answer(held[0]))
    asked = asked_of(ledger)
    assert ledger.lifecycle.close(batch)
    assert not [one for one in asked if "JOIN" in one[0]], "nothing is contested"
    ((statement, values),) = [one for one in asked if one[0].startswith("INSERT INTO sources")]
    with ledger.engine.read() as connection:
        plan = str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all())
    assert "rows_by_state (batch_id=? AND state=?)" in plan or "PRIMARY KEY (batch_id=?)" in plan, plan
    assert "USE TEMP B-TREE FOR ORDER BY" in plan, plan
    ledger.close()
