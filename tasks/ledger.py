"""The memory: add, claim, advance, release, sweep, count, page.

Every method is one transaction (or one read). Several processes and machines may call any of them at any time: rows
move by compare-and-set, and a row that somebody else has moved meanwhile is left alone. On SQLite writers take turns
through a lock file besides, which keeps the worst wait a tenth of what SQLite's own retrying gives.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Float,
    Row,
    and_,
    bindparam,
    case,
    cast,
    create_engine,
    delete,
    event,
    exists,
    extract,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tasks.errors import LedgerError
from tasks.models import (
    OWNING_STATES,
    Batch,
    BatchState,
    Books,
    HeldRow,
    NewRow,
    Outcome,
    Reason,
    ReportRow,
    RowState,
    Slice,
    reference_of,
)
from tasks.schema import VERSION, batches, closed_methods, history, rows, slices, workers

#: A rung slice that nobody took is rung again after this; the broker may have lost its message.
RING_AGAIN_SECONDS = 20.0
#: Messages that may lie unread in the broker: few, so that a small file need not queue behind a large one.
RUNG_AT_ONCE = 24
#: What a source's end looks like; its identity may then be onboarded again (docs/elepay-api.md §2.4).
ENDED_STATUSES = frozenset({"failed", "inactive", "deleted"})

#: Number of the lock under which one process at a time migrates a PostgreSQL ledger.
_MIGRATION_LOCK = 7_263_548

_INSERTED = ("batch_id", *NewRow._fields)
_OWNING = rows.c.state.in_(sorted(OWNING_STATES))


class Wave(NamedTuple):
    """What the ledger says to a wave: who may leave, and which batches have stopped."""

    marked: set[tuple[int, int]]  #: (batch, record) that are now `sending`
    stopped: set[int]  #: batches that no longer run
    lease_kept: bool  #: False: this worker was given up for dead, its rows are no longer its own


class UnclearRow(NamedTuple):
    """A row that waits for a person's word."""

    batch_id: int
    record: int
    line: int
    customer_id: str
    payment_method: str
    reference: str
    code: str
    sent_at: float | None


class ClosedMethod(NamedTuple):
    """A payment method that elepay does not take in this batch."""

    payment_method: str
    resource: str  #: "" for whatever resource
    code: str
    line: int
    until: float | None


