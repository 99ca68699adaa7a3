"""How requests leave: our client and a real ledger; the transport only notes what it is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from factories import new_worker, running_batch, whole
from pydantic import SecretStr

from tasks.elepay.client import ElepayApi
from tasks.elepay.exchange import Answer, Deadlines, Exchange
from tasks.errors import Fenced
from tasks.ledger import Ledger
from tasks.models import RowState
from tasks.send.outcomes import SendPolicy
from tasks.send.rate_limit import Reservation
from tasks.send.request_starter import RequestStarter
from tasks.send.retry_policy import RetryPolicy
from tasks.send.row_sender import RowSender
from tasks.send.slice_queue import Completed, SliceRun
from tasks.send.worker_lease import WorkerLease

LEASE_SECONDS, TOTAL_SECONDS = 60.0, 40.0


class Noted:
    """A transport that keeps the exchanges that it is given, or gives each of them the same answer."""

    failed = False
    answer: Answer | None = None

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def start(self, *exchanges: Exchange) -> None:
        self.exchanges += exchanges
        for exchange in exchanges:
            if self.answer is not None:
                exchange.completed(self.answer)

    def renew(self) -> None: ...

    def close(self) -> None: ...


class AtOnce(Executor):
    """Does everything at once; after `shutdown` nothing."""

    is_shut_down = False

    def submit(self, step: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        if self.is_shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        step(*arguments, **more)
        return Future()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.is_shut_down = True


class Unlimited:
    """A rate limit with places for everybody."""

    def reserve(self, wanted: int, _lead_seconds: float = 0.0) -> Reservation:
        return Reservation(wanted, 0.0, 0.0)

    def take_place(self, _sleep: object) -> bool:
        return True


class Desk:
    """A process that has marked three rows of a batch."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.now = ledger, 100.0
        self.slept: list[float] = []
        self.transport, self.threads = Noted(), AtOnce()
        self.completed: list[tuple[Completed, bool]] = []
        self.lease = WorkerLease(lambda: new_worker(ledger, LEASE_SECONDS).number, LEASE_SECONDS, self.clock)
        self.lease.register()
        deadlines = Deadlines(1.0, 5.0, TOTAL_SECONDS)
        key = SecretStr("sk_test_0123456789")
        self.api = ElepayApi("https://elepay.test", key, deadlines, transport=lambda *_: self.transport)
        policy = SendPolicy(False, look_up_delay_seconds=5.0, look_ups=4, resends=2, retry=RetryPolicy(60.0, 60.0))
        limiter: Any = Unlimited()
        sender = RowSender(ledger, self.api, limiter, policy, self.threads, lambda: 0.0, self.clock, self.slept.append)
        self.starter = RequestStarter(
            sender, self.lease, self.threads, self.note, TOTAL_SECONDS, self.clock, self.slept.append
        )
        batch = running_batch(ledger, 3)
        self.rows = ledger.leases.claim(whole(batch), self.lease.worker)
        self.run = SliceRun(whole(batch), self.lease.worker, 1e9, open=3)

    def clock(self) -> float:
        return self.now

    def note(self, completed: Completed, was_look_up: bool) -> None:
        self.completed.append((completed, was_look_up))

    def start(self, *places: float) -> list[Exchange]:
        rows = [(self.run, row, place) for row, place in zip(self.rows, places, strict=False)]
        self.starter.start(rows, self.lease.worker)
        return self.transport.exchanges


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    desk = Desk(ledger)
    yield desk
    desk.api.close()
    ledger.close()


def answer(desk: Desk, number: int) -> Answer:
    row = desk.rows[number]
    source = {"id": f"src_{number}", "status": "pending", "liveMode": False, "customerId": row.customer_id}
    return Answer(201, {}, json.dumps({**source, "metadata": {"onboarding_ref": row.reference}}).encode())


def test_each_request_leaves_at_its_place(desk: Desk) -> None:
    first, second = desk.start(desk.now - 5.0, desk.now + 0.5)
    assert second.leaves_at - first.leaves_at == pytest.approx(0.5, abs=0.25), "a place that is over: at once"
    assert first.may_leave()
    assert desk.slept == [], "the loop's thread does not wait"
    assert desk.completed == []


def test_what_came_back_is_handed_on_with_its_row(desk: Desk) -> None:
    (exchange,) = desk.start(desk.now)
    exchange.completed(answer(desk, 0))
    ((completed, was_look_up),) = desk.completed
    assert (completed.run, completed.row, was_look_up) == (desk.run, desk.rows[0], False)
    assert (completed.decision.outcome.state, completed.decision.outcome.source_id) == (RowState.CREATED, "src_0")


def test_a_row_whose_lease_would_end_before_its_request_does_not_leave(desk: Desk) -> None:
    (exchange,) = desk.start(desk.now)
    desk.now += LEASE_SECONDS - TOTAL_SECONDS
    assert exchange.may_leave()
    desk.now += 0.1
    assert not exchange.may_leave()
    exchange.completed(Fenced("held_back"))
    outcome = desk.completed[0][0].decision.outcome
    assert (outcome.state, outcome.what) == (RowState.WAITING, "lease ended")


def test_a_row_that_was_marked_under_a_former_number_does_not_leave(desk: Desk) -> None:
    (exchange,) = desk.start(desk.now)
    desk.lease.register()
    assert not exchange.may_leave()


def test_no_row_leaves_when_its_window_has_closed(desk: Desk) -> None:
    desk.run.closes_at = desk.now + 1.0
    (exchange,) = desk.start(desk.now)
    assert exchange.may_leave()
    desk.now += 1.0
    assert not exchange.may_leave()
    exchange.completed(Fenced("held_back"))
    assert desk.completed[0][0].decision.outcome.what == "window closed"


def test_a_look_up_waits_for_its_place_in_a_thread_of_its_own(desk: Desk) -> None:
    desk.rows[0].look_up = True
    desk.transport.answer = Answer(404, {}, b'{"errorCode": "M002003", "requestId": "req_1"}')
    desk.start(desk.now + 0.25)
    assert desk.slept == [pytest.approx(0.25)]
    ((completed, was_look_up),) = desk.completed
    assert was_look_up
    assert completed.decision.outcome.state is RowState.UNCLEAR


def test_a_failure_of_this_program_leaves_no_row_without_an_outcome(desk: Desk) -> None:
    desk.rows[0].look_up = True
    desk.threads.shutdown()
    desk.start(desk.now, desk.now)
    ((completed, was_look_up),) = desk.completed
    assert (completed.row, was_look_up) == (desk.rows[0], True)
    assert (completed.decision.outcome.state, completed.decision.outcome.code) == (RowState.UNCLEAR, "internal_error")
    assert len(desk.transport.exchanges) == 1, "the next row leaves all the same"
