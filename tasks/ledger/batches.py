"""Batches: added, started, stopped, closed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import (
    Connection,
    Row,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from tasks import stop_texts
from tasks.errors import LedgerError
from tasks.ledger.conditions import NOT_SETTLED, some_not_settled
from tasks.ledger.engine import new_id
from tasks.ledger.sampling import Samples
from tasks.ledger.schema import batches, rows, slices, workers
from tasks.models import (
    Account,
    Batch,
    BatchState,
    NotificationKind,
    RowState,
    Stop,
    StopCode,
)
from tasks.send_window import Window

#: The command whose batches belong to a drop folder.
WATCH = "watch"
#: What people are told of when a batch gets into this state.
_TOLD_OF = {BatchState.PAUSED: NotificationKind.PAUSED, BatchState.HALTED: NotificationKind.HALTED}


class Batches(Samples):
    """What happens to whole batches."""

    def add_batch(
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
    ) -> int:
        """Add a batch in state `reading`, for this process's command or fleet; `reader` is who will add its rows.

        It is sent in its `window` only (as `window.Window` writes it). The rows of a batch that `verify`s are looked up
        before they are sent.
        """
        with self.engine.write() as connection:
            result = connection.execute(
                insert(batches).values(
                    name=name,
                    sha256=sha256,
                    live=self.account.live,
                    address=self.account.address,
                    window=window,
                    runner=self.runner,
                    brought_by=brought_by,
                    state=BatchState.READING,
                    file_format=orjson.dumps(dict(file_format)).decode(),
                    created_at=self.engine.now(),
                    reader=reader,
                    parent_id=parent_id,
                    deadline_at=deadline_at,
                    verify=verify,
                )
            )
            return new_id(result)

    def add_unusable_batch(self, name: str, sha256: str, *, stop: Stop, code: str = "") -> int:
        """Remember a file that could not be onboarded as a whole, and why; people are told the `code` only."""
        now = self.engine.now()
        with self.engine.write() as connection:
            result = connection.execute(
                insert(batches).values(
                    name=name,
                    sha256=sha256,
                    live=self.account.live,
                    address=self.account.address,
                    state=BatchState.UNUSABLE,
                    **_stop_columns(stop),
                    created_at=now,
                    finished_at=now,
                )
            )
            batch_id = new_id(result)
            self._add_news(connection, NotificationKind.REJECTED, batch_id, code=code)
            return batch_id

    def batch(self, batch_id: int) -> Batch:
        """Return one batch. Raises LedgerError if there is none with this id."""
        with self.engine.read() as connection:
            found = connection.execute(self._batches.where(batches.c.id == batch_id)).one_or_none()
        if found is None:
            raise LedgerError(f"there is no batch {batch_id} in this ledger; `onboard status` lists those that are")
        return _batch(found)

    def batches(self, limit: int = 50) -> list[Batch]:
        """Return the newest batches, newest first."""
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(self._batches.order_by(batches.c.id.desc()).limit(limit))]

    def unfinished(self, limit: int = 50) -> list[Batch]:
        """Return the batches of this account that have not come to their end, oldest first."""
        states = (BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)
        query = self._batches.where(batches.c.state.in_(states), self._of_account).order_by(batches.c.id).limit(limit)
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def unattended(self) -> list[Batch]:
        """Return the running batches of this account for which nobody does anything, oldest first.

        Those whose command is gone (`BatchState.INTERRUPTED`), and those with rows that are due, in the batch's window,
        of which nobody holds one.
        """
        now = self.engine.now()
        due = exists().where(slices.c.batch_id == batches.c.id, or_(slices.c.rung, slices.c.due_at <= now))
        held = exists().where(rows.c.batch_id == batches.c.id, rows.c.worker.is_not(None))
        gone = and_(batches.c.runner.is_not(None), ~self._is_worked_on)
        query = self._batches.where(
            batches.c.state == BatchState.RUNNING, self._of_account, or_(gone, and_(due, ~held))
        )
        with self.engine.read() as connection:
            found = [_batch(row) for row in connection.execute(query.order_by(batches.c.id))]
        return [one for one in found if one.state is BatchState.INTERRUPTED or Window.parse(one.window).is_open(now)]

    @property
    def _batches(self) -> Select[Any]:
        """Every batch, with whether somebody is at work for it."""
        return select(batches, self._is_worked_on.label("is_worked_on"))

    def take(self, batch_id: int) -> bool:
        """Make an unfinished batch this process's to send, unless others are at work for it; tell whether it is now."""
        with self.engine.write() as connection:
            free = and_(batches.c.id == batch_id, self._of_account, ~self._is_worked_on)
            if connection.execute(update(batches).where(free).values(runner=self.runner)).rowcount:
                self._forget_messages(connection, [batch_id])
            return bool(
                connection.execute(select(exists().where(batches.c.id == batch_id, self._is_ours))).scalar_one()
            )

    def return_to_drop_folder(self) -> int:
        """Give what a watcher brought back to watchers and fleet, if the command that went on with it is gone."""
        query = select(batches.c.id).where(
            batches.c.state == BatchState.RUNNING,
            batches.c.brought_by == WATCH,
            batches.c.runner.is_not(None),
            ~self._is_worked_on,
        )
        with self.engine.read() as connection:
            found = connection.execute(query).scalars().all()
        if not found:
            return 0
        with self.engine.write() as connection:
            again = update(batches).where(batches.c.id.in_(found), ~self._is_worked_on)
            returned = connection.execute(again.values(runner=None)).rowcount
            self._forget_messages(connection, found)
        return returned

    def running_batches(self) -> list[int]:
        """Return the numbers of the batches that run."""
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING).order_by(batches.c.id)
        with self.engine.read() as connection:
            return list(connection.execute(query).scalars())

    def batches_of_file(self, sha256: str) -> list[Batch]:
        """Return every batch made from exactly this content, newest first."""
        query = self._batches.where(batches.c.sha256 == sha256).order_by(batches.c.id.desc())
        with self.engine.read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def start_batch(
        self,
        batch_id: int,
        slice_rows: int,
        *,
        canary_rows: int = 0,
        warnings: Sequence[Sequence[Any]] = (),
        sample: bool = False,
    ) -> None:
        """Cut the batch's waiting rows into slices that are due now, and let it run.

        With `sample` some of its rows are to be looked up before any is sent, if it has enough of them
        (`tasks/send/sampling.py`). Raises LedgerReplaced.

        With `canary_rows` the first so many rows are a slice of their own, and only that one is due before
        `approve_batch`. `warnings` are what the reports tell of the file besides its rows, as JSON-able lists.
        """
        query = (
            select(rows.c.record)
            .where(rows.c.batch_id == batch_id, rows.c.state == RowState.WAITING)
            .order_by(rows.c.record)
            .execution_options(yield_per=10_000)
        )
        now = self.engine.now()
        with self.engine.write() as connection:
            self._expect_reading(connection, batch_id)
            self.engine.memory.look(connection)
            waiting = connection.execute(query).scalars()
            canary = list(itertools.islice(waiting, canary_rows))
            parts = itertools.chain(
                [canary] if canary else [], iter(lambda: list(itertools.islice(waiting, slice_rows)), [])
            )
            ranges = [
                {
                    "batch_id": batch_id,
                    "first_record": part[0],
                    "last_record": part[-1],
                    "due_at": None if canary and part is not canary else now,
                }
                for part in parts
            ]
            if ranges:
                connection.execute(insert(slices).values(rung=False), ranges)
            records = connection.execute(select(func.count()).where(rows.c.batch_id == batch_id)).scalar_one()
            connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
                .values(
                    state=BatchState.RUNNING,
                    records=records,
                    reader=None,
                    canary=canary[-1] if canary and len(ranges) > 1 else 0,
                    sample_due_at=now if sample and self._is_worth_a_sample(connection, batch_id) else None,
                    warnings=orjson.dumps(list(warnings)).decode(),
                )
            )

    def pause_after_canary(self, batch_id: int) -> bool:
        """Pause a running batch whose canary rows have all come to an end; True for the one caller that did it."""
        if not self.waits_for_approval(batch_id):
            return False
        return self.pause(batch_id, Stop(StopCode.CANARY, {"batch": batch_id}))

    def waits_for_approval(self, batch_id: int) -> bool:
        """Tell whether all canary rows of a batch have come to an end, and nobody has approved the others."""
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        left = exists().where(rows.c.batch_id == batch_id, rows.c.record <= canary, NOT_SETTLED)
        with self.engine.read() as connection:
            return bool(connection.execute(select(and_(canary > 0, ~left))).scalar_one())

    def approve_batch(self, batch_id: int, who: str) -> bool:
        """Let this process's command, or the fleet, go on with a batch after its canary rows.

        False if it does not wait for that.
        """
        with self.engine.write(remembered=True) as connection:
            self.engine.memory.look(connection)
            approved = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.canary > 0, batches.c.state == BatchState.PAUSED)
                .where(batches.c.sample_due_at.is_(None))
                .values(canary=0, state=BatchState.RUNNING, state_reason="", stop_code=None, runner=self.runner)
            ).rowcount
            if approved:
                self._forget_messages(connection, [batch_id])
                self._make_due(connection, batch_id)
                self._tell(connection, batch_id, 0, "approved", who)
        return approved == 1

    def pause_overdue(self) -> list[int]:
        """Pause every running batch whose deadline has passed; return them. What was not sent goes on waiting."""
        now = self.engine.now()
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING, batches.c.deadline_at <= now)
        with self.engine.read() as connection:
            overdue = connection.execute(query).scalars().all()
        return [batch_id for batch_id in overdue if self.pause(batch_id, Stop(StopCode.DEADLINE, {"batch": batch_id}))]

    def change_window(self, batch_id: int, window: str, who: str) -> None:
        """Give a batch another window, as `window.Window` writes it."""
        with self.engine.write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(window=window))
            self._tell(connection, batch_id, 0, f"is sent {window}" if window else "is sent at any time", who)
            self._make_due(connection, batch_id)

    def set_deadline(self, batch_id: int, deadline_at: float | None) -> None:
        """Give a batch another deadline, or none."""
        with self.engine.write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(deadline_at=deadline_at))

    def verify_from_now_on(self, batch_id: int) -> None:
        """Have those rows of a batch that were never sent looked up before they are; then it needs no sample."""
        with self.engine.write() as connection:
            verify = update(batches).where(batches.c.id == batch_id)
            connection.execute(verify.values(verify=True, sample_due_at=None))

    def _forget_messages(self, connection: Connection, batch_ids: Sequence[int]) -> None:
        """Make the slices due whose messages lie on the queue of a command that has ended, or of whoever had them."""
        unread = update(slices).where(slices.c.batch_id.in_(batch_ids), slices.c.rung)
        connection.execute(unread.values(rung=False, due_at=self.engine.now()))

    def pause(self, batch_id: int, stop: Stop, who: str = "") -> bool:
        """Pause a running batch; False if it does not run."""
        return self.change_batch_state(batch_id, BatchState.PAUSED, stop, only_from=[BatchState.RUNNING], who=who)

    def resume_batch(self, batch_id: int, who: str) -> bool:
        """Let this process's command, or the fleet, go on with a batch that is stopped, or that nobody works on.

        False if it is neither. Its slices are due at once. Raises LedgerReplaced.
        """
        stopped = batches.c.state.in_([BatchState.PAUSED.value, BatchState.HALTED.value])
        abandoned = and_(batches.c.state == BatchState.RUNNING, ~self._is_worked_on)
        with self.engine.write(remembered=True) as connection:
            self.engine.memory.look(connection)
            resumed = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, self._of_account, or_(stopped, abandoned))
                .values(state=BatchState.RUNNING, state_reason="", stop_code=None, runner=self.runner)
            ).rowcount
            if resumed:
                self._forget_messages(connection, [batch_id])
                self._make_due(connection, batch_id)
                self._tell(connection, batch_id, 0, str(BatchState.RUNNING), who)
        return resumed == 1

    def change_batch_state(
        self,
        batch_id: int,
        to: BatchState,
        stop: Stop | None,
        *,
        only_from: Iterable[BatchState],
        who: str = "",
    ) -> bool:
        """Stop or cancel a batch if it is where the caller believes it is; return whether it was."""
        now = self.engine.now()
        with self.engine.write(remembered=True) as connection:
            moved = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state.in_([state.value for state in only_from]))
                .values(
                    state=to,
                    **_stop_columns(stop),
                    finished_at=now if to is BatchState.CANCELLED else None,
                )
            ).rowcount
            if moved and to is BatchState.CANCELLED:
                self._file_sources(connection, batch_id)
            if moved:
                self._tell(connection, batch_id, 0, f"{to}: {stop_texts.sentence(stop)}" if stop else str(to), who)
            if moved and to in _TOLD_OF:
                self._add_news(connection, _TOLD_OF[to], batch_id, why=stop.encode() if stop else "")
        return moved == 1

    def close_batch(self, batch_id: int) -> bool:
        """Finish a running batch in which nothing is left to send or look up; True for the one caller that did it.

        Before that all its sources are filed, those of a cancelled batch as well; a row whose source is another's is
        left to be looked up.
        """
        left = some_not_settled(batch_id)
        with self.engine.read() as connection:
            query = select(batches.c.state, left).where(batches.c.id == batch_id)
            state, unsettled = connection.execute(query).one()
        if unsettled and state != BatchState.CANCELLED:
            return False
        with self.engine.write() as connection:
            self._file_sources(connection, batch_id)
            closed = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING, ~left)
                .values(state=BatchState.FINISHED, finished_at=self.engine.now(), state_reason="")
            ).rowcount
            if closed:
                self._add_news(connection, NotificationKind.FINISHED, batch_id)
        return closed == 1

    def discard_batch(self, batch_id: int) -> None:
        """Forget a batch whose reading did not come to its end; none of its rows was ever sent."""
        with self.engine.write() as connection:
            gone = connection.execute(
                delete(batches).where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
            ).rowcount
            if gone:
                connection.execute(delete(rows).where(rows.c.batch_id == batch_id))

    def is_read_before(self, batch_id: int) -> bool:
        """Tell whether a batch that was added before this one is still being read."""
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
            self.discard_batch(batch_id)


def _stop_columns(stop: Stop | None) -> dict[str, str | None]:
    """Return the columns that say why a batch does not go on."""
    if stop is None:
        return {"stop_code": None, "state_reason": ""}
    return {"stop_code": stop.code, "state_reason": orjson.dumps(dict(stop.values)).decode() if stop.values else ""}


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
        window=row.window,
        runner=row.runner,
        brought_by=row.brought_by,
        is_worked_on=bool(row.is_worked_on),
        verify=row.verify,
        dropped_at=row.dropped_at,
        warnings=tuple(tuple(one) for one in orjson.loads(row.warnings)),
    )
