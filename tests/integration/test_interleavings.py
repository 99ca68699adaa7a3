"""Random interleavings of everything that can happen to rows, against a model of elepay; the laws hold after each step.

What runs is the real thing: the ledger (SQLite and PostgreSQL), the send loop, the outcomes, the look-ups, the client.
Only time, elepay and the limiter's Redis are models, and the loop's threads take their steps when the machine says so:
a process that is not asked to do anything is a frozen one. The same steps every time; `INTERLEAVINGS=1000` in the
environment searches that many new ones, INTERLEAVINGS_UNSHRUNK shows the first failure as it was found.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from factories import examples
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from interleaved_laws import Laws
from interleaved_process import (
    LEASE_SECONDS,
    METHODS,
    Places,
    Process,
    clocked,
    row_of,
)
from remote import (
    AT_ONCE,
    BEFORE_IT_LEAVES,
    DEFINITE,
    EXECUTED,
    FATES,
    FOR_ITS_ANSWER,
    LIST_LAG_SECONDS,
    LOOK_UP_DELAY_SECONDS,
    LOST,
    ON_THE_WIRE,
    WRONG,
    Clock,
    Exchange,
    Killed,
    Remote,
    Wire,
    client,
)
from sqlalchemy import event, text

from tasks.elepay.client import ElepayApi
from tasks.errors import LedgerError
from tasks.ledger import memory
from tasks.models import BatchState, RowState
from tasks.operations import batch_lifecycle
from tasks.send import circuit_breaker

CUSTOMERS = 6
#: Customers of the first file: where they were created, lists can be believed.
WITNESSES = (6, 8)
#: A customer with a source that is not ours.
FOREIGN = 0
#: What may happen to a write to the ledger; mostly nothing.
WRITES = st.sampled_from(["fine"] * 16 + ["refused", "unheard", "killed before", "killed after"])
#: What may become of a request: mostly it is executed, and often its answer does not say so.
ANY_FATE = st.sampled_from(
    ["created"] * 12 + [*LOST, *WRONG, *(fate for fate in EXECUTED if "late" in fate)] * 3 + list(FATES)
)
WAITS = st.sampled_from([AT_ONCE] * 4 + [BEFORE_IT_LEAVES, ON_THE_WIRE] + [FOR_ITS_ANSWER] * 2)


class Interleavings(Laws):
    """A fleet, its people, and elepay."""

    api: ElepayApi
    wire: Wire

    @initialize(
        hides=st.sampled_from([""] * 6 + ["pending", "metadata"]),
        lag_seconds=st.sampled_from([0.0, 0.0, 1.5, 11.0, 0.9 * LIST_LAG_SECONDS]),
        first=st.sampled_from(["created"] * 3 + ["lost, answered 500"]),
    )
    def begin(self, hides: str, lag_seconds: float, first: str) -> None:
        """A file of two customers, usually created without trouble, and one that gets into trouble."""
        random.seed(7)  # the waits' jitter
        self.clock = self.engine.clock = Clock()
        self.engine.strike = ("fine", 0)
        self.remote = Remote(self.clock, hides, lag_seconds)
        self.remote.add_foreign(f"cus_{FOREIGN}", METHODS[0])
        self.wire.connect(self.remote)
        self.places = Places(self.clock)
        self.processes = []
        self.dead: list[int] = []
        self.mail = deque()
        self.batches = []
        self.records = {}
        self.created = {}
        self.again = 0
        self.born = 0
        self._empty()
        self._register_worker()
        self.drop(list(WITNESSES), again=False, slice_rows=2)
        self._shift(0, 0.0, "fine", 0, [], [])
        self._shift(0, 0.3, "fine", 0, [(first, AT_ONCE)] * 2, [])
        self.drop([1, 2, 3, 4], again=False, slice_rows=2)

    def _empty(self) -> None:
        with self.ledger.engine.write() as connection:
            for table in ("rows", "slices", "workers", "closed_methods", "history", "batches"):
                connection.execute(text(f"delete from {table}"))

    # ------------------------------------------------------------------ files and messages

    @precondition(lambda self: len(self.batches) < 5)
    @rule(
        customers=st.lists(st.integers(0, CUSTOMERS - 1), min_size=1, max_size=5),
        again=st.sampled_from([False, False, False, True]),
        slice_rows=st.sampled_from([2, 5]),
    )
    def drop(self, customers: list[int], *, again: bool, slice_rows: int) -> None:
        """A file with customers that other files may have, too."""
        reader = self.ledger.workers.add("reader", 1, "", LEASE_SECONDS)
        batch = self.ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
        self.ledger.rows.add(batch, [row_of(n, customer) for n, customer in enumerate(customers, 1)], again=again)
        self.ledger.lifecycle.start(batch, slice_rows)
        self.ledger.workers.end(reader)
        self.batches.append(batch)
        self.records[batch] = len(customers)
        self.again += again

    # ------------------------------------------------------------------ processes

    def _shift(
        self, who: int, seconds: float, how: str, nth: int, exchanges: list[tuple[str, str]], go_on: list[bool]
    ) -> None:
        """Time passes; a process takes a message, sends rows, writes what came back, hands back what is done."""
        self.clock.now += seconds
        batch_lifecycle.dispatch(self.ledger, self.mail.append)
        with self._struck(self._process(who), how, nth) as process:
            for exchange in [exchange for exchange, goes in zip(process.in_flight(), go_on, strict=False) if goes]:
                exchange.go_on()
            for exchange, (fate, waits) in zip(process.unstarted(), exchanges, strict=False):
                self._begin(exchange, fate, waits)
            self.the_laws_hold()
            if self.mail:
                process.take(self.mail.popleft())
            process.loop.step()
            for exchange, (fate, waits) in zip(process.unstarted()[: len(go_on) // 2], exchanges, strict=False):
                self._begin(exchange, fate, waits)
            self.the_laws_hold()
            process.loop.step()
            process.hand_back()

    _shifts = rule(
        who=st.sampled_from([0, 0, 0, 1, 2]),
        seconds=st.sampled_from([0.0, 0.3, 0.3, 1.0, 2.2, 2.2, 4.5, 7.0]),
        how=WRITES,
        nth=st.integers(0, 6),
        exchanges=st.lists(st.tuples(ANY_FATE, WAITS), min_size=4, max_size=4),
        go_on=st.lists(st.booleans(), max_size=8),
    )
    _at_work = precondition(lambda self: self.processes)
    #: Several, so that shifts are worked more often than people decide and machines break.
    early_shift, day_shift, late_shift = _at_work(_shifts(_shift)), _at_work(_shifts(_shift)), _at_work(_shifts(_shift))
    night_shift, week_end = _at_work(_shifts(_shift)), _at_work(_shifts(_shift))

    @precondition(lambda self: self.processes)
    @rule(who=st.integers(0, 2), which=st.integers(0, 3), fate=ANY_FATE, waits=WAITS, how=WRITES, twice=st.booleans())
    def small_step(self, who: int, which: int, fate: str, waits: str, how: str, twice: bool) -> None:
        """A process does one thing: the first of those that it can do, from `which` on."""
        process = self._process(who)
        with self._struck(process, how, 0):
            for able, step in self._steps(process, fate, waits, twice)[which:]:
                if able:
                    step()
                    return
            process.loop.step()

    def _steps(self, process: Process, fate: str, waits: str, twice: bool) -> list[tuple[Any, Callable[[], None]]]:
        in_flight, unstarted = process.in_flight(), process.unstarted()
        return [
            (in_flight, lambda: in_flight.pop().go_on()),
            (unstarted, lambda: self._begin(unstarted[-1], fate, waits)),
            (any(run.done.is_set() for run in process.runs), process.hand_back),
            (self.mail, lambda: process.take(self.mail[0] if twice else self.mail.popleft())),
        ]

    def _begin(self, exchange: Exchange, fate: str, waits: str) -> None:
        lies = fate == "there already" and not self._is_foreign(exchange.key)
        exchange.begin("refused" if lies else fate, waits)

    @rule(what=st.sampled_from(["hire", "hire", "kill", "retire"]), who=st.integers(0, 2))
    def staff(self, what: str, who: int) -> None:
        """A process begins, is killed, or is told to end."""
        if what == "hire" and len(self.processes) < 3:
            self._register_worker()
        elif what == "kill" and self.processes:
            self._kill(self._process(who))
        elif what == "retire" and self.processes:
            self._process(who).loop.drain()
            self._end_if_idle(self._process(who))

    def _register_worker(self) -> None:
        self.born += 1
        self.processes.append(Process(self.ledger, self.api, self.places, self.clock, self.born))

    def _end_if_idle(self, process: Process) -> None:
        if process.in_flight() or process.unstarted():
            return
        while process.loop.step():
            pass
        process.hand_back()
        self.ledger.workers.end(process.loop.worker)
        self.processes.remove(process)

    # ------------------------------------------------------------------ time and the sweeper

    @rule(seconds=st.sampled_from([0.0, 4.0, 13.0, 40.0]), same_machine=st.booleans())
    def reap(self, seconds: float, same_machine: bool) -> None:
        """The sweeper comes by; on the machine of dead processes it sees that they are gone, else leases tell."""
        self.clock.now += seconds
        while same_machine and self.dead:
            self.ledger.workers.end(self.dead.pop())
        batch_lifecycle.reap(self.ledger, look_up_delay_seconds=LOOK_UP_DELAY_SECONDS)

    # ------------------------------------------------------------------ people

    @rule(which=st.integers(0, 3), what=st.sampled_from(["pause", *["resume"] * 5, "cancel", *["look up"] * 2]))
    def decide_about_a_batch(self, which: int, what: str) -> None:
        """Pause, resume, cancel; or look unclear rows up again, as `onboard retry` does."""
        batch = self.batches[which % len(self.batches)]
        if what != "look up":
            getattr(batch_lifecycle, what)(self.ledger, batch, "somebody")
        elif self.ledger.batches.get(batch).state is BatchState.FINISHED:
            self.ledger.resolution.look_up_again(batch, "somebody")

    @precondition(lambda self: self.ledger.resolution.unclear_rows())
    @rule(which=st.integers(0, 5), gives_up=st.sampled_from([False, False, True]))
    def decide_about_a_row(self, which: int, gives_up: bool) -> None:
        """A person who has looked at elepay's own pages, after everything in exchange has come to rest."""
        unclear = self.ledger.resolution.unclear_rows()
        row = unclear[which % len(unclear)]
        there = self.remote.of_reference(row.reference)
        if gives_up:
            self.ledger.resolution.resolve(row.batch_id, row.record, RowState.UNCLEAR, source_id=None, who="somebody")
        elif not there:
            self.remote.word[row.reference] = self.clock.now
            self.ledger.resolution.resolve(row.batch_id, row.record, RowState.WAITING, source_id=None, who="somebody")
        elif there[0].exists_at <= self.clock.now and there[0].id not in {one.source_id for one in self._rows()}:
            self.ledger.resolution.resolve(
                row.batch_id, row.record, RowState.CREATED, source_id=there[0].id, who="somebody"
            )

    # ------------------------------------------------------------------ the neighbours

    @rule(
        lists=st.sampled_from(["fine"] * 5 + ["truncated", "failing", "throttled", "reset"]),
        redis=st.sampled_from([True, True, False]),
    )
    def weather(self, lists: str, redis: bool) -> None:
        """elepay's lists, and Redis, get worse or better."""
        self.remote.lists, self.places.gone = lists, not redis
        if self.places.gone:
            self.mail.clear()

    # ------------------------------------------------------------------ how

    def _process(self, who: int) -> Process:
        return self.processes[who % len(self.processes)]

    @contextlib.contextmanager
    def _struck(self, process: Process, how: str, nth: int) -> Iterator[Process]:
        """Let the ledger fail, or the process die, at the nth write from here; a task that fails is just over."""
        self.engine.strike = (how, nth)
        try:
            yield process
        except Killed:
            self._kill(process)
        except LedgerError:
            pass
        finally:
            self.engine.strike = ("fine", 0)

    def _kill(self, process: Process) -> None:
        self.processes.remove(process)
        self.dead += process.numbers
        process.die()
        unsure = {
            (row.batch_id, row.record) for row in self._rows() if row.state in (RowState.SENDING, RowState.UNCLEAR)
        }
        for exchange in process.exchanges:
            if exchange.post is not None and exchange.key in unsure:
                exchange.post.definite = False  # its answer died with the process

    def _is_foreign(self, key: tuple[int, int]) -> bool:
        return any((row.batch_id, row.record) == key and row.customer_id == f"cus_{FOREIGN}" for row in self._rows())


