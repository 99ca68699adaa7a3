"""A worker's rows: claimed, marked, recorded, released, all by compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from tasks.identities import reference_of
from tasks.ledger.engine import BAD_VALUES, UnwritableValue, new_id
from tasks.ledger.held_sources import HeldSources
from tasks.ledger.schema import batches, history, rows, slices, workers
from tasks.models import OWNING_STATES, BatchState, LeasedRow, Outcome, RowState, Slice


class WaveResult(NamedTuple):
    """What the ledger says to a wave: who may leave, and which batches have stopped."""

    marked: set[tuple[int, int]]  #: (batch, record) that are now `sending`
    stopped: set[int]  #: batches that no longer run
    lease_kept: bool  #: False: this worker was given up for dead, its rows are no longer its own
    at: float  #: when they were marked
    doubted: int = 0  #: outcomes that were recorded as `unclear`, because another created row holds their source

    def take(self, row: LeasedRow) -> bool:
        """Tell, once for each mark, whether a row may leave."""
        key = row.batch_id, row.record
        if key not in self.marked:
            return False
        self.marked.remove(key)
        return True


class Holding(HeldSources):
    """What a worker does with rows."""

    def add_worker(
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
                    account=self.account.key,
                    runner=self.runner,
                )
            )
            return new_id(result)

    def start_command(self, host: str, pid: int, process_started: str, lease_seconds: float) -> int:
        """Register a command that has workers of its own: what it adds and takes from now on is theirs alone."""
        worker = self.add_worker(host, pid, process_started, lease_seconds)
        self.runner = worker if self.runner is None else self.runner
        with self.engine.write() as connection:
            connection.execute(update(workers).where(workers.c.id == worker).values(runner=self.runner))
        return worker

    def renew_lease(self, worker: int, lease_seconds: float) -> bool:
        """Prolong a worker's lease; False if it was given up for dead."""
        with self.engine.write() as connection:
            return self._renew(connection, worker, lease_seconds)

    def _renew(self, connection: Connection, worker: int, lease_seconds: float) -> bool:
        renew = update(workers).where(workers.c.id == worker, workers.c.lease_ends_at > self.engine.sql_now)
        return connection.execute(renew.values(lease_ends_at=self.engine.sql_now + lease_seconds)).rowcount == 1

    def end_worker(self, worker: int) -> None:
        """End a worker's lease; the reaper recovers its rows."""
        with self.engine.write() as connection:
            connection.execute(update(workers).where(workers.c.id == worker).values(lease_ends_at=0.0))

    def worker_processes(self) -> list[tuple[int, str, int, str]]:
        """Return (number, host, pid, start of the process) of every worker whose lease has not ended."""
        with self.engine.read() as connection:
            found = connection.execute(
                select(workers.c.id, workers.c.host, workers.c.pid, workers.c.process_started).where(
                    workers.c.lease_ends_at > 0
                )
            )
            return [(int(row[0]), str(row[1]), int(row[2]), str(row[3])) for row in found]

    def claim_slice(self, one: Slice, worker: int) -> list[LeasedRow]:
        """Take every row of the slice that is due: to be sent, or to be looked up.

        Nothing is taken while the batch does not run, or if it is not this process's to send, and nothing is taken to
        be sent before the batch's sample was looked up. Raises LedgerReplaced. In a batch that verifies, a row that was
        never sent becomes `unclear` first, which is looked up: as one whose request, of a ledger that was lost, ended
        before the batch was accepted.
        """
        now = self.engine.now()
        in_slice = and_(
            rows.c.batch_id == one.batch_id,
            rows.c.record.between(one.first_record, one.last_record),
            rows.c.worker.is_(None),
        )
        runs = exists().where(batches.c.id == one.batch_id, batches.c.state == BatchState.RUNNING, self._is_ours)
        sampled = exists().where(batches.c.id == one.batch_id, batches.c.sample_due_at.is_(None))
        is_due = or_(
            and_(rows.c.state == RowState.WAITING, sampled, or_(rows.c.not_before.is_(None), rows.c.not_before <= now)),
            and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before <= now),
        )
        verifies = exists().where(batches.c.id == one.batch_id, batches.c.verify)
        unverified = and_(rows.c.state == RowState.WAITING, rows.c.attempts == 0, rows.c.resends == 0, verifies)
        accepted_at = select(batches.c.created_at).where(batches.c.id == one.batch_id).scalar_subquery()
        claim = (
            update(rows)
            .where(in_slice, is_due, runs)
            .values(
                worker=worker,
                state=case(
                    (unverified, literal(RowState.UNCLEAR.value)),
                    (rows.c.state == RowState.WAITING, literal(RowState.CLAIMED.value)),
                    else_=rows.c.state,
                ),
                not_before=case((unverified, now), else_=rows.c.not_before),
                ended_at=case((unverified, accepted_at), else_=rows.c.ended_at),
            )
            .returning(rows)
        )
        with self.engine.write() as connection:
            self.engine.memory.look(connection)
            claimed = connection.execute(claim).all()
            connection.execute(
                update(slices)
                .where(slices.c.batch_id == one.batch_id, slices.c.first_record == one.first_record)
                .values(rung=False)
            )
        return sorted(map(_held, claimed), key=lambda row: row.record)

    def write_wave(
        self,
        worker: int,
        outcomes: Sequence[Outcome],
        to_send: Sequence[LeasedRow],
        lease_seconds: float,
        *,
        look_up_delay_seconds: float = 0.0,
    ) -> WaveResult:
        """Write outcomes and mark rows `sending`, in one transaction that also renews the worker's lease.

        Only the rows in `marked` may be sent; `attempts` of those has been raised by one. Outcomes that are not
        recorded as they are (their source is another row's, or the database cannot hold a value) are changed in place:
        those rows are `unclear` and in nobody's hands, to be looked up after `look_up_delay_seconds`. Raises
        LedgerReplaced, with nothing written, if rows are to be marked in a ledger that has forgotten some.
        """
        now = self.engine.now()
        look_up_at = now + look_up_delay_seconds
        try:
            return self._write_wave(worker, outcomes, to_send, lease_seconds, now, look_up_at, self._write_outcomes)
        except UnwritableValue:
            return self._write_wave(worker, outcomes, to_send, lease_seconds, now, look_up_at, self._write_one_by_one)

    def _write_wave(
        self,
        worker: int,
        outcomes: Sequence[Outcome],
        to_send: Sequence[LeasedRow],
        lease_seconds: float,
        now: float,
        look_up_at: float,
        write: Callable[[Connection, Sequence[Outcome], float, float], int],
    ) -> WaveResult:
        batch_ids = {row.batch_id for row in to_send}
        with self.engine.write(remembered=bool(outcomes or to_send)) as connection:
            doubted = write(connection, outcomes, now, look_up_at)
            lease_kept = self._renew(connection, worker, lease_seconds)
            stopped: set[int] = set()
            marked: set[tuple[int, int]] = set()
            if lease_kept and to_send:
                self.engine.memory.look(connection)
                running = select(batches.c.id).where(batches.c.id.in_(batch_ids), batches.c.state == BatchState.RUNNING)
                stopped = batch_ids - set(connection.execute(running).scalars())
                marked = self._mark(connection, worker, [row for row in to_send if row.batch_id not in stopped], now)
        return WaveResult(marked, stopped, lease_kept, now, doubted)

    def _write_one_by_one(
        self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float
    ) -> int:
        """Write each outcome by itself; one that the database cannot hold leaves its row `unclear`, without values."""
        doubted = 0
        for outcome in outcomes:
            try:
                with connection.begin_nested():
                    doubted += self._write_outcomes(connection, [outcome], now, look_up_at)
            except BAD_VALUES:
                _drop_values(outcome, now, look_up_at)
                self._write_outcomes(connection, [outcome], now, look_up_at)
        return doubted

    def _mark(
        self, connection: Connection, worker: int, to_send: Sequence[LeasedRow], now: float
    ) -> set[tuple[int, int]]:
        if not to_send:
            return set()
        keys = [{"b": row.batch_id, "r": row.record, "w": worker, "now": now} for row in to_send]
        changed = self.engine.execute_many(connection, _MARK, keys)
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

    def _write_outcomes(
        self, connection: Connection, outcomes: Sequence[Outcome], now: float, look_up_at: float
    ) -> int:
        """Write outcomes; return how many were changed to `unclear`, because their source is another row's."""
        if not outcomes:
            return 0
        doubted = self._doubt_taken_sources(connection, outcomes, now, look_up_at)
        changed = self.engine.execute_many(connection, _RECORD, [_outcome_values(outcome, now) for outcome in outcomes])
        refused = [
            {"b": outcome.batch_id, "r": outcome.record} for outcome in outcomes if outcome.state is RowState.REFUSED
        ]
        if refused:  # a statement that names `yielded` for all would write every row's place in `rows_one_owner` anew
            self.engine.execute_many(connection, _YIELD, refused)
        unclear = [
            {"b": one.batch_id, "r": one.record, "token": one.attempts, "ended": one.ended_at, "absent": one.absent_at}
            for one in outcomes
            if one.state is RowState.UNCLEAR
        ]
        if unclear:
            self.engine.execute_many(connection, _NOTE_END, unclear)
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
        return doubted

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

    def release(self, worker: int, held: Sequence[LeasedRow], not_before: Mapping[tuple[int, int], float]) -> None:
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
        with self.engine.write() as connection:
            connection.execute(give_back, keys)


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
    "follow_up_at",
    "source_generation",
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