class Ledger:
    """The ledger behind one SQLAlchemy URL; safe to share between threads."""

    def __init__(self, engine: Engine, lock_path: Path | None = None) -> None:
        self._engine = engine
        self._lock_path = lock_path
        self._lock = threading.Lock()
        self._sqlite = engine.dialect.name == "sqlite"
        self._dialect_insert: Any = sqlite.insert if self._sqlite else postgresql.insert

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Return the ledger behind an SQLAlchemy URL, with its tables made if there are none.

        Raises LedgerError with a sentence if it cannot be reached, or is of another version than this code.
        """
        ledger = cls._connect(url)
        try:
            ledger._check_version()
        except LedgerError:
            ledger.close()
            raise
        return ledger

    @classmethod
    def upgrade(cls, url: str) -> tuple[str | None, str]:
        """Bring a ledger of an earlier version up to this one; return the versions before and after."""
        from tasks import migrations

        ledger = cls._connect(url)
        try:
            before = ledger.version()
            if before is not None and before > VERSION:
                ledger._check_version()
            with ledger._write() as connection:
                if not ledger._sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                migrations.upgrade(connection)
        finally:
            ledger.close()
        return before, VERSION

    @classmethod
    def _connect(cls, url: str) -> Ledger:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise LedgerError("LEDGER_URL is not an SQLAlchemy URL such as postgresql+psycopg://host/name") from error
        lock_path = None
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise LedgerError("LEDGER_URL: a ledger in memory would be lost; give it a file")
            path = Path(parsed.database)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            lock_path = path.with_name(path.name + ".lock")
            engine = create_engine(
                parsed, connect_args={"timeout": 60, "check_same_thread": False}, pool_size=8, hide_parameters=True
            )
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = create_engine(parsed, pool_pre_ping=True, pool_size=8, pool_recycle=1800, hide_parameters=True)
        return cls(engine, lock_path)

    def _check_version(self) -> None:
        """Make the tables of an empty ledger; refuse one that this code does not fit."""
        found = self.version()
        if found is None:
            from tasks import migrations

            with self._write() as connection:
                if not self._sqlite:
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                migrations.upgrade(connection)
        elif found != VERSION:
            newer = found > VERSION
            raise LedgerError(
                f"the ledger has version {found} and this program needs {VERSION}: "
                + ("install the program that made it, or a newer one" if newer else "run `onboard ledger upgrade`")
            )

    def version(self) -> str | None:
        """Return the migration that the ledger is at; None if it is empty."""
        with self._read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    def now(self) -> float:
        """Return the time of this machine, in UTC epoch seconds."""
        return time.time()

    @property
    def _now(self) -> ColumnElement[float]:
        """The time that leases are measured by: the server's, so that machines need not agree."""
        if self._sqlite:
            return literal(time.time(), Float())
        return cast(extract("epoch", func.clock_timestamp()), Float(53))

    # ------------------------------------------------------------------ batches

    def add_batch(
        self,
        *,
        name: str,
        sha256: str,
        live: bool,
        file_format: Mapping[str, Any],
        reader: int,
        parent_id: int | None,
        deadline_at: float | None = None,
    ) -> int:
        """Add a batch in state `reading`; `reader` is the worker that will add its rows."""
        with self._write() as connection:
            result = connection.execute(
                insert(batches).values(
                    name=name,
                    sha256=sha256,
                    live=live,
                    state=BatchState.READING,
                    file_format=orjson.dumps(dict(file_format)).decode(),
                    created_at=self.now(),
                    reader=reader,
                    parent_id=parent_id,
                    deadline_at=deadline_at,
                )
            )
            return _new_id(result)

    def batch(self, batch_id: int) -> Batch:
        """Return one batch. Raises LedgerError if there is none with this id."""
        with self._read() as connection:
            found = connection.execute(select(batches).where(batches.c.id == batch_id)).one_or_none()
        if found is None:
            raise LedgerError(f"there is no batch {batch_id} in this ledger; `onboard status` lists those that are")
        return _batch(found)

    def batches(self, limit: int = 50) -> list[Batch]:
        """Return the newest batches, newest first."""
        with self._read() as connection:
            return [
                _batch(row) for row in connection.execute(select(batches).order_by(batches.c.id.desc()).limit(limit))
            ]

    def running_batches(self) -> list[int]:
        """Return the numbers of the batches that run."""
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING).order_by(batches.c.id)
        with self._read() as connection:
            return list(connection.execute(query).scalars())

    def batches_of_file(self, sha256: str) -> list[Batch]:
        """Return every batch made from exactly this content, newest first."""
        query = select(batches).where(batches.c.sha256 == sha256).order_by(batches.c.id.desc())
        with self._read() as connection:
            return [_batch(row) for row in connection.execute(query)]

    def start_batch(
        self, batch_id: int, slice_rows: int, *, canary_rows: int = 0, warnings: Sequence[Sequence[Any]] = ()
    ) -> None:
        """Cut the batch's waiting rows into slices that are due now, and let it run.

        With `canary_rows` the first so many rows are a slice of their own, and only that one is due before
        `approve_batch`. `warnings` are what the reports tell of the file besides its rows, as JSON-able lists.
        """
        query = (
            select(rows.c.record)
            .where(rows.c.batch_id == batch_id, rows.c.state == RowState.WAITING)
            .order_by(rows.c.record)
            .execution_options(yield_per=10_000)
        )
        now = self.now()
        with self._write() as connection:
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
                    warnings=orjson.dumps(list(warnings)).decode(),
                )
            )

    def pause_after_canary(self, batch_id: int) -> bool:
        """Pause a running batch whose canary rows have all come to an end; True for the one caller that did it."""
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        left = exists().where(rows.c.batch_id == batch_id, rows.c.record <= canary, _NOT_SETTLED)
        with self._read() as connection:
            if not connection.execute(select(and_(canary > 0, ~left))).scalar_one():
                return False
        reason = f"the canary rows have run: look at them (onboard status {batch_id}), then onboard approve {batch_id}"
        return self.change_batch_state(batch_id, BatchState.PAUSED, reason, only_from=[BatchState.RUNNING])

    def approve_batch(self, batch_id: int, who: str) -> bool:
        """Let the rest of a batch run after its canary rows; False if it does not wait for that."""
        with self._write() as connection:
            approved = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.canary > 0, batches.c.state == BatchState.PAUSED)
                .values(canary=0, state=BatchState.RUNNING, state_reason="")
            ).rowcount
            if approved:
                self._make_due(connection, batch_id)
                self._tell(connection, batch_id, 0, "approved", who)
        return approved == 1

    def pause_overdue(self) -> list[int]:
        """Pause every running batch whose deadline has passed; return them. What was not sent goes on waiting."""
        now = self.now()
        query = select(batches.c.id).where(batches.c.state == BatchState.RUNNING, batches.c.deadline_at <= now)
        with self._read() as connection:
            overdue = connection.execute(query).scalars().all()
        return [
            batch_id
            for batch_id in overdue
            if self.change_batch_state(
                batch_id,
                BatchState.PAUSED,
                f"its time is over; onboard resume {batch_id} goes on with what was not sent",
                only_from=[BatchState.RUNNING],
            )
        ]

    def set_deadline(self, batch_id: int, deadline_at: float | None) -> None:
        """Give a batch another deadline, or none."""
        with self._write() as connection:
            connection.execute(update(batches).where(batches.c.id == batch_id).values(deadline_at=deadline_at))

    def change_batch_state(
        self, batch_id: int, to: BatchState, reason: str, *, only_from: Iterable[BatchState], who: str = ""
    ) -> bool:
        """Move a batch if it is where the caller believes it is; return whether it was.

        A batch that goes on (`running`) has its slices rung again.
        """
        now = self.now()
        with self._write() as connection:
            moved = connection.execute(
                update(batches)
                .where(batches.c.id == batch_id, batches.c.state.in_([state.value for state in only_from]))
                .values(state=to, state_reason=reason, finished_at=now if to is BatchState.CANCELLED else None)
            ).rowcount
            if moved and to is BatchState.RUNNING:
                self._make_due(connection, batch_id)
            if moved:
                self._tell(connection, batch_id, 0, f"{to}: {reason}" if reason else str(to), who)
        return moved == 1

    def close_batch(self, batch_id: int) -> bool:
        """Finish a running batch in which nothing is left to send or look up; True for the one caller that did it."""
        left = exists().where(rows.c.batch_id == batch_id, _NOT_SETTLED)
        with self._read() as connection:
            if connection.execute(select(left)).scalar_one():
                return False
        with self._write() as connection:
            return (
                connection.execute(
                    update(batches)
                    .where(batches.c.id == batch_id, batches.c.state == BatchState.RUNNING, ~left)
                    .values(state=BatchState.FINISHED, finished_at=self.now(), state_reason="")
                ).rowcount
                == 1
            )

    def discard_batch(self, batch_id: int) -> None:
        """Forget a batch whose reading did not come to its end; none of its rows was ever sent."""
        with self._write() as connection:
            gone = connection.execute(
                delete(batches).where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
            ).rowcount
            if gone:
                connection.execute(delete(rows).where(rows.c.batch_id == batch_id))

    def discard_dead_readings(self) -> None:
        """Forget every batch whose reader has died in the middle of the file."""
        alive = select(workers.c.id).where(workers.c.lease_ends_at > self._now)
        query = select(batches.c.id).where(batches.c.state == BatchState.READING, batches.c.reader.not_in(alive))
        with self._read() as connection:
            dead = connection.execute(query).scalars().all()
        for batch_id in dead:
            self.discard_batch(batch_id)

    # ------------------------------------------------------------------ rows in

    def add_rows(self, batch_id: int, new_rows: Sequence[NewRow], *, again: bool = False) -> None:
        """Add records to a batch that is being read.

        A row whose identity is owned already becomes `skipped` and says where, unless its earlier source has ended or
        `again` asks for one more: then it is added with the next generation.
        """
        with self._write() as connection:
            added = self._insert_rows(connection, [(batch_id, *row) for row in new_rows])
            if added != len(new_rows):
                self._add_owned(connection, batch_id, new_rows, again=again)

    def _insert_rows(self, connection: Connection, values: list[tuple[Any, ...]]) -> int:
        """Insert plain tuples in the order of `_INSERTED`, without those whose identity is owned; return how many."""
        if self._sqlite:
            names, marks = ", ".join(_INSERTED), ", ".join("?" * len(_INSERTED))
            statement = f"INSERT INTO rows ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants
            return connection.exec_driver_sql(statement, values).rowcount
        added = connection.execute(
            postgresql.insert(rows).on_conflict_do_nothing().returning(rows.c.record),
            [dict(zip(_INSERTED, value, strict=True)) for value in values],
        )
        return len(added.all())

    def _add_owned(self, connection: Connection, batch_id: int, new_rows: Sequence[NewRow], *, again: bool) -> None:
        """Add those of `new_rows` that the unique index kept out."""
        first, last = new_rows[0].record, new_rows[-1].record
        there = set(
            connection.execute(
                select(rows.c.record).where(rows.c.batch_id == batch_id, rows.c.record.between(first, last))
            ).scalars()
        )
        kept_out = [row for row in new_rows if row.record not in there]
        owners: dict[bytes, Row[Any]] = {}
        for start in range(0, len(kept_out), 500):
            names = [row.identity for row in kept_out[start : start + 500]]
            query = select(rows).where(rows.c.identity.in_(names), _OWNING).order_by(rows.c.generation)
            owners.update((bytes(owner.identity), owner) for owner in connection.execute(query))
        add: list[dict[str, Any]] = []
        for row in kept_out:
            owner = owners[row.identity or b""]
            values: dict[str, Any] = {"batch_id": batch_id, **row._asdict()}
            once_more = again or owner.source_status in ENDED_STATUSES
            given_up = self._give_up_cancelled(connection, owner)
            if given_up or (owner.batch_id != batch_id and once_more and owner.state == RowState.CREATED):
                values["generation"] = owner.generation + (0 if given_up else 1)
                insert_it = self._dialect_insert(rows).values(values).on_conflict_do_nothing().returning(rows)
                added = connection.execute(insert_it).one_or_none()
                if added is not None:
                    owners[row.identity or b""] = added
                    continue
            add.append(values | _skipped(row, owner, batch_id))
        if add:
            connection.execute(insert(rows), add)

    @staticmethod
    def _give_up_cancelled(connection: Connection, owner: Row[Any]) -> bool:
        """Take the identity from a row that will never be sent because its batch was cancelled."""
        cancelled = exists().where(batches.c.id == owner.batch_id, batches.c.state == BatchState.CANCELLED)
        return bool(
            connection.execute(
                update(rows)
                .where(rows.c.batch_id == owner.batch_id, rows.c.record == owner.record)
                .where(rows.c.state == RowState.WAITING, cancelled)
                .values(identity=None)
            ).rowcount
        )

    # ------------------------------------------------------------------ the doorbell

    def ring(self, room: int = RUNG_AT_ONCE) -> list[Slice]:
        """Take slices that are due, fairly between the running batches, at most so many that `room` lie unread.

        The caller sends a message for each. One that gets lost is due again after RING_AGAIN_SECONDS.
        """
        now = self.now()
        running = (
            select(slices.c.batch_id)
            .join(batches, batches.c.id == slices.c.batch_id)
            .where(slices.c.due_at <= now, batches.c.state == BatchState.RUNNING)
            .distinct()
        )
        with self._read() as connection:
            due_batches = connection.execute(running.order_by(slices.c.batch_id)).scalars().all()
        if not due_batches:
            return []
        with self._write() as connection:
            unread = connection.execute(select(func.count()).where(slices.c.rung, slices.c.due_at > now)).scalar_one()
            queues = []
            for batch_id in due_batches:
                query = (
                    select(slices.c.batch_id, slices.c.first_record, slices.c.last_record)
                    .where(slices.c.batch_id == batch_id, slices.c.due_at <= now)
                    .order_by(slices.c.due_at, slices.c.first_record)
                    .limit(max(0, room - unread))
                    .with_for_update(skip_locked=True)
                )
                queues.append([Slice(*row) for row in connection.execute(query)])
            taken = [one for turn in _turns(queues) for one in turn][: max(0, room - unread)]
            if taken:
                connection.execute(
                    update(slices)
                    .where(slices.c.batch_id == bindparam("b"), slices.c.first_record == bindparam("f"))
                    .values(rung=True, due_at=now + RING_AGAIN_SECONDS),
                    [{"b": one.batch_id, "f": one.first_record} for one in taken],
                )
        return taken

    def ring_again(self, one: Slice | None = None) -> None:
        """Make slices whose message nobody will act on due at once: one, or (the broker is new and empty) all."""
        again = update(slices).where(slices.c.rung)
        if one is not None:
            again = again.where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record)
        with self._write() as connection:
            connection.execute(again.values(rung=False, due_at=self.now()))

    # ------------------------------------------------------------------ a worker's rows

    def add_worker(self, host: str, pid: int, process_started: str, lease_seconds: float) -> int:
        """Register a process that will hold rows; return its number."""
        with self._write() as connection:
            result = connection.execute(
                insert(workers).values(
                    host=host, pid=pid, process_started=process_started, lease_ends_at=self._now + lease_seconds
                )
            )
            return _new_id(result)

    def renew_lease(self, worker: int, lease_seconds: float) -> bool:
        """Prolong a worker's lease; False if it was given up for dead."""
        with self._write() as connection:
            return self._renew(connection, worker, lease_seconds)

    def _renew(self, connection: Connection, worker: int, lease_seconds: float) -> bool:
        renew = update(workers).where(workers.c.id == worker, workers.c.lease_ends_at > self._now)
        return connection.execute(renew.values(lease_ends_at=self._now + lease_seconds)).rowcount == 1

    def end_worker(self, worker: int) -> None:
        """Say goodbye for a worker; what it still holds is left to the sweeper."""
        with self._write() as connection:
            connection.execute(update(workers).where(workers.c.id == worker).values(lease_ends_at=0.0))

    def claim_slice(self, one: Slice, worker: int) -> list[HeldRow]:
        """Take every row of the slice that is due: to be sent, or to be looked up.

        Nothing is taken while the batch does not run.
        """
        now = self.now()
        in_slice = and_(
            rows.c.batch_id == one.batch_id,
            rows.c.record.between(one.first_record, one.last_record),
            rows.c.worker.is_(None),
        )
        runs = exists().where(batches.c.id == one.batch_id, batches.c.state == BatchState.RUNNING)
        is_due = or_(
            and_(rows.c.state == RowState.WAITING, or_(rows.c.not_before.is_(None), rows.c.not_before <= now)),
            and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before <= now),
        )
        claim = (
            update(rows)
            .where(in_slice, is_due, runs)
            .values(
                worker=worker,
                state=case((rows.c.state == RowState.WAITING, literal(RowState.CLAIMED.value)), else_=rows.c.state),
            )
            .returning(rows)
        )
        with self._write() as connection:
            held = [_held(row) for row in connection.execute(claim)]
            connection.execute(
                update(slices)
                .where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record)
                .values(rung=False)
            )
        held.sort(key=lambda row: row.record)
        return held

    def write_wave(
        self, worker: int, outcomes: Sequence[Outcome], to_send: Sequence[HeldRow], lease_seconds: float
    ) -> Wave:
        """Write outcomes and mark rows `sending`, in one transaction that also renews the worker's lease.

        Only the rows in `marked` may be sent; `attempts` of those has been raised by one.
        """
        now = self.now()
        batch_ids = {row.batch_id for row in to_send}
        with self._write() as connection:
            self._write_outcomes(connection, outcomes, now)
            lease_kept = self._renew(connection, worker, lease_seconds)
            stopped: set[int] = set()
            marked: set[tuple[int, int]] = set()
            if lease_kept and to_send:
                running = select(batches.c.id).where(batches.c.id.in_(batch_ids), batches.c.state == BatchState.RUNNING)
                stopped = batch_ids - set(connection.execute(running).scalars())
                marked = self._mark(connection, worker, [row for row in to_send if row.batch_id not in stopped], now)
        return Wave(marked, stopped, lease_kept)

    def _mark(
        self, connection: Connection, worker: int, to_send: Sequence[HeldRow], now: float
    ) -> set[tuple[int, int]]:
        if not to_send:
            return set()
        keys = [{"b": row.batch_id, "r": row.record, "w": worker, "now": now} for row in to_send]
        changed = connection.execute(_MARK, keys).rowcount
        if changed == len(to_send):
            return {(row.batch_id, row.record) for row in to_send}
        marked = set()  # somebody else has moved a row, or the driver does not count: look at each
        for row in to_send:
            is_ours = select(rows.c.record).where(
                rows.c.batch_id == row.batch_id,
                rows.c.record == row.record,
                rows.c.state == RowState.SENDING,
                rows.c.worker == worker,
                rows.c.attempts == row.attempts + 1,
            )
            if connection.execute(is_ours).one_or_none() is not None:
                marked.add((row.batch_id, row.record))
        return marked

    def _write_outcomes(self, connection: Connection, outcomes: Sequence[Outcome], now: float) -> None:
        if not outcomes:
            return
        changed = connection.execute(_RECORD, [_outcome_values(outcome) for outcome in outcomes]).rowcount
        told = [outcome for outcome in outcomes if outcome.what]
        if changed != len(outcomes):
            told = told + self._late(connection, outcomes)
        if told:
            connection.execute(
                insert(history),
                [
                    {
                        "batch_id": outcome.batch_id,
                        "record": outcome.record,
                        "at": now,
                        "what": outcome.what,
                        "attempt": outcome.attempts,
                        "code": outcome.code,
                        "request_id": outcome.request_id,
                        "latency_ms": outcome.latency_ms,
                    }
                    for outcome in told
                ],
            )

    @staticmethod
    def _late(connection: Connection, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Return, for the history, the sources whose answers came after the row had moved on: nobody may lose them."""
        late = []
        for outcome in outcomes:
            if outcome.source_id is None:
                continue
            known = connection.execute(
                select(rows.c.source_id).where(rows.c.batch_id == outcome.batch_id, rows.c.record == outcome.record)
            ).scalar_one_or_none()
            if known != outcome.source_id:
                outcome.what = f"late answer: source {outcome.source_id}, not recorded because the row had moved on"
                late.append(outcome)
        return late

    def release(self, worker: int, held: Sequence[HeldRow], not_before: Mapping[tuple[int, int], float]) -> None:
        """Give back rows that were not sent (or not looked up), some not to be touched before a time."""
        if not held:
            return
        give_back = (
            update(rows)
            .where(
                rows.c.batch_id == bindparam("b"),
                rows.c.record == bindparam("r"),
                rows.c.worker == worker,
                or_(rows.c.state == RowState.CLAIMED, rows.c.state == RowState.UNCLEAR),
            )
            .values(
                worker=None,
                state=case((rows.c.state == RowState.CLAIMED, literal(RowState.WAITING.value)), else_=rows.c.state),
                not_before=func.coalesce(bindparam("nb"), rows.c.not_before),
            )
        )
        keys = [{"b": row.batch_id, "r": row.record, "nb": not_before.get((row.batch_id, row.record))} for row in held]
        with self._write() as connection:
            connection.execute(give_back, keys)

    def finish_slice(self, one: Slice) -> None:
        """Say when the slice is due again, by its rows that are in nobody's hands; not at all if none is left."""
        due = select(func.min(func.coalesce(rows.c.not_before, 0.0))).where(
            rows.c.batch_id == one.batch_id,
            rows.c.record.between(one.first_record, one.last_record),
            _TO_DO,
        )
        with self._write() as connection:
            connection.execute(
                update(slices)
                .where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record, ~slices.c.rung)
                .values(due_at=due.scalar_subquery())
            )

    def _make_due(self, connection: Connection, batch_id: int) -> None:
        """Make every slice with something to do due now."""
        to_do = exists().where(
            rows.c.batch_id == batch_id,
            rows.c.record.between(slices.c.first_record, slices.c.last_record),
            _TO_DO,
        )
        due = func.min if self._sqlite else func.least
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        connection.execute(
            update(slices)
            .where(slices.c.batch_id == batch_id, ~slices.c.rung, to_do)
            .where(or_(canary == 0, slices.c.last_record <= canary))
            .values(due_at=due(func.coalesce(slices.c.due_at, self.now()), self.now()))
        )

    # ------------------------------------------------------------------ sweeping

    def worker_processes(self) -> list[tuple[int, str, int, str]]:
        """Return (number, host, pid, start of the process) of every worker whose lease has not ended."""
        with self._read() as connection:
            found = connection.execute(
                select(workers.c.id, workers.c.host, workers.c.pid, workers.c.process_started).where(
                    workers.c.lease_ends_at > 0
                )
            )
            return [(int(row[0]), str(row[1]), int(row[2]), str(row[3])) for row in found]

    def sweep(self, *, total_timeout_seconds: float, look_up_delay_seconds: float) -> int:
        """Take back what dead workers hold; return how many rows.

        Claimed rows wait again at once. Rows being sent become `unclear` once no request of theirs can still be under
        way: at once for a worker that surely is dead (`end_worker`), else a request's longest time after its lease.
        """
        now = self.now()
        expired = select(workers.c.id).where(workers.c.lease_ends_at <= self._now)
        overdue = select(workers.c.id).where(
            or_(workers.c.lease_ends_at <= 0, workers.c.lease_ends_at + total_timeout_seconds <= self._now)
        )
        known = select(workers.c.id)
        with self._read() as connection:
            anything = connection.execute(
                select(or_(exists(expired), exists().where(rows.c.worker.is_not(None), rows.c.worker.not_in(known))))
            ).scalar_one()
        if not anything:
            return 0
        nobodys = rows.c.worker.not_in(known)
        with self._write() as connection:
            free = connection.execute(
                update(rows)
                .where(rows.c.worker.is_not(None), or_(rows.c.worker.in_(expired), nobodys))
                .where(rows.c.state.in_([RowState.CLAIMED, RowState.UNCLEAR]))
                .values(
                    worker=None,
                    state=case((rows.c.state == RowState.CLAIMED, literal(RowState.WAITING.value)), else_=rows.c.state),
                )
                .returning(rows.c.batch_id)
            ).all()
            unclear = connection.execute(
                update(rows)
                .where(rows.c.worker.is_not(None), or_(rows.c.worker.in_(overdue), nobodys))
                .where(rows.c.state == RowState.SENDING)
                .values(
                    worker=None,
                    state=RowState.UNCLEAR,
                    code="worker_died",
                    not_before=now + look_up_delay_seconds,
                )
                .returning(rows.c.batch_id, rows.c.record, rows.c.attempts)
            ).all()
            if unclear:
                connection.execute(
                    insert(history).values(
                        at=now, what="worker died before the outcome was written", code="worker_died"
                    ),
                    [{"batch_id": row[0], "record": row[1], "attempt": row[2]} for row in unclear],
                )
            for batch_id in {row[0] for row in free} | {row[0] for row in unclear}:
                self._make_due(connection, batch_id)
            empty_handed = ~exists().where(rows.c.worker == workers.c.id)
            connection.execute(delete(workers).where(workers.c.id.in_(overdue), empty_handed))
        return len(free) + len(unclear)

    # ------------------------------------------------------------------ closed methods, wrong keys

    def close_method(self, row: HeldRow, *, resource: str, code: str, until: float | None) -> None:
        """Remember that elepay does not take a row's payment method: for good, or `until` a time."""
        values = {
            "batch_id": row.batch_id,
            "payment_method": row.payment_method,
            "resource": resource,
            "code": code,
            "line": row.line,
            "until": until,
        }
        statement = self._dialect_insert(closed_methods).values(values)
        changed = {"code": code, "line": row.line, "until": until}
        keep_for_good = closed_methods.c.until.is_not(None)
        statement = statement.on_conflict_do_update(
            index_elements=["batch_id", "payment_method", "resource"], set_=changed, where=keep_for_good
        )
        with self._write() as connection:
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
            or_(closed_methods.c.until.is_(None), closed_methods.c.until > self.now()),
        )
        with self._read() as connection:
            return [ClosedMethod(*row) for row in connection.execute(query)]

    def all_answers_say(self, batch_id: int, code: str, at_least: int) -> bool:
        """Tell whether the batch has at least so many answers and every one of them is a refusal with this code."""
        answered = and_(rows.c.batch_id == batch_id, rows.c.state.in_([RowState.CREATED, RowState.REFUSED]))
        query = select(func.count(), func.count().filter(rows.c.code == code)).where(answered)
        with self._read() as connection:
            total, saying = connection.execute(query).one()
        return bool(total >= at_least and total == saying)

    def take_back_refusals(self, batch_id: int, code: str) -> int:
        """Let rows refused with this code wait again: the refusal was about the key, not about them."""
        with self._write() as connection:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.state == RowState.REFUSED, rows.c.code == code)
                .values(state=RowState.WAITING, code=None, parameter=None, request_id=None, first_sent_at=None)
            ).rowcount
            self._make_due(connection, batch_id)
        return changed

    def witnesses(self, batch_id: int, payment_method: str) -> list[tuple[str, str]]:
        """Return (customer, reference) of up to three rows whose source elepay surely has, newest first.

        A look-up must find these, else its "absent" proves nothing. Rows of this batch come first, then of any other.
        """
        base = (
            select(rows.c.customer_id, rows.c.identity, rows.c.generation)
            .where(
                rows.c.state == RowState.CREATED,
                rows.c.payment_method == payment_method,
                rows.c.adopted.is_not(True),
                rows.c.source_status.not_in(sorted(ENDED_STATUSES)),
                rows.c.identity.is_not(None),
            )
            .order_by(rows.c.record.desc())
            .limit(3)
        )
        with self._read() as connection:
            found = connection.execute(base.where(rows.c.batch_id == batch_id)).all()
        return [(str(row[0]), reference_of(bytes(row[1]), row[2])) for row in found]

    # ------------------------------------------------------------------ people decide

    def unclear_for_people(self, batch_id: int | None = None, limit: int = 1000) -> list[UnclearRow]:
        """Return rows that nothing but a person can settle, in the order of batch and record."""
        query = (
            select(rows)
            .where(rows.c.state == RowState.UNCLEAR, rows.c.not_before.is_(None), rows.c.worker.is_(None))
            .order_by(rows.c.batch_id, rows.c.record)
            .limit(limit)
        )
        if batch_id is not None:
            query = query.where(rows.c.batch_id == batch_id)
        with self._read() as connection:
            return [
                UnclearRow(
                    row.batch_id,
                    row.record,
                    row.line,
                    row.customer_id,
                    row.payment_method,
                    reference_of(bytes(row.identity), row.generation),
                    row.code or "",
                    row.sent_at,
                )
                for row in connection.execute(query)
            ]

    def record_at(self, batch_id: int, line: int) -> int:
        """Return the record that starts on a physical line. Raises LedgerError if none does."""
        query = select(rows.c.record).where(rows.c.batch_id == batch_id, rows.c.line == line)
        with self._read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        if found is None:
            raise LedgerError(f"no record of batch {batch_id} starts on line {line}")
        return int(found)

    def report_row(self, batch_id: int, record: int) -> ReportRow:
        """Return one row as the reports show it."""
        query = select(rows).where(rows.c.batch_id == batch_id, rows.c.record == record)
        with self._read() as connection:
            return _report_row(connection.execute(query).one())

    def resolve(self, batch_id: int, record: int, state: RowState, *, source_id: str | None, who: str) -> None:
        """Settle an unclear row by a person's word: created (with its source), waiting (send it again) or refused.

        Raises LedgerError if the row does not wait for a person, or the source belongs to another row.
        """
        values: dict[str, Any] = {"state": state, "source_id": source_id, "code": None, "not_before": None}
        if state is RowState.CREATED:
            values["adopted"] = True
        elif state is RowState.WAITING:
            values.update(look_ups=0, resends=0)
        else:
            values["code"] = "given_up"
        with self._write() as connection:
            if source_id is not None:
                self._refuse_known_source(connection, source_id)
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.record == record)
                .where(rows.c.state == RowState.UNCLEAR, rows.c.not_before.is_(None), rows.c.worker.is_(None))
                .values(values)
            ).rowcount
            if not changed:
                raise LedgerError(f"record {record} of batch {batch_id} does not wait for a person")
            told = f"resolved: {state}" + (f", source {source_id}" if source_id else "")
            self._tell(connection, batch_id, record, told, who)
            if state is RowState.WAITING:
                self._reopen(connection, batch_id)

    @staticmethod
    def _refuse_known_source(connection: Connection, source_id: str) -> None:
        query = select(rows.c.batch_id, rows.c.record).where(
            rows.c.source_id == source_id, rows.c.state == RowState.CREATED
        )
        known = connection.execute(query.limit(1)).one_or_none()
        if known is not None:
            raise LedgerError(f"source {source_id} belongs to record {known.record} of batch {known.batch_id} already")

    def look_up_again(self, batch_id: int, who: str) -> int:
        """Let every row of a batch that waits for a person be looked up once more; return how many."""
        with self._write() as connection:
            changed = connection.execute(
                update(rows)
                .where(rows.c.batch_id == batch_id, rows.c.state == RowState.UNCLEAR)
                .where(rows.c.not_before.is_(None), rows.c.worker.is_(None))
                .values(not_before=self.now(), look_ups=0, resends=0)
            ).rowcount
            if changed:
                self._tell(connection, batch_id, 0, f"{changed} unclear rows are looked up again", who)
                self._reopen(connection, batch_id)
        return changed

    def _reopen(self, connection: Connection, batch_id: int) -> None:
        connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, batches.c.state == BatchState.FINISHED)
            .values(state=BatchState.RUNNING, finished_at=None)
        )
        self._make_due(connection, batch_id)

    def _tell(self, connection: Connection, batch_id: int, record: int, what: str, who: str = "") -> None:
        connection.execute(
            insert(history).values(batch_id=batch_id, record=record, at=self.now(), what=what, who=who or None)
        )

    # ------------------------------------------------------------------ counting and paging

    def count_states(self, batch_id: int) -> dict[RowState, int]:
        """Return how many rows of a batch are in each state (states without rows are left out)."""
        query = select(rows.c.state, func.count()).where(rows.c.batch_id == batch_id).group_by(rows.c.state)
        with self._read() as connection:
            return {RowState(row[0]): int(row[1]) for row in connection.execute(query)}

    def books(self, batch_id: int) -> Books:
        """Return the books of a batch: what the file has against where its records stand."""
        count = self.count_states(batch_id)
        return Books(
            records=self.batch(batch_id).records,
            created=count.get(RowState.CREATED, 0),
            skipped=count.get(RowState.SKIPPED, 0),
            invalid=count.get(RowState.INVALID, 0),
            refused=count.get(RowState.REFUSED, 0),
            unclear=count.get(RowState.UNCLEAR, 0),
            open=sum(count.get(state, 0) for state in (RowState.WAITING, RowState.CLAIMED, RowState.SENDING)),
        )

    def count_codes(self, batch_id: int) -> dict[str, int]:
        """Return how many rows of a batch carry each code; an invalid row counts once for each of its reasons."""
        query = (
            select(rows.c.code, rows.c.reasons)
            .where(rows.c.batch_id == batch_id, rows.c.state != RowState.CREATED, rows.c.state != RowState.SKIPPED)
            .execution_options(yield_per=5000)
        )
        skipped = (
            select(rows.c.code, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.state == RowState.SKIPPED)
            .group_by(rows.c.code)
        )
        codes: dict[str, int] = {}
        with self._read() as connection:
            for code, reasons in connection.execute(query):
                for name in {reason.code for reason in _reasons(reasons)} or {code}:
                    if name:
                        codes[name] = codes.get(name, 0) + 1
            codes.update({str(row[0]): int(row[1]) for row in connection.execute(skipped) if row[0]})
        return codes

    def count_methods(self, batch_id: int) -> dict[str, dict[str, int]]:
        """Return payment method -> state -> rows of a batch."""
        query = (
            select(rows.c.payment_method, rows.c.state, func.count())
            .where(rows.c.batch_id == batch_id)
            .group_by(rows.c.payment_method, rows.c.state)
        )
        found: dict[str, dict[str, int]] = {}
        with self._read() as connection:
            for method, state, number in connection.execute(query):
                found.setdefault(method or "", {})[state] = int(number)
        return found

    def count_attempts(self, batch_id: int) -> dict[int, int]:
        """Return number of attempts -> rows of a batch that were sent at all."""
        query = (
            select(rows.c.attempts, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.attempts > 0)
            .group_by(rows.c.attempts)
        )
        with self._read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def latencies(self, batch_id: int) -> dict[int, int]:
        """Return milliseconds -> rows of a batch whose last answer took so long."""
        query = (
            select(rows.c.latency_ms, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.latency_ms.is_not(None))
            .group_by(rows.c.latency_ms)
        )
        with self._read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def sent_per_second(self, batch_id: int) -> dict[int, int]:
        """Return epoch second -> rows whose last attempt left in it."""
        second = func.floor(rows.c.sent_at)
        query = (
            select(second, func.count())
            .where(rows.c.batch_id == batch_id, rows.c.sent_at.is_not(None))
            .group_by(second)
            .order_by(second)
        )
        with self._read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def history_per_second(self, batch_id: int, code: str) -> dict[int, int]:
        """Return epoch second -> lines of the history with this code."""
        second = func.floor(history.c.at)
        query = (
            select(second, func.count())
            .where(history.c.batch_id == batch_id, history.c.code == code)
            .group_by(second)
            .order_by(second)
        )
        with self._read() as connection:
            return {int(row[0]): int(row[1]) for row in connection.execute(query)}

    def history(self, batch_id: int, record: int | None = None) -> list[dict[str, Any]]:
        """Return the history of a row, or of the whole batch, oldest first."""
        query = select(history).where(history.c.batch_id == batch_id).order_by(history.c.id)
        if record is not None:
            query = query.where(history.c.record == record)
        with self._read() as connection:
            return [dict(row._mapping) for row in connection.execute(query)]

    def report_rows(self, batch_id: int, page: int = 5000) -> Iterator[ReportRow]:
        """Yield every row of a batch in the order of records, page by page, holding no transaction meanwhile."""
        last = 0
        while True:
            query = (
                select(rows)
                .where(rows.c.batch_id == batch_id, rows.c.record > last)
                .order_by(rows.c.record)
                .limit(page)
            )
            with self._read() as connection:
                found = connection.execute(query).all()
            yield from map(_report_row, found)
            if len(found) < page:
                return
            last = found[-1].record

    # ------------------------------------------------------------------ transactions

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with contextlib.ExitStack() as stack, _told():
            if self._sqlite:
                stack.enter_context(self._lock)
                stack.enter_context(_file_lock(self._lock_path))
            connection = stack.enter_context(self._engine.connect().execution_options(writes=True))
            with connection.begin():
                yield connection

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        with _told(), self._engine.connect() as connection:
            yield connection


