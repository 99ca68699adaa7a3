"""What an answer means for a row: every code, every kind of look-up."""

from __future__ import annotations

import functools

import pytest

from tasks.elepay.codes import ACTIONS, REFUSED_IF_ABSENT, action_for
from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    Maintenance,
    MethodClosed,
    NotSent,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.models import LeasedRow, RowState, Source
from tasks.send import outcomes
from tasks.send.lookup_result import Finding, LookUp
from tasks.send.outcomes import ASK_AGAIN_SECONDS, Decision, Effect, SendPolicy, Situation
from tasks.send.retry_policy import RetryPolicy
from tasks.stop_texts import sentence

POLICY = SendPolicy(
    live=False,
    look_up_delay_seconds=5.0,
    look_ups=3,
    resends=2,
    retry=RetryPolicy(300.0, maintenance_seconds=3600.0),
    longest_outage_seconds=7200.0,
)
WORKER, NOW = 7, 1_000.0


def row(**more: object) -> LeasedRow:
    held = LeasedRow(
        batch_id=1,
        record=2,
        line=3,
        reference="ref",
        customer_id="cus_1",
        payment_method="creditcard",
        resource="web",
        request=b"{}",
        attempts=1,
        look_ups=0,
        resends=0,
        sent_at=NOW,
        code=None,
    )
    for name, value in more.items():
        setattr(held, name, value)
    return held


def failed(error: ElepayError, **more: object) -> Decision:
    situation = {
        name: more.pop(name) for name in ("trouble_seconds", "outage_seconds", "recovery_seconds") if name in more
    }
    return outcomes.failed(row(**more), error, Situation(WORKER, NOW, **situation), latency_ms=1, policy=POLICY)  # type: ignore[arg-type]


def looked_up(found: LookUp, *, outage_seconds: float = 0.0, **more: object) -> Decision:
    held = row(**{"look_up": True, "ended_at": NOW - 60.0, **more})
    return outcomes.looked_up(held, found, Situation(WORKER, NOW, outage_seconds=outage_seconds), policy=POLICY)


def look_up_failed(
    error: ElepayError, *, outage_seconds: float = 0.0, recovery_seconds: float = 0.0, **more: object
) -> Decision:
    held = row(**{"look_up": True, "ended_at": NOW - 60.0, **more})
    situation = Situation(WORKER, NOW, outage_seconds=outage_seconds, recovery_seconds=recovery_seconds)
    return outcomes.look_up_failed(held, error, situation, policy=POLICY)


#: A source that is confirmed missing, if an earlier look-up did not find it either.
PROVED = LookUp(Finding.ABSENT, proved=True)


#: What each kind of error makes of a row, and whether the worker keeps it.
FATES = {
    NotSent: (RowState.CLAIMED, True),
    Throttled: (RowState.CLAIMED, True),
    TryLater: (RowState.CLAIMED, True),
    Maintenance: (RowState.CLAIMED, True),
    Unclear: (RowState.UNCLEAR, True),
    AlreadyThere: (RowState.UNCLEAR, True),
    Refused: (RowState.REFUSED, False),
    MethodClosed: (RowState.REFUSED, False),
    Halted: (RowState.WAITING, False),
}


@pytest.mark.parametrize("code", ACTIONS)
def test_every_code_of_the_table_has_its_effect(code: str) -> None:
    error = ACTIONS[code](code, http_status=500 if code.startswith("S") else 400, request_id="req_1")
    decision = failed(error)
    state, kept = FATES[type(error)]
    assert decision.outcome.state is state
    assert decision.outcome.code == code
    assert decision.outcome.request_id == "req_1"
    assert (decision.outcome.worker == WORKER) is kept
    assert (decision.again_after is not None) is kept
    assert (decision.effect is Effect.HALT) is isinstance(error, Halted)
    closes = isinstance(error, MethodClosed) or code == "S002001"
    assert (decision.effect is Effect.CLOSE_METHOD) is closes
    assert decision.outcome.what, "it stands in the history"


