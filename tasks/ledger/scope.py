"""What every part of the ledger is given: the database, the account, and whose batches this process may send."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, exists, or_

from tasks.ledger.engine import LedgerEngine
from tasks.ledger.schema import batches, workers
from tasks.models import Account


@dataclass(slots=True)
class Scope:
    """One database as one process sees it; all parts of a ledger share one scope."""

    engine: LedgerEngine
    account: Account  #: where the batches are sent that this process adds, claims and dispatches
    #: The command whose batches these are (`workers.runner`); None: those of the fleet and of watchers.
    runner: int | None = None

    @property
    def of_account(self) -> ColumnElement[bool]:
        """Whether a batch is sent with the key, and to the address, of this process."""
        return and_(batches.c.live == self.account.live, batches.c.address == self.account.address)

    @property
    def may_send(self) -> ColumnElement[bool]:
        """Whether this process may send a batch: it is of its account, and of the command that it works for."""
        return and_(self.of_account, batches.c.runner.is_not_distinct_from(self.runner))

    @property
    def is_worked_on(self) -> ColumnElement[bool]:
        """Whether somebody is at work for a batch: its own command or workers, else any of the fleet or a watcher."""
        alive = exists().where(workers.c.lease_ends_at > self.engine.sql_now)
        of_runner = alive.where(workers.c.runner == batches.c.runner)
        return or_(of_runner, and_(batches.c.runner.is_(None), self.is_fleet_at_work))

    @property
    def is_fleet_at_work(self) -> ColumnElement[bool]:
        """Whether any worker of the fleet, or of a watcher, is at work for this account."""
        sends = and_(workers.c.runner.is_(None), workers.c.longest_request_seconds > 0)
        of_account = workers.c.account == self.account.key
        return exists().where(workers.c.lease_ends_at > self.engine.sql_now, sends, of_account)


@dataclass(frozen=True, slots=True)
class LedgerPart:
    """One concern of the ledger; the parts that its transactions include are its other fields."""

    scope: Scope

    @property
    def engine(self) -> LedgerEngine:
        """The database."""
        return self.scope.engine
