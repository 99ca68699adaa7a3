"""Whose an identity is must be found by its index, however many rows the ledger has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import new_row, running_batch
from sqlalchemy import event

from tasks.ledger import Ledger


def test_owners_are_looked_up_by_their_index(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    asked: list[tuple[str, Any]] = []
    event.listen(
        ledger._engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, *_: asked.append((statement, values)),
    )
    running_batch(ledger, [new_row(1), new_row(2), new_row(3, customer="cus_000001")])
    looks = [(statement, values) for statement, values in asked if "rows.identity IN" in statement]
    assert looks
    with ledger._read() as connection:
        for statement, values in looks:
            plan = [str(step) for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert "USING INDEX rows_one_owner (identity=?)" in plan[0], plan
    ledger.close()