@pytest.mark.parametrize(
    ("code", "status", "action"),
    [
        ("M009999", 400, Refused),
        ("U009999", 400, Refused),
        ("S009999", 500, Unclear),
        (None, 400, Unclear),
        (None, 401, Halted),
        (None, 403, Halted),
        (None, 404, Halted),
        (None, 302, Halted),
        (None, 413, Refused),
        (None, 429, Throttled),
        (None, 500, Unclear),
        (None, 502, Unclear),
        (None, 503, Throttled),
        (None, 504, Unclear),
    ],
)
def test_unknown_codes_and_bare_statuses_are_never_sent_again_blindly(
    code: str | None, status: int, action: type[ElepayError]
) -> None:
    assert action_for(code, status) is action


def test_a_closed_method_is_closed_for_its_resource_alone_where_the_code_says_so() -> None:
    assert failed(MethodClosed("M008000")).resource == "web"
    assert failed(MethodClosed("M001001")).resource == ""


@pytest.mark.parametrize("error", [NotSent("connection_refused"), Throttled("M005000"), Maintenance("S002000")])
def test_a_fault_that_lasts_too_long_halts_the_batch_and_not_the_row(error: ElepayError) -> None:
    decision = failed(error, trouble_seconds=4000.0)
    assert decision.outcome.state is RowState.WAITING
    assert decision.effect is Effect.HALT
    assert "resume" in sentence(decision.stop)


def test_a_row_that_must_wait_is_refused_after_a_few_tries() -> None:
    assert failed(TryLater("U005000"), attempts=2).outcome.state is RowState.CLAIMED
    assert failed(TryLater("U005000"), attempts=3).outcome.state is RowState.REFUSED


def test_retry_after_is_honoured() -> None:
    wait = failed(Throttled("http_429", retry_after_seconds=30.0)).again_after
    assert wait is not None
    assert wait >= 30


def test_a_source_of_the_other_mode_is_recorded_and_halts() -> None:
    source = Source("src_1", "pending", live_mode=True)
    decision = outcomes.created(row(), source, latency_ms=3, policy=POLICY)
    assert decision.outcome.state is RowState.CREATED
    assert decision.outcome.source_id == "src_1"
    assert decision.effect is Effect.HALT
    assert "ELEPAY_MODE" in sentence(decision.stop)


@pytest.mark.parametrize("live_mode", [False, None])
def test_a_source_of_the_declared_mode_or_of_none_goes_on(live_mode: bool | None) -> None:
    decision = outcomes.created(row(), Source("src_1", "active", live_mode=live_mode), latency_ms=3, policy=POLICY)
    assert decision.effect is Effect.NONE
    assert decision.outcome.source_status == "active"


def test_a_source_that_is_found_is_adopted() -> None:
    decision = looked_up(LookUp(Finding.FOUND, Source("src_9", "pending"), 1), code="read_timeout")
    assert (decision.outcome.state, decision.outcome.adopted) == (RowState.CREATED, True)
    assert decision.outcome.code is None


def test_two_copies_of_one_reference_are_told() -> None:
    assert "2 times" in looked_up(LookUp(Finding.FOUND, Source("src_9", "pending"), 2)).outcome.what


def test_absent_must_be_said_twice_before_a_row_is_sent_again() -> None:
    first = looked_up(PROVED, code="read_timeout")
    assert (first.outcome.state, first.outcome.code) == (RowState.UNCLEAR, "read_timeout")
    assert (first.outcome.ended_at, first.outcome.absent_at) == (NOW - 60.0, NOW)
    assert first.again_after == 10.0
    second = looked_up(PROVED, code="read_timeout", absent_at=NOW - 10.0)
    assert (second.outcome.state, second.outcome.resends) == (RowState.CLAIMED, 1)
    assert (second.outcome.ended_at, second.outcome.absent_at) == (None, None), "the next request is another one"


