"""Random interleavings of everything that can happen to rows, against a model of elepay; the laws hold after each step.

What runs is the real thing: the ledger (SQLite and PostgreSQL), the send loop, the outcomes, the look-ups, the client.
Only time, elepay and the limiter's Redis are models, and the loop's threads take their steps when the machine says so:
a process that is not asked to do anything is a frozen one. The same steps every time; `INTERLEAVINGS=1000` in the
environment searches that many new ones, INTERLEAVINGS_UNSHRUNK shows the first failure as it was found.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest
from factories import examples
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
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
    TOTAL_SECONDS,
    WRONG,
    Clock,
    Exchange,
    Killed,
    Remote,
    Wire,
    client,
)
from sqlalchemy import ColumnElement, Connection, Float, event, literal, text

from tasks.accept.request_codec import content_of, request_of
from tasks.elepay.client import ElepayApi
from tasks.errors import LedgerError, RateLimitUnavailable
from tasks.identities import identity_of, reference_of
from tasks.ledger import ENDED_STATUSES, Ledger, memory
from tasks.ledger.engine import LedgerEngine
from tasks.ledger.held_sources import SOURCE_TAKEN
from tasks.models import NO_ACCOUNT, BatchState, LeasedRow, NewRow, RowState, Slice
from tasks.operations import batch_lifecycle
from tasks.send import circuit_breaker
from tasks.send.outcomes import SendPolicy
from tasks.send.rate_limit import Reservation
from tasks.send.request_starter import PlacedRow, RequestStarter
from tasks.send.retry_policy import RetryPolicy
from tasks.send.send_loop import LoopSettings, SendLoop
from tasks.send.slice_queue import SliceRun

LEASE_SECONDS = 9.0
CUSTOMERS = 6
METHODS = ("creditcard", "creditcard", "paypay")
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
HELD = {"claimed", "sending"}


class ClockedEngine(LedgerEngine):
    """A database by the machine's clock; one of its next writes may go wrong."""

    clock: Clock
    strike: tuple[str, int] = ("fine", 0)

    def now(self) -> float:
        return self.clock.now

    @property
    def sql_now(self) -> ColumnElement[float]:
        return literal(self.clock.now, Float(53))

    @contextlib.contextmanager
    def write(self, *, remembered: bool = False) -> Iterator[Connection]:
        how, after = self.strike
        self.strike = (how, after - 1) if after else ("fine", 0)
        fate = "fine" if after else how
        if fate == "refused":
            raise LedgerError("out of reach")
        with super().write(remembered=remembered) as connection:
            yield connection
            if fate == "killed before":
                raise Killed
        if fate == "killed after":
            raise Killed
        if fate == "unheard":
            raise LedgerError("the answer to the commit got lost")


def clocked(url: str) -> tuple[Ledger, ClockedEngine]:
    """An empty ledger by the machine's clock."""
    Ledger.open(url).close()
    engine = ClockedEngine.connect(url)
    return Ledger(engine, NO_ACCOUNT), engine


