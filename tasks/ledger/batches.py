"""Batches: added, found, discarded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, exists, insert, or_, select, true

from tasks.errors import LedgerError
from tasks.ledger.engine import new_id
from tasks.ledger.outbox import Outbox
from tasks.ledger.schema import batches, customer_pages, rows, slices, workers
from tasks.ledger.scope import LedgerPart
from tasks.models import Account, Batch, BatchState, NotificationKind, Stop, StopCode
from tasks.send_window import Window

#: The command whose batches belong to a drop folder.
WATCH = "watch"


@dataclass(frozen=True, slots=True)
class Batches(LedgerPart):
    """Adds, finds and discards batches."""

    outbox: Outbox

    def add(
        self,
        *,
        name: str,
        sha256: str,
        file_format: Mapping[str, Any],
        reader: int,
        parent_id: int | None,
        brought_by: str = "",
        window: str = "",
        deadline_at: float | None = None,
        verify: bool = False,
        who: str = "",
        person: str | None = None,
        four_eyes: bool = False,
    ) -> int:
        """Add a batch in state `reading`, for this process's command or fleet; `reader` is who will add its rows.

        It is sent in its `window` only (as `window.Window` writes it). The rows of a batch that `verify`s are looked up
        before they are sent. `who`, `person` and `four_eyes` are as in `Batch`.
        """
        with self.engine.write() as connection:
            result = connection.execute(
                insert(batches).values(
                    name=name,
                    sha256=sha256,
                    live=self.scope.account.live,
                    address=self.scope.account.address,
                    window=window,
                    runner=self.scope.runner,
                    brought_by=brought_by,
                    state=BatchState.READING,
                    file_format=orjson.dumps(dict(file_format)).decode(),
                    created_at=self.engine.now(),
                    reader=reader,
                    parent_id=parent_id,
                    deadline_at=deadline_at,
                    verify=verify,
                    who=who,
                    person=person,
                    four_eyes=four_eyes,
                )
            )
            return new_id(result)

    def add_unusable(self, name: str, sha256: str, *, stop: Stop, code: str = "") -> int:
        """Remember a file that could not be onboarded as a whole, and why; the notification carries the `code` only."""
        now = self.engine.now()
        with self.engine.write() as connection:
            result = connection.execute(
                insert(batches).values(
                    name=name,
                    sha256=sha256,
                    live=self.scope.account.live,
                    address=self.scope.account.address,
                    state=BatchState.UNUSABLE,
                    **stop_columns(stop),
                    created_at=now,
                    finished_at=now,
                )
            )
            batch_id = new_id(result)
            self.outbox.enqueue(connection, NotificationKind.REJECTED, batch_id, code=code)
            return batch_id

    def get(self, batch_id: int) -> Batch:
        """Return one batch. Raises LedgerError if there is none with this id."""
        with self.engine.read() as connection:
            row = connection.execute(self._all.where(batches.c.id == batch_id)).one_or_none()
        if row is None:
            raise LedgerError(
                "there is no batch {batch} in this ledger; `onboard status` lists those that are", batch=batch_id
            )
        return _batch(row)

    def newest(self, limit: int = 50) -> list[Batch]:
        """Return the newest batches, newest first."""
        return self.matching(true(), limit)

    def matching(self, wanted: ColumnElement[bool], limit: int) -> list[Batch]:
        """Return the batches of which a condition is true, newest first."""
        query = self._all.where(wanted).order_by(batches.c.id.desc()).limit(limit)
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def unfinished(self, limit: int = 50) -> list[Batch]:
        """Return the batches of this account that have not come to their end, oldest first."""
        states = (BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)
        query = self._all.where(batches.c.state.in_(states), self.scope.of_account).order_by(batches.c.id).limit(limit)
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def unattended(self) -> list[Batch]:
        """Return the running batches of this account that nobody works on, oldest first.

        Those whose command is gone (`BatchState.INTERRUPTED`), and those with rows that are due, in the batch's window,
        none of which is leased.
        """
        now = self.engine.now()
        due = exists().where(slices.c.batch_id == batches.c.id, or_(slices.c.rung, slices.c.due_at <= now))
        leased = exists().where(rows.c.batch_id == batches.c.id, rows.c.worker.is_not(None))
        gone = and_(batches.c.runner.is_not(None), ~self.scope.is_worked_on)
        query = self._all.where(
            batches.c.state == BatchState.RUNNING, self.scope.of_account, or_(gone, and_(due, ~leased))
        )
        with self.engine.read() as connection:
            due_now = [_batch(row) for row in connection.execute(query.order_by(batches.c.id))]
        return [
            batch
            for batch in due_now
            if batch.state is BatchState.INTERRUPTED or Window.parse(batch.window).is_open(now)
        ]

    @property
    def _all(self) -> Select[Any]:
        """Every batch, with whether somebody is at work for it."""
        return select(batches, self.scope.is_worked_on.label("is_worked_on"))

    def states(self, batch_ids: Collection[int]) -> dict[int, BatchState]:
        """Return the states of those of some batches that are there, by their ids; one whose command is gone runs."""
        query = select(batches.c.id, batches.c.state).where(batches.c.id.in_(batch_ids))
        with self.engine.read() as connection:
            return {batch_id: BatchState(state) for batch_id, state in connection.execute(query)}

    def of_file(self, sha256: str) -> list[Batch]:
        """Return every batch made from exactly this content, newest first."""
        query = self._all.where(batches.c.sha256 == sha256).order_by(batches.c.id.desc())
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def discard(self, batch_id: int) -> None:
        """Forget a batch whose reading did not come to its end; none of its rows was ever sent."""
        with self.engine.write() as connection:
            gone = connection.execute(
                delete(batches).where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
            ).rowcount
            if gone:
                for table in (rows, customer_pages):
                    connection.execute(delete(table).where(table.c.batch_id == batch_id))

    def is_read_before(self, batch_id: int) -> bool:
        """Return whether a batch that was added before this one is still being read."""
        query = select(exists().where(batches.c.state == BatchState.READING, batches.c.id < batch_id))
        with self.engine.read() as connection:
            return bool(connection.execute(query).scalar_one())

    def discard_dead_readings(self) -> None:
        """Forget every batch whose reader has died in the middle of the file."""
        alive = select(workers.c.id).where(workers.c.lease_ends_at > self.engine.sql_now)
        query = select(batches.c.id).where(batches.c.state == BatchState.READING, batches.c.reader.not_in(alive))
        with self.engine.read() as connection:
            dead = connection.execute(query).scalars().all()
        for batch_id in dead:
            self.discard(batch_id)


def stop_columns(stop: Stop | None) -> dict[str, str | None]:
    """Return the columns that say why a batch does not go on."""
    if stop is None:
        return {"stop_code": None, "state_reason": ""}
    return {"stop_code": stop.code, "state_reason": orjson.dumps(dict(stop.values)).decode() if stop.values else ""}


def hold_reading(connection: Connection, batch_id: int) -> None:
    """Hold a batch in its state `reading` until the end of the transaction. Raises LedgerError if it is not in it."""
    query = select(batches.c.id).where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
    if connection.execute(query.with_for_update(read=True)).one_or_none() is None:
        raise LedgerError("reading the file made no progress for so long that it was abandoned: run it again")


def _state(row: Row[Any]) -> BatchState:
    """Return the state of a batch; one that runs, and whose command is gone, is interrupted."""
    state = BatchState(row.state)
    interrupted = state is BatchState.RUNNING and row.runner is not None and not row.is_worked_on
    return BatchState.INTERRUPTED if interrupted else state


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        name=row.name,
        sha256=row.sha256,
        state=_state(row),
        account=Account(row.live, row.address),
        records=row.records,
        created_at=row.created_at,
        finished_at=row.finished_at,
        stop=Stop(StopCode(row.stop_code), orjson.loads(row.state_reason or "{}")) if row.stop_code else None,
        parent_id=row.parent_id,
        file_format=orjson.loads(row.file_format),
        deadline_at=row.deadline_at,
        canary=row.canary,
        who=row.who,
        person=row.person or "",
        four_eyes=row.four_eyes,
        first_approver=row.first_approver or "",
        window=row.window,
        runner=row.runner,
        brought_by=row.brought_by,
        is_worked_on=bool(row.is_worked_on),
        verify=row.verify,
        dropped_at=row.dropped_at,
        warnings=tuple(tuple(warning) for warning in orjson.loads(row.warnings)),
    )
