"""Processes that hold rows: each has a lease, and is taken for dead when the lease ends."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, insert, select, update

from tasks.ledger.engine import new_id
from tasks.ledger.schema import workers
from tasks.ledger.scope import LedgerPart


@dataclass(frozen=True, slots=True)
class WorkerLeases(LedgerPart):
    """Registers workers, renews and ends their leases."""

    def add(
        self, host: str, pid: int, process_started: str, lease_seconds: float, longest_request_seconds: float = 0.0
    ) -> int:
        """Register a process that will hold rows; return its number. 0 as its longest request: it sends none."""
        with self.engine.write() as connection:
            result = connection.execute(
                insert(workers).values(
                    host=host,
                    pid=pid,
                    process_started=process_started,
                    lease_ends_at=self.engine.sql_now + lease_seconds,
                    longest_request_seconds=longest_request_seconds,
                    account=self.scope.account.key,
                    runner=self.scope.runner,
                )
            )
            return new_id(result)

    def add_command(self, host: str, pid: int, process_started: str, lease_seconds: float) -> int:
        """Register a command that has workers of its own: what it adds and takes from now on is theirs alone."""
        worker = self.add(host, pid, process_started, lease_seconds)
        self.scope.runner = worker if self.scope.runner is None else self.scope.runner
        with self.engine.write() as connection:
            connection.execute(update(workers).where(workers.c.id == worker).values(runner=self.scope.runner))
        return worker

    def renew(self, worker: int, lease_seconds: float) -> bool:
        """Prolong a worker's lease; False if it was given up for dead."""
        with self.engine.write() as connection:
            return self.renew_within(connection, worker, lease_seconds)

    def renew_within(self, connection: Connection, worker: int, lease_seconds: float) -> bool:
        """Prolong a worker's lease within the caller's transaction; False if it was taken for dead."""
        renew = update(workers).where(workers.c.id == worker, workers.c.lease_ends_at > self.engine.sql_now)
        return connection.execute(renew.values(lease_ends_at=self.engine.sql_now + lease_seconds)).rowcount == 1

    def end(self, worker: int) -> None:
        """End a worker's lease; the reaper recovers its rows."""
        with self.engine.write() as connection:
            connection.execute(update(workers).where(workers.c.id == worker).values(lease_ends_at=0.0))

    def is_fleet_at_work(self) -> bool:
        """Return whether any worker of the fleet, or of a watcher, has a lease."""
        with self.engine.read() as connection:
            return bool(connection.execute(select(self.scope.is_fleet_at_work)).scalar_one())

    def at_work_for(self, runner: int | None) -> list[tuple[str, int]]:
        """Return host and pid of each living process that sends for a command (None: for the fleet and watchers)."""
        sends = workers.c.longest_request_seconds > 0
        return self._living(
            sends, workers.c.account == self.scope.account.key, workers.c.runner.is_not_distinct_from(runner)
        )

    def command(self, runner: int) -> tuple[str, int] | None:
        """Return host and pid of a command, if it lives."""
        return next(iter(self._living(workers.c.id == runner)), None)

    def _living(self, *which: ColumnElement[bool]) -> list[tuple[str, int]]:
        query = select(workers.c.host, workers.c.pid).where(workers.c.lease_ends_at > self.engine.sql_now, *which)
        with self.engine.read() as connection:
            found = connection.execute(query.order_by(workers.c.id))
            return [(str(host).partition("/")[0], int(pid)) for host, pid in found]

    def processes(self) -> list[tuple[int, str, int, str]]:
        """Return (number, host, pid, start of the process) of every worker whose lease has not ended."""
        with self.engine.read() as connection:
            found = connection.execute(
                select(workers.c.id, workers.c.host, workers.c.pid, workers.c.process_started).where(
                    workers.c.lease_ends_at > 0
                )
            )
            return [(int(row[0]), str(row[1]), int(row[2]), str(row[3])) for row in found]