class Places:
    """A limiter without a limit; its Redis may be gone."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.gone, self.not_before = clock, False, 0.0

    def reserve(self, wanted: int, lead_seconds: float = 0.0) -> Reservation:
        self._answer()
        wait = max(lead_seconds, self.not_before - self.clock.now)
        return Reservation(wanted if wait <= 1.0 else 0, wait, 0.0)

    def take_place(self, sleep: Callable[[float], None]) -> bool:
        while not (reserved := self.reserve(1)).places:
            sleep(min(max(reserved.wait_seconds - 0.5, 0.02), 1.0))
        sleep(reserved.wait_seconds)
        return True

    def cut(self, _sent_seconds_ago: float, pause_seconds: float | None = None, *, bare: bool = False) -> float:
        self.pause(0.5 if pause_seconds is None else pause_seconds)
        return 0.5

    def pause(self, seconds: float) -> None:
        self._answer()
        self.not_before = max(self.not_before, self.clock.now + seconds)

    def _answer(self) -> None:
        if self.gone:
            raise RateLimitUnavailable("Redis does not answer")


class AtOnce(Executor):
    """What the loop leaves to its threads is done at once, by the thread that asks for it."""

    def submit(self, step: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        step(*arguments, **more)
        return Future()


class HeldStarter(RequestStarter):
    """What the loop starts is held until the machine starts it."""

    def __init__(self, hold: Callable[[LeasedRow, int, Callable[[], None]], None], *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self.hold = hold

    def start(self, rows: Iterable[PlacedRow], worker: int) -> None:
        for placed in rows:
            self.hold(placed[1], worker, functools.partial(super().start, [placed], worker))


class Process:
    """A worker process whose every step is the machine's: a commit, a request leaving, its answer, a slice's end."""

    def __init__(self, ledger: Ledger, api: ElepayApi, places: Places, clock: Clock, number: int) -> None:
        self.ledger = ledger
        self.numbers: set[int] = set()
        self.exchanges: list[Exchange] = []
        self.runs: list[SliceRun] = []

        def register() -> int:
            worker = ledger.workers.add(f"machine{number}", number, "", LEASE_SECONDS, TOTAL_SECONDS)
            self.numbers.add(worker)
            return worker

        self.loop = SendLoop(
            ledger,
            api,
            places,  # type: ignore[arg-type]
            policy=SendPolicy(
                live=False,
                look_up_delay_seconds=LOOK_UP_DELAY_SECONDS,
                look_ups=2,
                resends=2,
                list_lag_seconds=LIST_LAG_SECONDS,
                retry=RetryPolicy(unreachable_seconds=60.0, maintenance_seconds=120.0),
            ),
            register=register,
            settings=LoopSettings(
                in_flight=4,
                slice_seconds=30.0,
                lease_seconds=LEASE_SECONDS,
                guard_answers=3,
                breaker_answers=4,
                breaker_share=0.5,
            ),
            clock=clock,
            sleep=clock.sleep,
            threads=AtOnce(),
            starter=functools.partial(HeldStarter, self.hold),
        )
        self.loop.register()

    def hold(self, row: LeasedRow, worker: int, start: Callable[[], None]) -> None:
        self.exchanges.append(Exchange((row.batch_id, row.record), self._look(row, worker), start))

    def _look(self, row: LeasedRow, worker: int) -> Callable[[], list[str]]:
        ledger = self.ledger

        def look() -> list[str]:
            query = text("select state, worker, attempts from rows where batch_id = :b and record = :r")
            with ledger.engine.read() as connection:
                found = connection.execute(query, {"b": row.batch_id, "r": row.record}).one()
            expected = (RowState.SENDING, worker, row.attempts)
            return [] if tuple(found) == expected else [f"sent as {expected} while the ledger says {found}"]

        return look

    def take(self, slice_: Slice) -> None:
        """The beginning of `run_slice`."""
        run = self.loop.begin_slice(slice_)
        if run is not None:
            self.runs.append(run)

    def hand_back(self) -> None:
        """The end of `run_slice` and of the task, for every slice that is done."""
        for run in [run for run in self.runs if run.done.is_set()]:
            self.runs.remove(run)
            self.loop.end_slice(run)
            batch_lifecycle.close_finished_batch(self.ledger, run.slice.batch_id)

    def unstarted(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.ident is None]

    def in_flight(self) -> list[Exchange]:
        return [each for each in self.exchanges if each.ident is not None and not each.completed]

    def die(self) -> None:
        for exchange in self.in_flight():
            exchange.go_on(killed=True)


class Interleavings(RuleBasedStateMachine):
    """A fleet, its people, and elepay."""

    ledger: Ledger
    engine: ClockedEngine
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
        self.processes: list[Process] = []
        self.dead: list[int] = []
        self.mail: deque[Slice] = deque()
        self.batches: list[int] = []
        self.records: dict[int, int] = {}
        self.created: dict[tuple[int, int], str] = {}
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
        self.ledger.rows.add(batch, [_row(n, customer) for n, customer in enumerate(customers, 1)], again=again)
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

    # ------------------------------------------------------------------ the laws

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
            if there[row.source_id].reference == _reference(row)
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
            _reference(row)
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
        unsure = {_reference(row) for row in self._rows() if row.state == RowState.UNCLEAR}
        named = {one.id: one.reference for one in self.remote.sources}
        for row in self._rows():
            if row.state == RowState.CREATED and named[row.source_id] != _reference(row):
                assert named[row.source_id] in unsure, f"a row has another row's source: {row}"
                unsure.add(_reference(row))  # nobody has asked elepay for either of the two
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

    def _rows(self) -> list[Any]:
        with self.ledger.engine.read() as connection:
            return list(connection.execute(text("select * from rows order by batch_id, record")))

    def _is_foreign(self, key: tuple[int, int]) -> bool:
        return any((row.batch_id, row.record) == key and row.customer_id == f"cus_{FOREIGN}" for row in self._rows())


def _reference(row: Any) -> str:
    return reference_of(bytes(row.identity), row.generation)


def _row(record: int, customer: int) -> NewRow:
    method, name = METHODS[customer % 3], f"cus_{customer}"
    request = request_of(None, {}, {})
    return NewRow(
        record,
        record + 1,
        "waiting",
        identity_of(name, method, "ios", ""),
        name,
        method,
        "ios",
        request,
        content_of(request),
        None,
    )


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
                max_examples=int(wanted) if wanted else examples(INTERLEAVINGS[kind]),
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


@pytest.mark.parametrize("how", ["refused", "unheard", "killed before", "killed after"])
def test_whichever_write_of_a_step_fails_no_row_is_left_over(
    ledger_url: str, api: ElepayApi, wire: Wire, how: str
) -> None:
    """One process, one failure, and nothing else that could make it good; random steps seldom leave it at that."""
    ledger, engine = clocked(ledger_url)
    machine = type("Machine", (Interleavings,), {"ledger": ledger, "engine": engine, "api": api, "wire": wire})
    try:
        for nth in range(5):
            one = machine()
            one.begin("", 0.0, "created")
            one._shift(0, 0.3, how, nth, [("created", AT_ONCE)] * 4, [False] * 8)
            one.teardown()
    finally:
        ledger.close()


def test_every_fate_is_one_of_three_kinds() -> None:
    assert len(set(FATES)) == len(FATES) == len(EXECUTED) + len(LOST) + len(DEFINITE) + 1
