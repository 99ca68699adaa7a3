"""Records on their way in: one owner for every identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    String,
    and_,
    cast,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from tasks.ledger.store import Store
from tasks.models import (
    BatchState,
    NewRow,
    Reason,
    RowState,
    encode_reasons,
)
from tasks.schema import OWNING, batches, rows

#: What a source's end looks like; its identity may then be onboarded again (docs/elepay-api.md §2.4).
ENDED_STATUSES = frozenset({"failed", "inactive", "deleted"})
#: The customer has authorised the source, or it has ended: it is not followed up any more.
SETTLED_STATUSES = ENDED_STATUSES | {"active"}


class Adding(Store):
    """Adds the rows of a batch that is being read."""

    def add_rows(self, batch_id: int, new_rows: Sequence[NewRow], *, again: bool = False) -> None:
        """Add records to a batch that is being read.

        A row whose identity is owned already becomes `skipped` and says where, unless its earlier source has ended or
        `again` asks for one more: then it is added with the next generation. Raises LedgerError if the batch is not
        being read any more, because its reader was taken for dead.
        """
        with self._write() as connection:
            self._expect_reading(connection, batch_id)
            added = self._insert_rows(connection, batch_id, new_rows)
            if added != len(new_rows):
                self._add_owned(connection, batch_id, new_rows, again=again)

    def _insert_rows(self, connection: Connection, batch_id: int, new_rows: Sequence[NewRow]) -> int:
        """Insert rows, without those whose identity is owned; return how many."""
        if self._sqlite:  # plain tuples: the driver takes half a second longer over a million named ones
            names, marks = ", ".join(NewRow._fields), ", ".join("?" * len(NewRow._fields))
            statement = f"INSERT INTO rows (batch_id, {names}) VALUES ({batch_id:d}, {marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants and a number
            return connection.exec_driver_sql(statement, list(map(tuple, new_rows))).rowcount
        added = connection.execute(
            postgresql.insert(rows).on_conflict_do_nothing().returning(rows.c.record),
            [{"batch_id": batch_id, **row._asdict()} for row in new_rows],
        )
        return len(added.all())

    def _add_owned(self, connection: Connection, batch_id: int, new_rows: Sequence[NewRow], *, again: bool) -> None:
        """Add those of `new_rows` that the unique index kept out."""
        first, last = new_rows[0].record, new_rows[-1].record
        in_range = and_(rows.c.batch_id == batch_id, rows.c.record.between(first, last))
        listed = select(func.aggregate_strings(cast(rows.c.record, String), ",")).where(in_range)
        there = set(map(int, filter(None, (connection.execute(listed).scalar_one() or "").split(","))))
        kept_out = [row for row in new_rows if row.record not in there]
        owners: dict[bytes, Row[Any]] = {}
        for start in range(0, len(kept_out), 500):
            names = [row.identity for row in kept_out[start : start + 500]]
            query = select(rows).where(rows.c.identity.in_(names), OWNING).order_by(rows.c.generation)
            owners.update((bytes(owner.identity), owner) for owner in connection.execute(query))
        add: list[dict[str, Any]] = []
        for row in kept_out:
            owner = owners[row.identity or b""]
            values: dict[str, Any] = {"batch_id": batch_id, **row._asdict()}
            once_more = again or owner.source_status in ENDED_STATUSES
            elsewhere = owner.batch_id != batch_id
            given_up = elsewhere and _never_sent(owner) and self._give_up_cancelled(connection, owner)
            if given_up or (elsewhere and once_more and owner.state == RowState.CREATED):
                values["generation"] = owner.generation if given_up else _generation(owner) + 1
                insert_it = self._dialect_insert(rows).values(values).on_conflict_do_nothing().returning(rows)
                added = connection.execute(insert_it).one_or_none()
                if added is not None:
                    owners[row.identity or b""] = added
                    continue
            add.append(values | _skipped(row, owner, batch_id))
        if add:
            connection.execute(insert(rows), add)

    @staticmethod
    def _give_up_cancelled(connection: Connection, owner: Row[Any]) -> bool:
        """Take the identity from a row that will never be sent because its batch was cancelled."""
        cancelled = exists().where(batches.c.id == owner.batch_id, batches.c.state == BatchState.CANCELLED)
        return bool(
            connection.execute(
                update(rows)
                .where(rows.c.batch_id == owner.batch_id, rows.c.record == owner.record)
                .where(rows.c.state == owner.state, rows.c.attempts == owner.attempts, cancelled)
                .where(rows.c.worker.is_(None))
                .values(identity=None, state=RowState.WAITING, code=None, not_before=None)
            ).rowcount
        )


def _never_sent(owner: Row[Any]) -> bool:
    """Tell whether a row waits for its (next) sending, or was being looked up before its first."""
    return bool(owner.state == RowState.WAITING or (owner.state == RowState.UNCLEAR and owner.attempts == 0))


def _generation(owner: Row[Any]) -> int:
    return int(owner.source_generation or owner.generation)


def _skipped(row: NewRow, owner: Row[Any], batch_id: int) -> dict[str, Any]:
    """Return what turns a new row into a skipped one that says where its identity stands already."""
    here = owner.batch_id == batch_id
    changed = owner.content is not None and row.content is not None and bytes(owner.content) != row.content
    code = "changed" if changed else "duplicate_in_file" if here else "onboarded_before"
    detail = f"record {owner.record}" if here else f"batch {owner.batch_id} record {owner.record}"
    return {
        "state": RowState.SKIPPED,
        "generation": _generation(owner),
        "code": code,
        "reasons": encode_reasons([Reason(code, detail=detail)]),
        "source_id": owner.source_id,
        "source_status": owner.source_status,
        "request": None,
        "yielded": True,
    }
