"""No source stands for two rows: what a created row's source id is compared with before it is believed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, case, func, insert, literal, select, union_all, update

from tasks.ledger.store import Store
from tasks.models import Outcome, RowState
from tasks.schema import FILED_SOURCE, HOLDS_SOURCE, NEW_SOURCE, history, rows

#: The code of a row whose source id another created row holds.
SOURCE_TAKEN = "source_taken"

_Key = tuple[int, int]


class _Holder(NamedTuple):
    """A created row and how it came to its source."""

    batch_id: int
    record: int
    adopted: bool  #: found in a list, under the row's reference


class SharedSource(NamedTuple):
    """A source id that more than one created row holds."""

    source_id: str
    rows: tuple[_Key, ...]  #: (batch, record)


class HeldSources(Store):
    """Compares source ids; every row that is not believed becomes `unclear` and is looked up."""

    def _doubt_taken_sources(
        self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float
    ) -> int:
        """Change outcomes whose source another created row holds to `unclear`; return how many.

        What a list showed under the row's reference is believed more than an answer: then the row that held the source
        becomes `unclear` instead.
        """
        created = [one for one in outcomes if one.state is RowState.CREATED and one.source_id]
        if not created:
            return 0
        holders = self._holders(connection, [str(one.source_id) for one in created])
        doubted = 0
        for outcome in sorted(created, key=lambda one: not one.adopted):
            source_id, key = str(outcome.source_id), (outcome.batch_id, outcome.record)
            others = {other: holder for other, holder in holders.get(source_id, {}).items() if other != key}
            if others and (not outcome.adopted or any(holder.adopted for holder in others.values())):
                _doubt(outcome, now, look_up_at)
                doubted += 1
                continue
            if others:
                self._take_source_from(connection, source_id, others, now)
            holders[source_id] = {key: _Holder(*key, adopted=bool(outcome.adopted))}
        return doubted

    def _doubt_shared_sources(self, outcomes: Sequence[Outcome], now: float, look_up_at: float) -> int:
        """Doubt sources that another transaction recorded at the same time as these, after both are committed.

        Only a database with concurrent writers needs this; whoever commits last sees both rows.
        """
        created = [one for one in outcomes if one.state is RowState.CREATED and one.source_id]
        if self._sqlite or not created:
            return 0
        with self._read() as connection:
            holders = self._holders(connection, [str(one.source_id) for one in created])
        doubted = [one for one in created if len(holders.get(str(one.source_id), {})) > 1]
        if doubted:
            with self._write() as connection:
                for outcome in doubted:
                    key = outcome.batch_id, outcome.record
                    self._take_source_from(connection, str(outcome.source_id), [key], now)
                    _doubt(outcome, now, look_up_at)
        return len(doubted)

    def shared_sources(self, limit: int = 1000) -> list[SharedSource]:
        """Return the sources that more than one created row holds, as ledgers of earlier versions may have them."""
        held = select(rows.c.source_id).where(HOLDS_SOURCE).group_by(rows.c.source_id)
        several = held.having(func.count() > 1).limit(limit)
        query = (
            select(rows.c.source_id, rows.c.batch_id, rows.c.record)
            .where(rows.c.source_id.in_(several), HOLDS_SOURCE)
            .order_by(rows.c.source_id, rows.c.batch_id, rows.c.record)
        )
        found: dict[str, list[_Key]] = {}
        with self._read() as connection:
            for source_id, batch_id, record in connection.execute(query):
                found.setdefault(source_id, []).append((batch_id, record))
        return [SharedSource(source_id, tuple(keys)) for source_id, keys in found.items()]

    def file_sources(self) -> None:
        """Move the source ids of created rows from the small index to the large one, all in their order.

        Only SQLite needs it, which writes whole pages of 32 KB.
        """
        if self._sqlite:
            with self._write() as connection:
                connection.execute(update(rows).where(NEW_SOURCE).values(source_filed=True))

    @staticmethod
    def _holders(connection: Connection, source_ids: Sequence[str]) -> dict[str, dict[_Key, _Holder]]:
        """Return the created rows that hold these sources, by source id and (batch, record)."""
        wanted = select(rows.c.source_id, rows.c.batch_id, rows.c.record, rows.c.adopted).where(
            rows.c.source_id.in_(source_ids)
        )
        query = union_all(wanted.where(NEW_SOURCE), wanted.where(FILED_SOURCE))
        holders: dict[str, dict[_Key, _Holder]] = {}
        for source_id, batch_id, record, adopted in connection.execute(query):
            holders.setdefault(source_id, {})[batch_id, record] = _Holder(batch_id, record, bool(adopted))
        return holders

    def _take_source_from(self, connection: Connection, source_id: str, keys: Iterable[_Key], now: float) -> None:
        """Let created rows be looked up that held a source which is another row's.

        A row whose personal data was dropped cannot be looked up: a person decides.
        """
        for batch_id, record in keys:
            taken = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.record == record)
                .where(rows.c.source_id == source_id, rows.c.state == RowState.CREATED)
                .values(
                    state=RowState.UNCLEAR,
                    code=SOURCE_TAKEN,
                    source_id=None,
                    source_filed=None,
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
            if taken:
                connection.execute(
                    insert(history).values(
                        batch_id=batch_id,
                        record=record,
                        at=now,
                        what=f"source {source_id} belongs to another row, to be looked up",
                        code=SOURCE_TAKEN,
                    )
                )
                self._reopen(connection, batch_id)


def _doubt(outcome: Outcome, now: float, look_up_at: float) -> None:
    """Change an outcome in place: the row is in nobody's hands and is looked up."""
    outcome.what = f"the answer named source {outcome.source_id}, which another row holds"
    outcome.state, outcome.worker, outcome.code = RowState.UNCLEAR, None, SOURCE_TAKEN
    outcome.source_id = outcome.source_status = outcome.adopted = outcome.source_generation = None
    outcome.follow_up_after = outcome.absent_at = None
    outcome.ended_at, outcome.not_before = now, look_up_at
