"""When a list that lacks a row's source is believed: the real ledger, and an elepay whose lists are behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from factories import answer, new_row, new_worker, running_batch, whole

from tasks.elepay.client import SourceList
from tasks.identities import reference_of
from tasks.ledger import Ledger
from tasks.models import LeasedRow, RowState, Source
from tasks.send.lookup_result import Finding, LookUp
from tasks.send.outcomes import SendPolicy
from tasks.send.retry_policy import RetryPolicy
from tasks.send.row_sender import RowSender
from tasks.send.source_lookup import MOST_LAG_SECONDS, NOT_SHOWN_SECONDS, Lag, SourceLookup

RECKONED_SECONDS = 120.0


@dataclass
class Elepay:
    """What exists, shown so much later; `asked` are the customers whose lists were fetched, and on what connection."""

    now: float = 1_000_000.0
    steady: float = 0.0  #: added to `now` it is a clock that nobody sets
    lag: float = 0.0
    complete: bool = True
    metadata: bool = True
    status: str = "pending"
    there: list[tuple[str, str, float]] = field(default_factory=list)
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def add(self, customer: str, reference: str) -> None:
        self.there.append((customer, reference, self.now))

    def list_sources(self, customer_id: str, payment_method: str, *, fresh: bool = False) -> SourceList:
        self.asked.append((customer_id, fresh))
        shown = [
            Source(f"src_{at}", self.status, False, payment_method, name if self.metadata else None, self.metadata)
            for at, (customer, name, exists_at) in enumerate(self.there)
            if customer == customer_id and exists_at + self.lag <= self.now
        ]
        return SourceList(shown, self.complete)

    def customers(self) -> list[str]:
        """Who was asked for since the last call."""
        asked, self.asked = self.asked, []
        return [customer for customer, _ in asked]


class Unlimited:
    """A rate limit that has places for everybody."""

    def take_place(self, _sleep: object) -> bool:
        return True


class Desk:
    """A ledger, elepay, and one process that sends and looks up, under one clock."""

    def __init__(self, ledger: Ledger, rows: int = 6) -> None:
        self.ledger, self.elepay = ledger, Elepay()
        ledger.engine.now = lambda: self.elepay.now  # type: ignore[method-assign]
        self.batch = running_batch(ledger, [new_row(record) for record in range(1, rows + 1)])
        self.worker = new_worker(ledger, 1e9)
        self.held = {row.record: row for row in ledger.leases.claim(whole(self.batch), self.worker.number)}
        self.lookup = self.new_process()

    def clock(self) -> float:
        return self.elepay.now + self.elepay.steady

    def new_process(self) -> SourceLookup:
        return SourceLookup(
            self.elepay,  # type: ignore[arg-type]
            self.ledger,
            lambda: None,
            self.clock,
            list_lag_seconds=RECKONED_SECONDS,
        )

    def send(self, record: int, *, executed: bool = True, answered: bool = True) -> LeasedRow:
        row = self.held[record]
        self.elepay.now += 0.1
        self.worker.mark([row])
        row.sent_at = self.elepay.now
        if executed:
            self.elepay.add(row.customer_id, row.reference)
        self.elepay.now += 0.1
        if answered:
            self.worker.record(answer(row))
        else:
            row.look_up, row.ended_at = True, self.elepay.now
            self.worker.record(
                answer(row, RowState.UNCLEAR, worker=self.worker.number, not_before=0.0, ended_at=row.ended_at)
            )
        return row

    def look_up(self, row: LeasedRow, after: float = 0.0) -> LookUp:
        self.elepay.now += after
        return self.lookup.look_up(row)

    def first_look_up(self, row: LeasedRow) -> None:
        """The look-up that finds nothing, some time before the one that may prove it."""
        assert self.look_up(row, 5.0).finding is Finding.ABSENT
        row.absent_at = self.elepay.now
        self.elepay.now += 10.0
        self.elepay.customers()


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    return Desk(ledger)


def test_the_first_look_up_costs_one_request_whatever_it_finds(desk: Desk) -> None:
    desk.send(1)
    lost, made = desk.send(2, executed=False, answered=False), desk.send(3, answered=False)
    assert desk.look_up(lost, 5.0).finding is Finding.ABSENT
    assert desk.look_up(made).finding is Finding.FOUND
    assert desk.elepay.asked == [(lost.customer_id, False), (made.customer_id, False)]


def test_a_control_source_sent_after_the_requests_end_proves_that_lists_are_not_behind(desk: Desk) -> None:
    lost = desk.send(2, executed=False, answered=False)
    witness = desk.send(3)
    desk.first_look_up(lost)
    found = desk.look_up(lost)
    assert (found.finding, found.proved) == (Finding.ABSENT, True)
    assert desk.elepay.asked == [(witness.customer_id, False), (lost.customer_id, True)], (
        "the witness first, then its own"
    )


def test_a_list_that_proves_absence_comes_on_a_connection_of_its_own(desk: Desk) -> None:
    lost = desk.send(2, executed=False, answered=False)
    desk.send(3)
    desk.first_look_up(lost)
    desk.look_up(lost)
    assert desk.elepay.asked[-1] == (lost.customer_id, True)


def test_a_control_source_that_was_seen_already_costs_nothing(desk: Desk) -> None:
    first, second = (desk.send(record, executed=False, answered=False) for record in (2, 3))
    desk.send(4)
    for row in (first, second):
        desk.first_look_up(row)
    assert desk.look_up(first).proved
    desk.elepay.customers()
    assert desk.look_up(second).proved
    assert desk.elepay.customers() == [second.customer_id]


def test_a_source_that_was_found_is_a_control_source_for_others(desk: Desk) -> None:
    lost, made = desk.send(2, executed=False, answered=False), desk.send(3, answered=False)
    desk.first_look_up(lost)
    assert desk.look_up(made).finding is Finding.FOUND
    desk.elepay.customers()
    assert desk.look_up(lost).proved
    assert desk.elepay.customers() == [lost.customer_id]


def test_a_source_that_was_found_authorised_already_is_no_control_source(desk: Desk) -> None:
    """Lists may hide the new ones."""
    lost, made = desk.send(2, executed=False, answered=False), desk.send(3, answered=False)
    desk.first_look_up(lost)
    desk.elepay.status = "active"
    assert desk.look_up(made).finding is Finding.FOUND
    assert desk.look_up(lost).finding is Finding.UNKNOWN


def test_an_old_control_source_proves_nothing_until_lists_cannot_be_behind_any_more(desk: Desk) -> None:
    desk.send(1)
    desk.elepay.now += 1000.0
    lost = desk.send(2, executed=False, answered=False)
    desk.first_look_up(lost)
    assert lost.ended_at is not None
    proved_at = lost.ended_at + RECKONED_SECONDS
    found = desk.look_up(lost)
    assert (found.finding, found.proved, found.proved_at) == (Finding.ABSENT, False, proved_at)
    desk.elepay.now = proved_at - 0.01
    assert not desk.look_up(lost).proved
    desk.elepay.now = proved_at
    assert desk.look_up(lost).proved


def test_a_control_source_sent_while_the_request_was_under_way_is_an_old_one(desk: Desk) -> None:
    """elepay may have executed the request after it."""
    lost = desk.send(2, executed=False, answered=False)
    desk.send(3)
    lost.ended_at = desk.elepay.now
    desk.first_look_up(lost)
    found = desk.look_up(lost)
    assert (found.proved, found.proved_at) == (False, lost.ended_at + RECKONED_SECONDS)


@pytest.mark.parametrize("lag", [20.0, 30.0, 100.0])
def test_lists_that_are_behind_never_prove_that_a_source_is_absent(desk: Desk, lag: float) -> None:
    desk.send(1)
    desk.elepay.now += 1000.0
    desk.elepay.lag = lag
    made = desk.send(2, answered=False)
    desk.first_look_up(made)
    while (found := desk.look_up(made, 3.0)).finding is not Finding.FOUND:
        assert found.finding is Finding.ABSENT
        assert not found.proved
        assert desk.elepay.now < 1_002_000
    assert found.source is not None


def test_a_younger_control_source_that_lists_lack_measures_how_far_they_are_behind(desk: Desk) -> None:
    """The lag is larger than anybody reckons with; the row's source is there, and never called absent."""
    desk.send(1)
    desk.elepay.now += 2000.0
    desk.elepay.lag = 1000.0
    made = desk.send(2, answered=False)
    desk.send(3)
    desk.first_look_up(made)
    while (found := desk.look_up(made, 20.0)).finding is not Finding.FOUND:
        assert not found.proved
        assert desk.elepay.now < 1_010_000