#: A refused row's identity is free for another file.
_YIELD = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.state == RowState.REFUSED,
    )
    .values(yielded=True)
)


#: Only a row in doubt has these times; the few that have them are written by themselves.
_NOTE_END = (
    update(rows)
    .where(
        rows.c.batch_id == bindparam("b"),
        rows.c.record == bindparam("r"),
        rows.c.attempts == bindparam("token"),
        rows.c.state == RowState.UNCLEAR,
    )
    .values(ended_at=bindparam("ended"), absent_at=bindparam("absent"))
)


def _outcome_values(outcome: Outcome, now: float) -> dict[str, Any]:
    values: dict[str, Any] = {f"new_{name}": getattr(outcome, name, None) for name in _RECORDED}
    values.update(b=outcome.batch_id, r=outcome.record, token=outcome.attempts)
    if outcome.follow_up_after is not None:
        values["new_follow_up_at"] = now + outcome.follow_up_after
    return values


def _drop_values(outcome: Outcome, now: float, look_up_at: float) -> None:
    """Change an outcome in place to `unclear`, to be looked up, keeping nothing of the answer."""
    outcome.state, outcome.worker, outcome.code = RowState.UNCLEAR, None, "internal_error"
    outcome.source_id = outcome.source_status = outcome.adopted = outcome.source_generation = None
    outcome.parameter = outcome.request_id = outcome.latency_ms = outcome.follow_up_after = outcome.absent_at = None
    outcome.ended_at, outcome.not_before = now, look_up_at
    outcome.what = "the outcome could not be written, to be looked up"


def _held(row: Row[Any]) -> LeasedRow:
    return LeasedRow(
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
        sent_at=row.sent_at,
        code=row.code,
        ended_at=row.ended_at,
        absent_at=row.absent_at,
        look_up=row.state == RowState.UNCLEAR,
    )