def test_while_lists_may_be_behind_a_row_waits_and_keeps_nobody_busy() -> None:
    behind = LookUp(Finding.ABSENT, proved_at=NOW + 12.0)
    decision = looked_up(behind, code="read_timeout", absent_at=NOW - 10.0, look_ups=2)
    assert (decision.outcome.state, decision.outcome.worker) == (RowState.UNCLEAR, None)
    assert decision.outcome.not_before == NOW + 12.0
    assert decision.outcome.absent_at == NOW - 10.0
    assert decision.outcome.look_ups == 2, "it does not count"
    assert decision.again_after is None
    far = LookUp(Finding.ABSENT, proved_at=NOW + 1000.0)
    assert looked_up(far, absent_at=NOW - 10.0).outcome.not_before == NOW + ASK_AGAIN_SECONDS, "a witness may come"


def test_after_the_allowed_resends_a_person_decides() -> None:
    decision = looked_up(PROVED, code="read_timeout", absent_at=NOW - 10.0, resends=2)
    assert (decision.outcome.state, decision.outcome.worker) == (RowState.UNCLEAR, None)
    assert decision.outcome.code == "no_source_found"
    assert decision.outcome.not_before is None, "no look-up is to come"
    assert decision.again_after is None


@pytest.mark.parametrize("code", ["http_429", "http_503"])
def test_having_been_turned_away_does_not_count_against_a_row(code: str) -> None:
    decision = looked_up(PROVED, code=code, absent_at=NOW - 10.0, resends=1)
    assert (decision.outcome.state, decision.outcome.resends) == (RowState.CLAIMED, 1)


def test_a_resend_in_an_outage_does_not_count_against_a_row() -> None:
    decision = looked_up(PROVED, code="http_520", absent_at=NOW - 10.0, resends=1, outage_seconds=60.0)
    assert (decision.outcome.state, decision.outcome.resends) == (RowState.CLAIMED, 1)


@pytest.mark.parametrize("code", sorted(REFUSED_IF_ABSENT))
def test_what_elepay_says_exists_and_is_not_ours_is_refused_by_the_same_proof(code: str) -> None:
    assert looked_up(PROVED, code=code).outcome.state is RowState.UNCLEAR
    behind = LookUp(Finding.ABSENT, proved_at=NOW + 12.0)
    assert looked_up(behind, code=code, absent_at=NOW - 10.0).outcome.state is RowState.UNCLEAR
    assert looked_up(LookUp(Finding.UNKNOWN), code=code, absent_at=NOW - 10.0).outcome.state is RowState.UNCLEAR
    refused = looked_up(PROVED, code=code, absent_at=NOW - 10.0).outcome
    assert (refused.state, refused.code) == (RowState.REFUSED, code)


#: What a bare status does to batch or fleet; the row is in doubt whatever it is.
BARE = {301: Halted, 303: Halted, 401: Halted, 403: Halted, 404: Halted, 405: Halted, 407: Halted} | {
    413: Refused,
    414: Refused,
    431: Refused,
    429: Throttled,
    503: Throttled,
}


@pytest.mark.parametrize("status", BARE)
def test_a_bare_status_says_nothing_about_the_row(status: int) -> None:
    error = action_for(None, status)(f"http_{status}", http_status=status, bare=True)
    assert type(error) is BARE[status]
    decision = failed(error)
    assert (decision.outcome.state, decision.outcome.code) == (RowState.UNCLEAR, f"http_{status}")
    assert decision.outcome.ended_at == NOW
    assert decision.definite is False
    assert (decision.effect is Effect.HALT) is (BARE[status] is Halted)
    assert bool(decision.stop) is (BARE[status] is Halted)


@pytest.mark.parametrize("error", [Unclear("read_timeout"), Throttled("http_429", bare=True), AlreadyThere("M002010")])
def test_a_request_in_doubt_ended_now_and_not_when_it_was_sent(error: ElepayError) -> None:
    assert failed(error, sent_at=NOW - 9.0).outcome.ended_at == NOW


