"""A worker process whose every step is a test's, with a ledger and a limiter by the clock of the test."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from remote import (
    LIST_LAG_SECONDS,
    LOOK_UP_DELAY_SECONDS,
    TOTAL_SECONDS,
    Clock,
    Exchange,
    Killed,
)
from sqlalchemy import ColumnElement, Connection, Float, literal, text

from tasks.accept.request_codec import content_of, request_of
from tasks.elepay.client import ElepayApi
from tasks.errors import LedgerError, RateLimitUnavailable
from tasks.identities import identity_of, reference_of
from tasks.ledger import Ledger
from tasks.ledger.engine import LedgerEngine
from tasks.models import NO_ACCOUNT, LeasedRow, NewRow, RowState, Slice
from tasks.operations import batch_lifecycle
from tasks.send.outcomes import SendPolicy
from tasks.send.rate_limit import Reservation
from tasks.send.request_starter import PlacedRow, RequestStarter
from tasks.send.retry_policy import RetryPolicy
from tasks.send.send_loop import LoopSettings, SendLoop
from tasks.send.slice_queue import SliceRun

LEASE_SECONDS = 9.0
METHODS = ("creditcard", "creditcard", "paypay")


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


def row_reference(row: Any) -> str:
    return reference_of(bytes(row.identity), row.generation)


def row_of(record: int, customer: int) -> NewRow:
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
