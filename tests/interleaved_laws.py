"""What holds after each step of the interleavings, and what has come true in the end."""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)
from interleaved_process import (
    LEASE_SECONDS,
    ClockedEngine,
    Places,
    Process,
    row_reference,
)
from remote import (
    AT_ONCE,
    Clock,
    Remote,
)
from sqlalchemy import text

from tasks.ledger import ENDED_STATUSES, Ledger
from tasks.ledger.held_sources import SOURCE_TAKEN
from tasks.models import BatchState, RowState, Slice
from tasks.operations import batch_lifecycle

HELD = {"claimed", "sending"}


class Laws(RuleBasedStateMachine):
    """The laws of a fleet, its people and elepay; the steps are those of the machine that keeps them."""

    ledger: Ledger
    engine: ClockedEngine
    remote: Remote
    clock: Clock
    places: Places
    processes: list[Process]
    mail: deque[Slice]
    batches: list[int]
    records: dict[int, int]
    created: dict[tuple[int, int], str]
    again: int

    @invariant()
    def the_laws_hold(self) -> None:
        """After each step."""
        assert not self.remote.violations
        assert not self.remote.doubled(), "two sources of one reference"
        rows = self._rows()
        self._every_row_is_in_one_place(rows)
        self._every_created_row_has_its_source(rows)
        self._nobody_has_two_sources(rows)

    def _every_row_is_in_one_place(self, rows: list[Any]) -> None:
        for batch in self.batches:
            assert self.records[batch] == sum(row.batch_id == batch for row in rows)
        for row in rows:
            assert row.state in set(RowState)
            assert row.state == RowState.UNCLEAR or (row.worker is not None) == (row.state in HELD), row
        owners = Counter(
            (bytes(row.identity), row.generation)
            for row in rows
            if row.state in (*HELD, "waiting", "unclear", "created") and row.identity
        )
        assert not owners or max(owners.values()) == 1
        yielding = {RowState.REFUSED, RowState.SKIPPED}
        assert all(bool(row.yielded) == (row.state in yielding) for row in rows)

    def _every_created_row_has_its_source(self, rows: list[Any]) -> None:
        created = [row for row in rows if row.state == RowState.CREATED]
        here = {(row.batch_id, row.record): row.source_id for row in created}
        doubted = {(row.batch_id, row.record) for row in rows if row.code == SOURCE_TAKEN}
        there = {one.id: one for one in self.remote.sources}
        right = {
            (row.batch_id, row.record): row.source_id
            for row in created
            if there[row.source_id].reference == row_reference(row)
        }
        was = {key: source_id for key, source_id in self.created.items() if key not in doubted}
        assert was.items() <= here.items(), "a created row is not what it was"
        self.created = right
        for row in created:
            assert there[row.source_id].exists_at <= self.clock.now
        over = {batch for batch in self.batches if self.ledger.batches.get(batch).state is BatchState.FINISHED}
        finished = [row for row in created if row.batch_id in over]
        assert len({row.source_id for row in finished}) == len(finished), "one source stands for two rows"
        unsettled = {
            row_reference(row)
            for row in rows
            if row.identity is not None and (row.state != RowState.CREATED or row.batch_id not in over)
        }
        for row in finished:
            assert (row.batch_id, row.record) in right or there[row.source_id].reference in unsettled, (
                "a row has the source of another row that is created"
            )

    def _nobody_has_two_sources(self, rows: list[Any]) -> None:
        ours = Counter(
            (one.customer, one.method)
            for one in self.remote.sources
            if one.reference is not None and one.status not in ENDED_STATUSES
        )
        assert not ours or max(ours.values()) <= 1 + self.again

    @rule()
    def count(self) -> None:
        """The books balance, as everybody sees them."""
        for batch in self.batches:
            counts = self.ledger.queries.counts(batch)
            assert counts.balance
            assert counts.records == self.records[batch]

    def teardown(self) -> None:
        """Bring everything home: in the end no row is lost and no source is without its row."""
        if not hasattr(self, "remote"):
            return
        self.engine.strike = ("fine", 0)
        self.places.gone, self.remote.lists = False, "fine"
        for nth in range(80):
            if self._is_home():
                break
            self._everybody_works(1 + nth // 4)
            self.the_laws_hold()
        assert self._is_home(), self._story()
        self.count()
        for process in self.processes:
            process.die()
        known = {row.source_id for row in self._rows() if row.state == RowState.CREATED}
        unsure = {row_reference(row) for row in self._rows() if row.state == RowState.UNCLEAR}
        named = {one.id: one.reference for one in self.remote.sources}
        for row in self._rows():
            if row.state == RowState.CREATED and named[row.source_id] != row_reference(row):
                assert named[row.source_id] in unsure, f"a row has another row's source: {row}"
                unsure.add(row_reference(row))  # nobody has asked elepay for either of the two
        for one in self.remote.sources:
            assert one.reference is None or one.id in known or one.reference in unsure, f"nobody knows of {one}"

    def _is_home(self) -> bool:
        over = all(
            self.ledger.batches.get(batch).state in (BatchState.FINISHED, BatchState.CANCELLED)
            for batch in self.batches
        )
        return over and not any(row.worker is not None for row in self._rows())

    def _story(self) -> str:
        """Where everything is, for a failure."""
        held = [
            (row.batch_id, row.record, row.state, row.worker, row.attempts, row.not_before, row.code)
            for row in self._rows()
            if row.state not in ("created", "skipped", "refused")
        ]
        processes = [
            (
                process.numbers,
                [(run.slice, run.open, len(run.to_send), run.delayed) for run in process.runs],
                process.loop.in_flight,
                len(process.exchanges),
            )
            for process in self.processes
        ]
        with self.ledger.engine.read() as connection:
            slices = connection.execute(text("select * from slices")).all()
            workers = connection.execute(text("select * from workers")).all()
        states = [(batch, str(self.ledger.batches.get(batch).state)) for batch in self.batches]
        return "\n".join(map(str, [self.clock.now, states, *held, *processes, *slices, *workers]))

    def _everybody_works(self, steps: int) -> None:
        for _ in range(steps):  # time passes in steps that keep the leases
            self.clock.now += LEASE_SECONDS / 3
            for process in self.processes:
                process.loop.step()
        for batch in self.batches:
            batch_lifecycle.resume(self.ledger, batch, "somebody")
        self.reap(0.0, same_machine=True)
        batch_lifecycle.dispatch(self.ledger, self.mail.append)
        for process in [process for process in self.processes if process.loop.draining]:
            self._end_if_idle(process)
        if all(process.loop.draining for process in self.processes):
            self._register_worker()
        while self.mail:
            self.processes[-1].take(self.mail.popleft())
        for process in list(self.processes):
            for _ in range(2):
                process.loop.step()
                for exchange in process.unstarted():
                    self._begin(exchange, "created", AT_ONCE)
                for exchange in process.in_flight():
                    exchange.go_on()
            process.loop.step()
            process.hand_back()

    def _rows(self) -> list[Any]:
        with self.ledger.engine.read() as connection:
            return list(connection.execute(text("select * from rows order by batch_id, record")))
