"""What holds for all rows of a batch: payment methods that are closed, and answers that are about the key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import and_, func, or_, select, update

from tasks.ledger.dispatch import Dispatch
from tasks.ledger.schema import closed_methods, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import LeasedRow, RowState

#: The code of a row whose refusal was about the key.
TAKEN_BACK = "refusal_taken_back"


class ClosedMethod(NamedTuple):
    """A payment method that elepay does not take in this batch."""

    payment_method: str
    resource: str  #: "" for whatever resource
    code: str
    line: int
    until: float | None


@dataclass(frozen=True, slots=True)
class Guards(LedgerPart):
    """Closes payment methods, and takes back refusals that were about the key."""

    dispatch: Dispatch

    def close_method(self, row: LeasedRow, *, resource: str, code: str, until: float | None) -> None:
        """Remember that elepay does not take a row's payment method: for good, or `until` a time."""
        values = {
            "batch_id": row.batch_id,
            "payment_method": row.payment_method,
            "resource": resource,
            "code": code,
            "line": row.line,
            "until": until,
        }
        statement = self.engine.insert(closed_methods).values(values)
        changed = {"code": code, "line": row.line, "until": until}
        keep_for_good = closed_methods.c.until.is_not(None)
        statement = statement.on_conflict_do_update(
            index_elements=["batch_id", "payment_method", "resource"], set_=changed, where=keep_for_good
        )
        with self.engine.write() as connection:
            connection.execute(statement)

    def closed_methods(self, batch_id: int) -> list[ClosedMethod]:
        """Return what is closed in a batch now."""
        query = select(
            closed_methods.c.payment_method,
            closed_methods.c.resource,
            closed_methods.c.code,
            closed_methods.c.line,
            closed_methods.c.until,
        ).where(
            closed_methods.c.batch_id == batch_id,
            or_(closed_methods.c.until.is_(None), closed_methods.c.until > self.engine.now()),
        )
        with self.engine.read() as connection:
            return [ClosedMethod(*row) for row in connection.execute(query)]

    def all_answers_say(self, batch_id: int, code: str, at_least: int) -> bool:
        """Return whether the batch has at least so many answers and every one of them is a refusal with this code."""
        answered = and_(rows.c.batch_id == batch_id, rows.c.state.in_([RowState.CREATED, RowState.REFUSED]))
        query = select(func.count(), func.count().filter(rows.c.code == code)).where(answered)
        with self.engine.read() as connection:
            total, saying = connection.execute(query).one()
        return bool(total >= at_least and total == saying)

    def take_back_refusals(self, batch_id: int, code: str) -> int:
        """Let rows refused with this code wait again: the refusal was about the key, not about them.

        Until they are sent again their code says so.
        """
        with self.engine.write() as connection:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.state == RowState.REFUSED, rows.c.code == code)
                .values(state=RowState.WAITING, code=TAKEN_BACK, parameter=None, request_id=None, yielded=None)
            ).rowcount
            self.dispatch.make_due(connection, batch_id)
        return changed
