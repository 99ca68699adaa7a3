"""The history: what happened to batches and rows, and who did it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from tasks.ledger.schema import history
from tasks.ledger.scope import LedgerPart


@dataclass(frozen=True, slots=True)
class History(LedgerPart):
    """Adds lines to the history, and reads them; record 0 stands for the whole batch, batch 0 for the ledger."""

    def add(self, connection: Connection, batch_id: int, record: int, what: str, who: str = "") -> None:
        """Add a line within the caller's transaction."""
        connection.execute(
            insert(history).values(batch_id=batch_id, record=record, at=self.engine.now(), what=what, who=who or None)
        )

    def note(self, batch_id: int, record: int, what: str, who: str = "") -> None:
        """Add a line by itself: nothing else happened."""
        with self.engine.write() as connection:
            self.add(connection, batch_id, record, what, who)

    def note_each(self, batch_id: int, records: Sequence[int], what: str, who: str) -> None:
        """Add a line to each of some rows by itself."""
        line = {"batch_id": batch_id, "at": self.engine.now(), "what": what, "who": who or None}
        if records:
            with self.engine.write() as connection:
                connection.execute(insert(history), [{**line, "record": record} for record in records])

    def lines(self, batch_id: int, record: int | None = None) -> list[dict[str, Any]]:
        """Return the history of a row, or of the whole batch, oldest first."""
        query = select(history).where(history.c.batch_id == batch_id).order_by(history.c.id)
        if record is not None:
            query = query.where(history.c.record == record)
        with self.engine.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def count_per_second(self, batch_id: int, code: str) -> dict[int, int]:
        """Return epoch second -> lines of the history with this code."""
        second = func.floor(history.c.at)
        query = (
            select(second, func.count())
            .where(history.c.batch_id == batch_id, history.c.code == code)
            .group_by(second)
            .order_by(second)
        )
        with self.engine.read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}
