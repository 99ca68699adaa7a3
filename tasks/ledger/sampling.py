"""Rows of a new batch that are looked up before its first is sent: which, who asks, and what came of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, select, update

from tasks.identities import reference_of
from tasks.ledger.dispatch import Dispatch
from tasks.ledger.schema import batches, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, RowState

#: Rows of one sample; of them so many are the first of the file, the others fall anywhere.
SAMPLE_ROWS = 5
FIRST_ROWS = 2
#: A batch with fewer rows to send is sampled in live mode only.
LEAST_ROWS = 5

_NEVER_SENT = and_(rows.c.state == RowState.WAITING, rows.c.attempts == 0, rows.c.resends == 0)


class SampledRow(NamedTuple):
    """A row that elepay is asked about; it was never sent by this ledger."""

    record: int
    customer_id: str
    payment_method: str
    reference: str


@dataclass(frozen=True, slots=True)
class Sampling(LedgerPart):
    """Chooses rows of a new batch that are looked up before its first is sent."""

    dispatch: Dispatch

    def is_worthwhile(self, connection: Connection, batch_id: int) -> bool:
        """Return whether a batch has rows enough to be sampled."""
        least = 1 if self.scope.account.live else LEAST_ROWS
        some = select(rows.c.record).where(rows.c.batch_id == batch_id, rows.c.state == RowState.WAITING).limit(least)
        return len(connection.execute(some).all()) == least

    def due_at(self, batch_id: int) -> float | None:
        """Return when the sample of a batch may be taken; None: it needs none, or this process is not to send it."""
        query = select(batches.c.sample_due_at).where(
            batches.c.id == batch_id, batches.c.state == BatchState.RUNNING, self.scope.may_send
        )
        with self.engine.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def claim(self, batch_id: int, lease_seconds: float) -> bool:
        """Take a sample that is due: True for the one caller that shall ask. It is due again after the lease."""
        now = self.engine.now()
        claim = update(batches).where(
            batches.c.id == batch_id,
            batches.c.state == BatchState.RUNNING,
            batches.c.sample_due_at <= now,
            self.scope.may_send,
        )
        with self.engine.write() as connection:
            return connection.execute(claim.values(sample_due_at=now + lease_seconds)).rowcount == 1

    def rows(self, batch_id: int, dice: random.Random) -> list[SampledRow]:
        """Return up to SAMPLE_ROWS rows that were never sent: the first of the file, and others at random."""
        mine = and_(rows.c.batch_id == batch_id, _NEVER_SENT)
        columns = (rows.c.record, rows.c.customer_id, rows.c.payment_method, rows.c.identity, rows.c.generation)
        query = select(*columns).where(mine).order_by(rows.c.record)
        newest = select(rows.c.record).where(mine).order_by(rows.c.record.desc()).limit(1)  # a maximum reads them all
        with self.engine.read() as connection:
            first = connection.execute(query.limit(SAMPLE_ROWS)).all()
            last = connection.execute(newest).scalar_one_or_none() or 1
            found = {row.record: row for row in first[:FIRST_ROWS]}
            for _ in range(SAMPLE_ROWS - FIRST_ROWS):
                at_random = query.where(rows.c.record >= dice.randint(1, last)).limit(1)
                found |= {row.record: row for row in connection.execute(at_random)}
        for row in first:  # chance may have met a row twice
            if len(found) < SAMPLE_ROWS:
                found[row.record] = row
        return [
            SampledRow(
                row.record, row.customer_id, row.payment_method, reference_of(bytes(row.identity), row.generation)
            )
            for row in found.values()
        ]

    def put_off(self, batch_id: int, until: float) -> None:
        """Let the sample be taken later: elepay could not be asked."""
        with self.engine.write() as connection:
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.sample_due_at.is_not(None))
                .values(sample_due_at=until)
            )

    def end(self, batch_id: int) -> None:
        """Let the rows of a batch be sent: its sample has found nothing."""
        with self.engine.write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(sample_due_at=None))
            self.dispatch.make_due(connection, batch_id)