@pytest.fixture(autouse=True)
def _counted_with_each_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the ledger's counter grow in step with the writes: by the clock on the wall no run would be like another."""
    monkeypatch.setattr(memory, "ONCE_SECONDS", 0.0)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def api(wire: Wire) -> Iterator[ElepayApi]:
    ours = client(wire)
    yield ours
    ours.close()


#: How many interleavings, of how many steps each.
INTERLEAVINGS = {"sqlite": 120, "postgres": 25}
STEPS = 60


@pytest.mark.timeout(900)  # two busy cores take minutes
@pytest.mark.resilience
@pytest.mark.representative(every_case=True)
def test_no_interleaving_doubles_or_loses_a_row(
    ledger_url: str, api: ElepayApi, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, engine = clocked(ledger_url)
    monkeypatch.setattr(circuit_breaker, "SLOW_START_ROWS", 3)
    monkeypatch.setattr(circuit_breaker, "OPEN_AFTER", 4)
    if engine.is_sqlite:  # what a power cut does is another test's
        event.listen(
            engine.sqlalchemy_engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF")
        )
        engine.sqlalchemy_engine.dispose()
    wanted = os.environ.get("INTERLEAVINGS")
    kind = "sqlite" if engine.is_sqlite else "postgres"
    machine = type("Machine", (Interleavings,), {"ledger": ledger, "engine": engine, "api": api, "wire": wire})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=int(wanted) if wanted else examples(INTERLEAVINGS[kind], least=3),
                stateful_step_count=STEPS,
                derandomize=not wanted,
                database=None,
                deadline=None,
                phases=[Phase.generate] if os.environ.get("INTERLEAVINGS_UNSHRUNK") else list(Phase),
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        ledger.close()


@pytest.mark.resilience
@pytest.mark.representative
def test_whichever_write_of_a_step_fails_no_row_is_left_over(ledger_url: str, api: ElepayApi, wire: Wire) -> None:
    """One process, one failure, and nothing else that could make it good; random steps seldom leave it at that."""
    ledger, engine = clocked(ledger_url)
    machine = type("Machine", (Interleavings,), {"ledger": ledger, "engine": engine, "api": api, "wire": wire})
    try:
        for how, nth in product(["refused", "unheard", "killed before", "killed after"], range(5)):
            one = machine()
            one.begin("", 0.0, "created")
            one._shift(0, 0.3, how, nth, [("created", AT_ONCE)] * 4, [False] * 8)
            one.teardown()
    finally:
        ledger.close()


def test_every_fate_is_one_of_three_kinds() -> None:
    assert len(set(FATES)) == len(FATES) == len(EXECUTED) + len(LOST) + len(DEFINITE) + 1