#: In nobody's hands and still to be sent or looked up.
_TO_DO = and_(
    rows.c.worker.is_(None),
    or_(
        rows.c.state == RowState.WAITING,
        and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before.is_not(None)),
    ),
)

#: Will still move without a person.
_NOT_SETTLED = or_(
    rows.c.state.in_([RowState.WAITING, RowState.CLAIMED, RowState.SENDING]),
    and_(rows.c.state == RowState.UNCLEAR, or_(rows.c.not_before.is_not(None), rows.c.worker.is_not(None))),
)

_MARK = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.state == RowState.CLAIMED,
        rows.c.worker == bindparam("w"),
    )
    .values(
        state=RowState.SENDING,
        attempts=rows.c.attempts + 1,
        sent_at=bindparam("now"),
        first_sent_at=func.coalesce(rows.c.first_sent_at, bindparam("now")),
    )
)

#: A row that was taken from its worker may have moved on to any of these, but as long as nobody has sent it again
#: (`attempts`), what the worker learns at last is the truth about it.
_NOT_ENDED = OWNING_STATES - {RowState.CREATED}
_RECORDED = (
    "state",
    "worker",
    "source_id",
    "source_status",
    "adopted",
    "code",
    "parameter",
    "request_id",
    "latency_ms",
    "not_before",
    "look_ups",
    "resends",
)
_RECORD = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.attempts == bindparam("token"),
        or_(*(rows.c.state == state for state in sorted(_NOT_ENDED))),
    )
    .values({name: bindparam(f"new_{name}") for name in _RECORDED})
)


