"""Rows whose source elepay surely has: what its lists are checked with before a missing source is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from tasks.identities import reference_of
from tasks.ledger.conditions import GENERATION, indexed
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import ENDED_STATUSES, RowState

#: Rows that are looked at to find control sources.
_NEIGHBOURS = 200
#: Created rows of whatever method that are looked at while somebody waits.
_FEW = 300

_READ = (rows.c.customer_id, rows.c.identity, GENERATION, rows.c.sent_at)
#: elepay surely has the source of a created row.
_IS_SURE = and_(
    or_(rows.c.adopted.is_not(True), and_(rows.c.attempts == 0, rows.c.source_status == "pending")),
    rows.c.customer_id.is_not(None),
    rows.c.source_status.not_in(sorted(ENDED_STATUSES)),
    rows.c.identity.is_not(None),
    or_(rows.c.sent_at.is_not(None), rows.c.attempts == 0),
)


class ControlSource(NamedTuple):
    """A row whose source elepay surely has."""

    customer_id: str
    reference: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class ControlSources(LedgerPart):
    """Chooses control sources."""

    def choose(
        self, batch_id: int, record: int, payment_method: str, *, after: float, few: bool = False
    ) -> list[ControlSource]:
        """Return a few rows whose source elepay surely has, to see what its lists show.

        First the one that was sent the soonest `after` a time, of those with a neighbouring or a high record number
        and of those in newer batches; then others, the youngest first: of this batch, else of others of this account. A
        source that was found in a list by a row never sent counts only if it was pending then, as a new one is: lists
        may hide those. With `few` only some rows are looked at, of whatever method: somebody waits.
        """
        neighbours = self._few(batch_id, record) if few else self._all(batch_id, record)
        queries = [query.where(rows.c.payment_method == payment_method, _IS_SURE) for query in neighbours]
        with self.engine.read() as connection:
            found = [[_control_source(row) for row in connection.execute(query)] for query in queries]
        in_batch = {source for part in found[:2] for source in part}
        others = set(found[2])
        younger = sorted((source for source in in_batch | others if source.sent_at > after), key=_sent_at)
        older = {source for source in in_batch if source.sent_at <= after} or {
            source for source in others if source.sent_at <= after
        }
        return [*younger[:1], *sorted(older, key=_sent_at, reverse=True)[:2]]

    def _all(self, batch_id: int, record: int) -> tuple[Select[Any], ...]:
        """Return what asks for the rows behind a record, for the last of its batch, and for those of other batches."""
        created = select(*_READ).where(rows.c.state == RowState.CREATED).limit(_NEIGHBOURS)
        here = created.where(rows.c.batch_id == batch_id)
        elsewhere = created.join(batches, batches.c.id == rows.c.batch_id)
        elsewhere = elsewhere.where(self.scope.of_account, rows.c.batch_id != batch_id)
        return (
            here.where(rows.c.record > record).order_by(rows.c.record),
            here.order_by(rows.c.record.desc()),
            elsewhere.order_by(rows.c.batch_id.desc(), rows.c.record.desc()),
        )

    def _few(self, batch_id: int, record: int) -> tuple[Select[Any], ...]:
        """Return the same for a few rows, found by the index of states, and for one other batch: the newest."""
        here = indexed.c.batch_id == batch_id
        newest = select(func.max(batches.c.id)).where(self.scope.of_account, batches.c.id != batch_id)
        return (
            _a_few(and_(here, indexed.c.record > record), indexed.c.record),
            _a_few(here, indexed.c.record.desc()),
            _a_few(indexed.c.batch_id == newest.scalar_subquery(), indexed.c.record.desc()),
        )


def _a_few(here: ColumnElement[bool], order: ColumnElement[Any]) -> Select[Any]:
    found = select(indexed.c.batch_id, indexed.c.record).where(indexed.c.state == RowState.CREATED, here)
    few = found.order_by(order).limit(_FEW).subquery()
    return select(*_READ).join(few, and_(rows.c.batch_id == few.c.batch_id + 0, rows.c.record == few.c.record + 0))


def _control_source(row: Any) -> ControlSource:
    return ControlSource(str(row[0]), reference_of(bytes(row[1]), row[2]), float(row[3] or 0.0))


def _sent_at(source: ControlSource) -> float:
    return source.sent_at
