"""Rows whose source elepay surely has: what its lists are checked with before a missing source is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import and_, or_, select

from tasks.identities import reference_of
from tasks.ledger.conditions import GENERATION
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import ENDED_STATUSES, RowState

#: Rows that are looked at to find control sources.
_NEIGHBOURS = 200


class ControlSource(NamedTuple):
    """A row whose source elepay surely has."""

    customer_id: str
    reference: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class ControlSources(LedgerPart):
    """Chooses control sources."""

    def choose(self, batch_id: int, record: int, payment_method: str, *, after: float) -> list[ControlSource]:
        """Return a few rows whose source elepay surely has, to see what its lists show.

        First the one that was sent the soonest `after` a time, of those with a neighbouring or a high record number
        and of those in newer batches; then others, the youngest first: of this batch, else of others of this account. A
        source that was found in a list by a row never sent counts only if it was pending then, as a new one is: lists
        may hide those.
        """
        batch = batches.alias()
        base = (
            select(rows.c.customer_id, rows.c.identity, GENERATION, rows.c.sent_at)
            .where(
                rows.c.state == RowState.CREATED,
                rows.c.payment_method == payment_method,
                or_(rows.c.adopted.is_not(True), and_(rows.c.attempts == 0, rows.c.source_status == "pending")),
                rows.c.customer_id.is_not(None),
                rows.c.source_status.not_in(sorted(ENDED_STATUSES)),
                rows.c.identity.is_not(None),
                or_(rows.c.sent_at.is_not(None), rows.c.attempts == 0),
            )
            .limit(_NEIGHBOURS)
        )
        here = base.where(rows.c.batch_id == batch_id)
        elsewhere = base.join(batch, batch.c.id == rows.c.batch_id).where(
            batch.c.live == self.scope.account.live,
            batch.c.address == self.scope.account.address,
            rows.c.batch_id != batch_id,
        )
        queries = [
            here.where(rows.c.record > record).order_by(rows.c.record),
            here.order_by(rows.c.record.desc()),
            elsewhere.order_by(rows.c.batch_id.desc(), rows.c.record.desc()),
        ]
        with self.engine.read() as connection:
            found = [[_control_source(row) for row in connection.execute(query)] for query in queries]
        in_batch = {source for part in found[:2] for source in part}
        others = set(found[2])
        younger = sorted((source for source in in_batch | others if source.sent_at > after), key=_sent_at)
        older = {source for source in in_batch if source.sent_at <= after} or {
            source for source in others if source.sent_at <= after
        }
        return [*younger[:1], *sorted(older, key=_sent_at, reverse=True)[:2]]


def _control_source(row: Any) -> ControlSource:
    return ControlSource(str(row[0]), reference_of(bytes(row[1]), row[2]), float(row[3] or 0.0))


def _sent_at(source: ControlSource) -> float:
    return source.sent_at