def test_a_control_source_that_is_gone_for_good_does_not_hold_a_row_up_for_ever(desk: Desk) -> None:
    desk.send(1)
    desk.elepay.now += 2000.0
    lost = desk.send(2, executed=False, answered=False)
    desk.send(3)
    desk.elepay.there = [one for one in desk.elepay.there if one[0] != desk.held[3].customer_id]
    desk.first_look_up(lost)
    waited = 0.0
    while not desk.look_up(lost, 60.0).proved:
        waited += 60.0
        assert waited < 3 * MOST_LAG_SECONDS


def test_without_any_control_source_nothing_is_proved(desk: Desk) -> None:
    lost = desk.send(2, executed=False, answered=False)
    desk.first_look_up(lost)
    assert desk.look_up(lost, 1000.0).finding is Finding.UNKNOWN


def test_lists_must_have_been_seen_since_the_requests_end(desk: Desk) -> None:
    """What lists showed before does not say what they show now."""
    desk.send(1)
    desk.send(2, answered=False)
    assert desk.look_up(desk.held[2], 5.0).finding is Finding.FOUND
    lost = desk.send(3, executed=False, answered=False)
    desk.first_look_up(lost)
    desk.elepay.there.clear()
    assert desk.look_up(lost, 1000.0).finding is Finding.UNKNOWN


