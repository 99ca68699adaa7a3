"""What became of created sources: whose status is due, what elepay says now, and what people should see of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, case, func, insert, or_, select, tuple_, update

from tasks.identities import reference_of
from tasks.ledger.conditions import GENERATION
from tasks.ledger.schema import batches, history, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import ENDED_STATUSES, SETTLED_STATUSES, BatchState, RowState

#: A claimed row is due again after this, should its answer never be written.
CLAIM_SECONDS = 900.0


class FollowUpRow(NamedTuple):
    """A created row whose source's status is due."""

    batch_id: int
    record: int
    line: int
    source_id: str
    source_status: str
    follow_ups: int  #: how often elepay was asked before
    sent_at: float  #: when its source was asked for (0.0: by a ledger that was lost)


class StatusObservation(NamedTuple):
    """What elepay said of a row's source; `follow_up_at` is when it is asked again, None: never."""

    row: FollowUpRow
    status: str | None  #: None: it said nothing
    follow_up_at: float | None


class SourceLine(NamedTuple):
    """A source that people should look at."""

    batch_id: int
    record: int
    line: int
    customer_id: str  #: "": dropped
    reference: str
    source_id: str
    status: str
    since: float | None  #: when this status was seen first; of the first status when the source was created


@dataclass(frozen=True, slots=True)
class FollowUps(LedgerPart):
    """Claims created rows whose status is due, and records what elepay says of them."""

    def claim(self, limit: int) -> list[FollowUpRow]:
        """Take created rows of this account whose status is due, the longest due first.

        The claim moves them CLAIM_SECONDS on, so nobody else takes them, and one whose process dies is not forgotten.
        """
        now = self.engine.now()
        of_account = select(batches.c.id).where(self.scope.of_account)
        due = (
            select(rows.c.batch_id, rows.c.record)
            .where(rows.c.follow_up_at <= now, rows.c.batch_id.in_(of_account))
            .order_by(rows.c.follow_up_at)
            .limit(limit)
        )
        with self.engine.read() as connection:
            if connection.execute(due.limit(1)).one_or_none() is None:
                return []
        with self.engine.write() as connection:
            keys = connection.execute(due.with_for_update(skip_locked=True, of=rows)).all()
            claimed = connection.execute(
                update(rows)
                .where(tuple_(rows.c.batch_id, rows.c.record).in_([tuple(key) for key in keys]))
                .values(follow_up_at=now + CLAIM_SECONDS)
                .returning(
                    rows.c.batch_id,
                    rows.c.record,
                    rows.c.line,
                    rows.c.source_id,
                    rows.c.source_status,
                    rows.c.follow_ups,
                    rows.c.sent_at,
                )
            ).all()
        return [
            FollowUpRow(row[0], row[1], row[2], str(row[3]), row[4] or "", row[5] or 0, row[6] or 0.0)
            for row in claimed
        ]

    def record(self, seen: Sequence[StatusObservation]) -> int:
        """Write what elepay said, as far as a row still has that source; return how many have another status now."""
        now, changed = self.engine.now(), 0
        with self.engine.write() as connection:
            for observation in seen:
                row = observation.row
                written = connection.execute(
                    update(rows)
                    .where(rows.c.batch_id == row.batch_id, rows.c.record == row.record)
                    .where(rows.c.state == RowState.CREATED, rows.c.source_id == row.source_id)
                    .values(
                        follow_up_at=observation.follow_up_at,
                        follow_ups=func.coalesce(rows.c.follow_ups, 0) + 1,
                        source_status=func.coalesce(observation.status, rows.c.source_status),
                        status_at=case(
                            (
                                func.coalesce(observation.status, rows.c.source_status) == rows.c.source_status,
                                rows.c.status_at,
                            ),
                            else_=now,
                        ),
                    )
                ).rowcount
                if written and observation.status is not None and observation.status != row.source_status:
                    changed += 1
                    what = f"source is {observation.status}, was {row.source_status or 'unknown'}"
                    connection.execute(
                        insert(history).values(batch_id=row.batch_id, record=row.record, at=now, what=what)
                    )
        return changed

    def put_back(self, claimed: Sequence[FollowUpRow]) -> None:
        """Make claimed rows due again that elepay was not asked about."""
        if claimed:
            with self.engine.write() as connection:
                connection.execute(
                    update(rows)
                    .where(tuple_(rows.c.batch_id, rows.c.record).in_([(row.batch_id, row.record) for row in claimed]))
                    .where(rows.c.follow_up_at.is_not(None))
                    .values(follow_up_at=self.engine.now())
                )

    def count_due(self) -> int:
        """Return how many rows of this account are due now."""
        of_account = select(batches.c.id).where(self.scope.of_account)
        query = select(func.count()).where(rows.c.follow_up_at <= self.engine.now(), rows.c.batch_id.in_(of_account))
        with self.engine.read() as connection:
            return int(connection.execute(query).scalar_one())

    def halted_batches(self) -> list[int]:
        """Return the batches of this account that are halted: something is wrong with key, account or elepay."""
        query = select(batches.c.id).where(batches.c.state == BatchState.HALTED, self.scope.of_account)
        with self.engine.read() as connection:
            return list(connection.execute(query.order_by(batches.c.id)).scalars())

    def sources_to_look_at(self, pending_before: float) -> Iterator[SourceLine]:
        """Yield every source that has ended, or that is pending and was created before a time, by batch and record."""
        never_settled = or_(rows.c.source_status.is_(None), rows.c.source_status.not_in(sorted(SETTLED_STATUSES)))
        created_at = func.coalesce(rows.c.sent_at, 0.0)
        wanted = or_(rows.c.source_status.in_(sorted(ENDED_STATUSES)), and_(never_settled, created_at < pending_before))
        last = (0, 0)
        while True:
            query = (
                select(
                    rows.c.batch_id,
                    rows.c.record,
                    rows.c.line,
                    rows.c.identity,
                    GENERATION,
                    rows.c.source_id,
                    rows.c.source_status,
                    func.coalesce(rows.c.status_at, rows.c.sent_at),
                    rows.c.customer_id,
                )
                .where(tuple_(rows.c.batch_id, rows.c.record) > last, rows.c.state == RowState.CREATED, wanted)
                .order_by(rows.c.batch_id, rows.c.record)
                .limit(5000)
            )
            with self.engine.read() as connection:
                found = connection.execute(query).all()
            for row in found:
                reference = reference_of(bytes(row[3]), row[4]) if row[3] else ""
                yield SourceLine(row[0], row[1], row[2], row[8] or "", reference, row[5] or "", row[6] or "", row[7])
            if len(found) < 5000:
                return
            last = (found[-1][0], found[-1][1])
