"""What an audit holds against elepay, customer by customer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import case, func, select, tuple_, update

from tasks.identities import identity_and_generation, reference_of
from tasks.ledger.conditions import GENERATION
from tasks.ledger.history import History
from tasks.ledger.schema import rows
from tasks.ledger.scope import LedgerPart
from tasks.models import SETTLED_STATUSES, RowState

_AUDITED = (RowState.CREATED, RowState.REFUSED, RowState.UNCLEAR, RowState.WAITING)


class AuditedRow(NamedTuple):
    """A row that may have a source."""

    customer_id: str
    payment_method: str
    record: int
    line: int
    state: str
    reference: str
    source_id: str
    source_status: str


@dataclass(frozen=True, slots=True)
class AuditRows(LedgerPart):
    """Reads rows by customer; refreshes the status of their sources."""

    history: History

    def page(self, batch_id: int, after: tuple[str, str, int], limit: int) -> list[AuditedRow]:
        """Return rows with an identity, by customer, payment method and record, from after a key on."""
        key = tuple_(rows.c.customer_id, rows.c.payment_method, rows.c.record)
        query = (
            select(
                rows.c.customer_id,
                rows.c.payment_method,
                rows.c.record,
                rows.c.line,
                rows.c.state,
                rows.c.identity,
                GENERATION,
                rows.c.source_id,
                rows.c.source_status,
            )
            .where(rows.c.batch_id == batch_id, rows.c.state.in_([state.value for state in _AUDITED]))
            .where(rows.c.identity.is_not(None), key > after)
            .order_by(rows.c.customer_id, rows.c.payment_method, rows.c.record)
            .limit(limit)
        )
        with self.engine.read() as connection:
            return [
                AuditedRow(*row[:5], reference_of(bytes(row[5]), row[6]), row[7] or "", row[8] or "")
                for row in connection.execute(query)
            ]

    def created_references(self, references: Collection[str]) -> set[str]:
        """Return those of `references` that some row of this ledger calls created."""
        named = {reference: found for reference in references if (found := identity_and_generation(reference))}
        identities = sorted({identity for identity, _ in named.values()})
        known = set()
        with self.engine.read() as connection:
            for start in range(0, len(identities), 500):
                query = select(rows.c.identity, GENERATION).where(
                    rows.c.identity.in_(identities[start : start + 500]), rows.c.state == RowState.CREATED
                )
                known |= {(bytes(row[0]), row[1]) for row in connection.execute(query)}
        return {reference for reference, key in named.items() if key in known}

    def refresh_statuses(self, batch_id: int, seen: Sequence[tuple[int, str, str]]) -> None:
        """Write what elepay says of sources, as (record, source id, status); one that is settled is not followed up."""
        now = self.engine.now()
        with self.engine.write() as connection:
            for record, source_id, status in seen:
                settled = status in SETTLED_STATUSES
                connection.execute(
                    update(rows)
                    .where(rows.c.batch_id == batch_id, rows.c.record == record, rows.c.source_id == source_id)
                    .where(rows.c.state == RowState.CREATED)
                    .values(
                        status_at=case(
                            (func.coalesce(rows.c.source_status, "") == status, rows.c.status_at), else_=now
                        ),
                        source_status=status,
                        **({"follow_up_at": None} if settled else {}),
                    )
                )
                self.history.add(connection, batch_id, record, f"source is {status}, seen by an audit")