@pytest.mark.parametrize("trouble", ["incomplete", "without metadata"])
def test_lists_that_prove_nothing_prove_nothing_at_any_time(desk: Desk, trouble: str) -> None:
    lost = desk.send(2, executed=False, answered=False)
    desk.send(3)
    desk.first_look_up(lost)
    if trouble == "incomplete":
        desk.elepay.complete = False
    else:
        desk.elepay.metadata = False
        desk.elepay.add(lost.customer_id, "foreign")
    assert desk.look_up(lost, 1000.0).finding is Finding.UNKNOWN


def test_a_list_without_metadata_proves_nothing_although_a_control_source_was_shown_with_it(desk: Desk) -> None:
    lost, made = desk.send(2, executed=False, answered=False), desk.send(3, answered=False)
    desk.first_look_up(lost)
    assert desk.look_up(made).finding is Finding.FOUND
    desk.elepay.metadata = False
    desk.elepay.add(lost.customer_id, "foreign")
    assert desk.look_up(lost).finding is Finding.UNKNOWN


def test_control_sources_that_were_not_shown_are_not_asked_for_again_at_once(desk: Desk) -> None:
    lost = desk.send(2, executed=False, answered=False)
    desk.send(3)
    desk.elepay.there.clear()
    desk.first_look_up(lost)
    desk.look_up(lost)
    assert len(desk.elepay.customers()) == 2
    desk.look_up(lost)
    assert desk.elepay.customers() == [lost.customer_id]
    desk.look_up(lost, NOT_SHOWN_SECONDS)
    assert len(desk.elepay.customers()) == 2


def test_a_row_of_a_dead_worker_ended_when_that_was_noticed(desk: Desk) -> None:
    row = desk.held[2]
    desk.worker.mark([row])
    desk.elepay.now += 300.0
    desk.ledger.workers.end(desk.worker.number)
    desk.ledger.reaper.reap(look_up_delay_seconds=0)
    (taken,) = [
        one for one in desk.ledger.leases.claim(whole(desk.batch), new_worker(desk.ledger).number) if one.look_up
    ]
    assert taken.ended_at == desk.elepay.now
    assert taken.sent_at is not None
    assert taken.sent_at < desk.elepay.now


def test_a_row_that_is_verified_first_is_treated_as_sent_before_its_batch_was_accepted(desk: Desk) -> None:
    """A ledger that was lost a moment ago may have sent it; lists may not show it yet."""
    accepted_at = desk.elepay.now
    batch = running_batch(desk.ledger, [new_row(record) for record in (11, 12)])
    desk.ledger.lifecycle.verify_from_now_on(batch)
    desk.elepay.now += 50.0
    held = desk.ledger.leases.claim(whole(batch), desk.worker.number)
    assert [row.ended_at for row in held] == [accepted_at] * 2
    desk.elepay.add(held[0].customer_id, held[0].reference)
    assert desk.look_up(held[0]).finding is Finding.FOUND
    desk.first_look_up(held[1])
    found = desk.look_up(held[1])
    assert (found.proved, found.proved_at) == (False, accepted_at + RECKONED_SECONDS)
    assert desk.look_up(held[1], RECKONED_SECONDS).proved


