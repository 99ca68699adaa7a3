"""Personal data of batches that finished long ago: dropped, while what exactly-once needs stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, delete, exists, func, or_, select, update

from tasks.ledger.schema import batches, customer_pages, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, Reason, RowState, decode_reasons, encode_reasons

#: Rows of one transaction.
_PAGE = 20_000
_ENDED = (BatchState.FINISHED, BatchState.CANCELLED, BatchState.UNUSABLE)


class OldBatch(NamedTuple):
    """A batch that came to its end before a time."""

    id: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Retention(LedgerPart):
    """Drops the personal data of batches that ended long ago."""

    def batches_ended_before(self, at: float) -> list[OldBatch]:
        """Return every batch that came to its end before a time, dropped or not."""
        query = select(batches.c.id, batches.c.sha256).where(
            batches.c.state.in_([state.value for state in _ENDED]), batches.c.finished_at < at
        )
        with self.engine.read() as connection:
            return [OldBatch(*row) for row in connection.execute(query.order_by(batches.c.id))]

    def files_in_use(self, at: float) -> set[str]:
        """Return the checksums of the files of batches that have not come to their end before a time."""
        ended = and_(batches.c.state.in_([state.value for state in _ENDED]), batches.c.finished_at < at)
        query = select(batches.c.sha256).where(or_(~ended, batches.c.finished_at.is_(None))).distinct()
        with self.engine.read() as connection:
            return set(connection.execute(query).scalars())

    def drop_personal_data(self, batch_id: int) -> int:
        """Drop customer ids, requests and rejected values of a batch, once; return of how many rows.

        Identities, references, source ids, states, codes and with them the counts stay. `unclear` rows keep everything:
        they can be looked up, or sent again, only with it.
        """
        doubtful = exists().where(rows.c.batch_id == batch_id, rows.c.state == RowState.UNCLEAR)
        done = select(batches.c.dropped_at.is_not(None), doubtful).where(batches.c.id == batch_id)
        with self.engine.read() as connection:
            dropped, left = connection.execute(done).one()
            last = connection.execute(select(func.max(rows.c.record)).where(rows.c.batch_id == batch_id)).scalar()
        if dropped and not left:
            return 0
        count = sum(self._drop_page(batch_id, first, first + _PAGE - 1) for first in range(1, (last or 0) + 1, _PAGE))
        with self.engine.write() as connection:
            connection.execute(delete(customer_pages).where(customer_pages.c.batch_id == batch_id))
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id)
                .values(dropped_at=func.coalesce(batches.c.dropped_at, self.engine.now()))
            )
        self.engine.empty_log()
        return count

    def _drop_page(self, batch_id: int, first: int, last: int) -> int:
        here = and_(rows.c.batch_id == batch_id, rows.c.record.between(first, last), rows.c.state != RowState.UNCLEAR)
        personal = or_(rows.c.customer_id.is_not(None), rows.c.request.is_not(None))
        with self.engine.write() as connection:
            if self.engine.is_sqlite:  # else what was dropped stays readable in the file's free pages
                connection.exec_driver_sql("PRAGMA secure_delete=ON")
            invalid = connection.execute(
                select(rows.c.record, rows.c.reasons).where(here, rows.c.state == RowState.INVALID, personal)
            ).all()
            for record, reasons in invalid:
                kept = [Reason(reason.code, reason.column) for reason in decode_reasons(reasons)]
                connection.execute(
                    update(rows)
                    .where(rows.c.batch_id == batch_id, rows.c.record == record)
                    .values(reasons=encode_reasons(kept))
                )
            return connection.execute(
                update(rows).where(here, personal).values(customer_id=None, request=None)
            ).rowcount