def _new_id(result: CursorResult[Any]) -> int:
    if result.inserted_primary_key is None:
        raise LedgerError("the ledger did not number a new line")
    return int(result.inserted_primary_key[0])


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    values: dict[str, Any] = {f"new_{name}": getattr(outcome, name) for name in _RECORDED}
    values.update(b=outcome.batch_id, r=outcome.record, token=outcome.attempts)
    return values


def _skipped(row: NewRow, owner: Row[Any], batch_id: int) -> dict[str, Any]:
    """Return what turns a new row into a skipped one that says where its identity stands already."""
    here = owner.batch_id == batch_id
    changed = owner.content is not None and row.content is not None and bytes(owner.content) != row.content
    code = "changed" if changed else "duplicate_in_file" if here else "onboarded_before"
    detail = f"record {owner.record}" if here else f"batch {owner.batch_id} record {owner.record}"
    return {
        "state": RowState.SKIPPED,
        "generation": owner.generation,
        "code": code,
        "reasons": orjson.dumps([list(Reason(code, detail=detail))]),
        "source_id": owner.source_id,
        "source_status": owner.source_status,
        "request": None,
    }


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        name=row.name,
        sha256=row.sha256,
        state=BatchState(row.state),
        live=row.live,
        records=row.records,
        created_at=row.created_at,
        finished_at=row.finished_at,
        state_reason=row.state_reason,
        parent_id=row.parent_id,
        file_format=orjson.loads(row.file_format),
        deadline_at=row.deadline_at,
        canary=row.canary,
        warnings=tuple(tuple(one) for one in orjson.loads(row.warnings)),
    )