@pytest.mark.parametrize(("unsent", "counted"), [(True, 0), (False, 1)])
def test_look_ups_without_a_control_source_count_in_an_outage_once_nothing_is_left_to_be_sent(
    desk: Desk, unsent: bool, counted: int
) -> None:
    """Else a batch whose last row was lost would never end."""
    lost = desk.send(2, executed=False, answered=False)
    for record in () if unsent else (1, 3, 4, 5, 6):
        desk.send(record, answered=False)
    desk.elepay.there.clear()
    desk.first_look_up(lost)
    policy = SendPolicy(False, look_up_delay_seconds=5.0, look_ups=4, resends=2, retry=RetryPolicy(60.0, 60.0))
    nobody: Any = None
    sender = RowSender(
        desk.ledger, desk.elepay, Unlimited(), policy, nobody, outage_seconds=lambda: 60.0, clock=desk.clock
    )
    decision = sender.look_up(lost, desk.worker.number)
    assert (decision.outcome.state, decision.outcome.look_ups) == (RowState.UNCLEAR, counted)


def test_the_control_source_sent_soonest_after_comes_first_then_the_youngest_of_the_others(desk: Desk) -> None:
    for record in (1, 2, 3):
        desk.send(record)
    lost = desk.send(4, executed=False, answered=False)
    for record in (6, 5):
        desk.send(record)
    assert lost.ended_at is not None
    found = desk.ledger.control_sources.choose(desk.batch, 4, "creditcard", after=lost.ended_at)
    assert [one.customer_id for one in found] == [desk.held[record].customer_id for record in (6, 3, 2)]
    other = running_batch(desk.ledger, [new_row(21)])
    elsewhere = desk.ledger.control_sources.choose(other, 1, "creditcard", after=desk.elepay.now)
    assert [one.customer_id for one in elsewhere] == [desk.held[record].customer_id for record in (5, 6)]
    assert desk.ledger.control_sources.choose(desk.batch, 4, "paypay", after=0.0) == []
    assert found[0].reference == reference_of(bytes(new_row(6).identity or b""), 1)


def test_a_row_whose_source_was_found_in_a_list_is_not_asked_for_as_a_control_source(desk: Desk) -> None:
    lost, found = (desk.send(record, answered=False) for record in (2, 3))
    desk.worker.record(answer(found, adopted=True))
    assert desk.ledger.control_sources.choose(desk.batch, lost.record, "creditcard", after=0.0) == []


def test_a_clock_that_is_set_forward_ends_no_wait(desk: Desk) -> None:
    """The ledger's clock jumps by three hours; the source is in the list a minute later."""
    desk.send(1)
    desk.elepay.now += 1000.0
    made = desk.send(2, answered=False)
    desk.elepay.there.pop()
    desk.first_look_up(made)
    assert not desk.look_up(made).proved
    hours = 3 * 3600.0
    desk.elepay.now += hours
    desk.elepay.steady -= hours
    found = desk.look_up(made)
    assert (found.finding, found.proved) == (Finding.ABSENT, False)
    assert made.ended_at is not None
    assert found.proved_at == pytest.approx(made.ended_at + hours + RECKONED_SECONDS)
    late = desk.send(3, executed=False, answered=False)
    desk.first_look_up(late)
    assert desk.look_up(late).proved_at == pytest.approx((late.ended_at or 0.0) + RECKONED_SECONDS), "it ended after it"
    assert desk.look_up(made, RECKONED_SECONDS).proved


def test_twice_the_greatest_lag_seen_lately_is_waited_for() -> None:
    lag = Lag(120.0)
    assert lag.seconds(1000.0) == 120.0
    lag.lacking(sent_at=950.0, now=1000.0)
    assert lag.seconds(1000.0) == 120.0
    lag.lacking(sent_at=900.0, now=1000.0)
    lag.lacking(sent_at=990.0, now=1000.0)
    assert lag.seconds(1000.0) == 200.0
    lag.lacking(sent_at=0.0, now=1000.0 + MOST_LAG_SECONDS)
    assert lag.seconds(1001.0) == 200.0, "nobody is behind for so long: that source was deleted"
    assert lag.seconds(1001.0 + MOST_LAG_SECONDS) == 120.0