def test_a_row_turned_away_is_looked_up_when_the_rate_has_recovered() -> None:
    error = Throttled("http_429", http_status=429, bare=True, retry_after_seconds=3.0)
    assert failed(error).again_after == POLICY.look_up_delay_seconds
    assert failed(error, recovery_seconds=9.0).again_after == 9.0
    error.retry_after_seconds = 30.0
    assert failed(error, recovery_seconds=9.0).again_after == 30.0


def test_being_turned_away_for_long_halts_nothing_by_itself() -> None:
    error = Throttled("http_503", http_status=503, bare=True)
    assert failed(error, trouble_seconds=4000.0, outage_seconds=4000.0).effect is Effect.NONE


def test_an_outage_that_lasts_too_long_halts_the_batch_and_not_the_row() -> None:
    decision = failed(Unclear("read_timeout"), outage_seconds=7201.0)
    assert decision.effect is Effect.HALT
    assert "resume" in sentence(decision.stop)
    assert (decision.outcome.state, decision.outcome.not_before) == (RowState.UNCLEAR, NOW + 5.0)


@pytest.mark.parametrize(
    ("error", "definite"),
    [
        (Refused("M002002"), True),
        (MethodClosed("M001001"), True),
        (AlreadyThere("M002010"), True),
        (Halted("M004001"), True),
        (Throttled("M005000"), True),
        (Maintenance("S002000"), True),
        (TryLater("U005000"), True),
        (Unclear("S001000"), False),
        (Unclear("read_timeout"), False),
        (NotSent("connection_refused"), None),
    ],
)
def test_what_is_a_definite_answer(error: ElepayError, definite: bool | None) -> None:
    assert failed(error).definite is definite
    assert outcomes.created(row(), Source("src_1", "pending"), latency_ms=3, policy=POLICY).definite is True


def test_look_ups_that_prove_nothing_end_at_a_person() -> None:
    waits = []
    for look_ups in range(POLICY.look_ups):
        decision = looked_up(LookUp(Finding.UNKNOWN), look_ups=look_ups, code="read_timeout")
        assert decision.outcome.state is RowState.UNCLEAR
        waits.append(decision.again_after)
    assert waits[-1] is None
    assert decision.outcome.code == "lookup_inconclusive"
    assert all(wait is not None for wait in waits[:-1])
    assert waits[0] < waits[1], "the gaps grow"


def test_look_ups_in_an_outage_do_not_count_until_it_lasts_too_long() -> None:
    for decide in (
        lambda **more: looked_up(LookUp(Finding.UNKNOWN), **more),
        functools.partial(look_up_failed, Unclear("http_520")),
    ):
        decision = decide(look_ups=2, outage_seconds=7000.0)
        assert (decision.outcome.look_ups, decision.outcome.code) == (2, None)
        assert decision.again_after is not None
        assert decide(look_ups=2, outage_seconds=7300.0).outcome.code == "lookup_inconclusive"


@pytest.mark.parametrize("error", [NotSent("connect_timeout"), Throttled("M005000"), Maintenance("S002000")])
def test_a_look_up_that_did_not_happen_is_put_off_without_being_counted(error: ElepayError) -> None:
    decision = look_up_failed(error, look_ups=2)
    assert (decision.outcome.state, decision.outcome.look_ups) == (RowState.UNCLEAR, 2)
    assert decision.again_after is not None
    assert decision.effect is Effect.NONE


def test_a_look_up_that_was_turned_away_is_tried_again_when_the_rate_has_recovered() -> None:
    assert look_up_failed(Throttled("http_429", bare=True), recovery_seconds=2.5).again_after == 2.5
    assert look_up_failed(Throttled("http_429", bare=True), recovery_seconds=0.1).again_after == 1.0


def test_a_look_up_with_a_revoked_key_halts_and_keeps_the_row_unclear() -> None:
    decision = look_up_failed(Halted("M004001"))
    assert decision.outcome.state is RowState.UNCLEAR
    assert decision.outcome.not_before is not None
    assert decision.effect is Effect.HALT


def test_a_row_that_its_lease_does_not_cover_is_given_back_unsent() -> None:
    assert outcomes.not_sent_in_time(row(), "lease ended").outcome.state is RowState.WAITING
