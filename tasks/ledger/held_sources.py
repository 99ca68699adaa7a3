"""No source stands for two rows: what a created row's source id is compared with before it is believed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, func, insert, literal, select, update

from tasks.ledger.dispatch import Dispatch
from tasks.ledger.schema import batches, history, rows, sources
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, Outcome, RowState

#: The code of a row whose source id another created row holds.
SOURCE_TAKEN = "source_taken"

_holder = rows.alias()
_CREATED = and_(rows.c.state == RowState.CREATED, rows.c.source_id.is_not(None))


class Holder(NamedTuple):
    """A created row and how it came to its source."""

    batch_id: int
    record: int
    adopted: bool  #: found in a list, under the row's reference


class SharedSource(NamedTuple):
    """A source id that more than one created row holds."""

    source_id: str
    rows: tuple[tuple[int, int], ...]  #: (batch, record)


@dataclass(frozen=True, slots=True)
class HeldSources(LedgerPart):
    """Compares source ids; every row that is not believed becomes `unclear` and is looked up.

    A source that a list showed, or whose answer did not carry the row's reference, is compared with those of all
    finished batches before it is recorded; every source is compared with all others before its batch finishes.
    """

    dispatch: Dispatch

    def doubt_taken(self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float) -> int:
        """Change outcomes whose source another created row holds to `unclear`; return how many.

        What a list showed under the row's reference is believed more than an answer: then the row that held the source
        becomes `unclear` instead.
        """
        created = [outcome for outcome in outcomes if outcome.state is RowState.CREATED and outcome.source_id]
        asked = [str(outcome.source_id) for outcome in created if not outcome.names_row]
        if not asked:
            return 0
        holders = self._holders(connection, asked)
        taken: list[tuple[str, Holder]] = []
        doubted = 0
        for outcome in sorted(created, key=lambda outcome: not outcome.adopted):
            source_id = str(outcome.source_id)
            own = Holder(outcome.batch_id, outcome.record, bool(outcome.adopted))
            holder = holders.setdefault(source_id, own)
            if holder[:2] == own[:2]:
                continue
            if own.adopted and not holder.adopted:
                taken.append((source_id, holder))
                holders[source_id] = own
            else:
                _doubt(outcome, now, look_up_at)
                doubted += 1
        self._doubt_created(connection, taken, now)
        return doubted

    def compare(self, batch_id: int) -> None:
        """Compare the sources of a batch's created rows with all others, before the batch finishes."""
        with self.engine.write() as connection:
            self.file(connection, batch_id)

    def file(self, connection: Connection, batch_id: int) -> None:
        """File the sources of a batch's created rows; a row whose source is another's is left to be looked up.

        A million take 1.3 s on SQLite, because they come in their order; written with each wave they would take more
        time than the wave.
        """
        of_batch = and_(rows.c.batch_id == batch_id, _CREATED)
        in_order = select(rows.c.source_id, rows.c.batch_id, rows.c.record).where(of_batch)
        filed = connection.execute(
            self.engine.insert(sources)
            .from_select(["source_id", "batch_id", "record"], in_order.order_by(rows.c.source_id, rows.c.record))
            .on_conflict_do_nothing(),
            execution_options={"preserve_rowcount": True},
        ).rowcount
        if filed == connection.execute(select(func.count()).where(of_batch)).scalar_one():
            return
        doubted: list[tuple[str, Holder]] = []
        holders: dict[str, Holder] = {}
        for source_id, own, filed_for in self._contested(connection, batch_id):
            holder = holders.get(source_id, filed_for)
            if holder is not None and (holder.adopted or not own.adopted):
                doubted.append((source_id, own))
                if not holder.adopted and holder.batch_id == batch_id:  # neither is known to be the right one
                    doubted.append((source_id, holder))
                continue
            if holder is not None:
                doubted.append((source_id, holder))
            self.refile(connection, source_id, own)
            holders[source_id] = own
        self._doubt_created(connection, doubted, self.engine.now())

    @staticmethod
    def _contested(connection: Connection, batch_id: int) -> list[tuple[str, Holder, Holder | None]]:
        """Return the created rows of a batch whose source is filed for another row: (source, row, that other row).

        The other row is None if it has given the source up since. In the order of records.
        """
        is_own = and_(sources.c.batch_id == rows.c.batch_id, sources.c.record == rows.c.record)
        query = (
            select(rows.c.source_id, rows.c.record, rows.c.adopted, _holder.c.batch_id, _holder.c.record)
            .add_columns(_holder.c.adopted)
            .select_from(rows)
            .join(sources, sources.c.source_id == rows.c.source_id)
            .outerjoin(_holder, _still_holds(_holder))
            .where(rows.c.batch_id == batch_id, _CREATED, ~is_own)
            .order_by(rows.c.record)
        )
        return [
            (
                source_id,
                Holder(batch_id, record, bool(adopted)),
                None if other_batch is None else Holder(other_batch, other_record, bool(other_adopted)),
            )
            for source_id, record, adopted, other_batch, other_record, other_adopted in connection.execute(query)
        ]

    def shared(self, limit: int = 1000) -> list[SharedSource]:
        """Return the sources that more than one created row holds, as ledgers of earlier versions may have them."""
        several = select(rows.c.source_id).where(_CREATED).group_by(rows.c.source_id).having(func.count() > 1)
        query = (
            select(rows.c.source_id, rows.c.batch_id, rows.c.record)
            .where(rows.c.source_id.in_(several.limit(limit)), _CREATED)
            .order_by(rows.c.source_id, rows.c.batch_id, rows.c.record)
        )
        found: dict[str, list[tuple[int, int]]] = {}
        with self.engine.read() as connection:
            for source_id, batch_id, record in connection.execute(query):
                found.setdefault(source_id, []).append((batch_id, record))
        return [SharedSource(source_id, tuple(keys)) for source_id, keys in found.items()]

    @staticmethod
    def _holders(connection: Connection, source_ids: Collection[str]) -> dict[str, Holder]:
        """Return the created rows, of finished batches, that hold these sources."""
        query = (
            select(rows.c.source_id, rows.c.batch_id, rows.c.record, rows.c.adopted)
            .select_from(sources)
            .join(rows, _still_holds(rows))
            .where(sources.c.source_id.in_(source_ids))
        )
        return {
            source_id: Holder(batch_id, record, bool(adopted))
            for source_id, batch_id, record, adopted in connection.execute(query)
        }

    def holder_of(self, connection: Connection, source_id: str) -> Holder | None:
        """Return the created row that holds a source, of finished batches or others."""
        filed = self._holders(connection, [source_id])
        if filed:
            return filed[source_id]
        unfiled = select(batches.c.id).where(batches.c.state.not_in([BatchState.FINISHED, BatchState.CANCELLED]))
        query = select(rows.c.batch_id, rows.c.record, rows.c.adopted).where(
            rows.c.batch_id.in_(unfiled), rows.c.state == RowState.CREATED, rows.c.source_id == source_id
        )
        found = connection.execute(query.limit(1)).one_or_none()
        return None if found is None else Holder(found[0], found[1], bool(found[2]))

    def refile(self, connection: Connection, source_id: str, holder: Holder) -> None:
        """File a source for a row, whoever it was filed for."""
        where = {"batch_id": holder.batch_id, "record": holder.record}
        statement = self.engine.insert(sources).values(source_id=source_id, **where)
        connection.execute(statement.on_conflict_do_update(index_elements=[sources.c.source_id], set_=where))

    def _doubt_created(self, connection: Connection, doubted: Sequence[tuple[str, Holder]], now: float) -> None:
        """Let created rows be looked up whose source is, or may be, another row's.

        A row whose personal data was dropped cannot be looked up: a person decides.
        """
        for source_id, row in doubted:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == row.batch_id, rows.c.record == row.record)
                .where(rows.c.source_id == source_id, rows.c.state == RowState.CREATED)
                .values(
                    state=RowState.UNCLEAR,
                    code=SOURCE_TAKEN,
                    source_id=None,
                    source_status=None,
                    adopted=None,
                    follow_up_at=None,
                    source_generation=None,
                    look_ups=0,
                    ended_at=now,
                    absent_at=None,
                    not_before=case((rows.c.customer_id.is_not(None), literal(now)), else_=None),
                )
            ).rowcount
            if changed:
                connection.execute(
                    insert(history).values(
                        batch_id=row.batch_id,
                        record=row.record,
                        at=now,
                        what=f"source {source_id} belongs to another row, to be looked up",
                        code=SOURCE_TAKEN,
                    )
                )
        for batch_id in sorted({row.batch_id for _, row in doubted}):
            self.dispatch.reopen(connection, batch_id)


def _still_holds(row: FromClause) -> ColumnElement[bool]:
    """Return whether the row that is filed for a source has not given it up."""
    return and_(
        row.c.batch_id == sources.c.batch_id,
        row.c.record == sources.c.record,
        row.c.source_id == sources.c.source_id,
        row.c.state == RowState.CREATED,
    )


def _doubt(outcome: Outcome, now: float, look_up_at: float) -> None:
    """Change an outcome in place: the row is released and is looked up."""
    outcome.what = f"the answer named source {outcome.source_id}, which another row holds"
    outcome.state, outcome.worker, outcome.code = RowState.UNCLEAR, None, SOURCE_TAKEN
    outcome.source_id = outcome.source_status = outcome.adopted = outcome.source_generation = None
    outcome.follow_up_after = outcome.absent_at = None
    outcome.ended_at, outcome.not_before = now, look_up_at