def _held(row: Row[Any]) -> HeldRow:
    return HeldRow(
        batch_id=row.batch_id,
        record=row.record,
        line=row.line,
        reference=reference_of(bytes(row.identity), row.generation),
        customer_id=row.customer_id,
        payment_method=row.payment_method,
        resource=row.resource,
        request=bytes(row.request or b"{}"),
        attempts=row.attempts,
        look_ups=row.look_ups,
        resends=row.resends,
        first_sent_at=row.first_sent_at,
        code=row.code,
        look_up=row.state == RowState.UNCLEAR,
    )


def _reasons(stored: bytes | None) -> tuple[Reason, ...]:
    return tuple(Reason(*parts) for parts in orjson.loads(bytes(stored))) if stored else ()


def _report_row(row: Row[Any]) -> ReportRow:
    return ReportRow(
        record=row.record,
        line=row.line,
        state=row.state,
        reference=reference_of(bytes(row.identity), row.generation) if row.identity else "",
        payment_method=row.payment_method or "",
        source_id=row.source_id or "",
        source_status=row.source_status or "",
        adopted=bool(row.adopted),
        code=row.code or "",
        parameter=row.parameter or "",
        request_id=row.request_id or "",
        attempts=row.attempts,
        reasons=_reasons(row.reasons),
        needs_person=row.state == RowState.UNCLEAR and row.not_before is None,
    )


def _turns(queues: list[list[Slice]]) -> Iterator[list[Slice]]:
    """Yield one slice of every queue, then the next of each."""
    for turn in range(max(map(len, queues), default=0)):
        yield [queue[turn] for queue in queues if turn < len(queue)]


@contextlib.contextmanager
def _file_lock(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go of the lock


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the driver raises into LedgerError, without statement and values."""
    try:
        yield
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger failed: {_short(error)}") from error


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=60000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _short(error: SQLAlchemyError) -> str:
    """Return the driver's own first line, which names server and database but never a password."""
    return str(getattr(error, "orig", error)).splitlines()[0][:200]
