"""What an answer means for a row: pure decisions, no I/O.

Every decision is an `Outcome` for the ledger, perhaps a wait after which the same worker tries again, and perhaps an
effect on more than this row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from tasks.elepay_codes import CLOSES_RESOURCE_ONLY, ONE_METHOD_ONLY, REFUSED_IF_ABSENT
from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    Maintenance,
    MethodClosed,
    NotSent,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.ledger import SETTLED_STATUSES
from tasks.models import HeldRow, Outcome, RowState, Source
from tasks.retrying import RetryPolicy, look_up_gap
from tasks.settling import Finding, LookUp


class Effect(Enum):
    """What an answer means for its batch (throttling and maintenance go to the fleet's rate limit at once)."""

    NONE = "none"
    CLOSE_METHOD = "close_method"  #: for a time (`Decision.again_after`) or for good
    HALT = "halt"  #: stop the batch; `Decision.reason` says why


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a row after one attempt or look-up."""

    outcome: Outcome
    again_after: float | None = None  #: seconds after which the worker that holds it tries again
    effect: Effect = Effect.NONE
    resource: str = ""  #: for CLOSE_METHOD: the resource it is closed for, "" for all
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide."""

    live: bool
    look_up_delay_seconds: float
    look_ups: int
    resends: int
    retry: RetryPolicy
    follow_up_seconds: float = 3600.0  #: until elepay is asked what became of a new source


def created(row: HeldRow, source: Source, *, latency_ms: int, rules: Rules) -> Decision:
    """Record the source; a mode other than the declared one stops the batch (§1)."""
    outcome = Outcome(
        row.batch_id,
        row.record,
        row.attempts,
        RowState.CREATED,
        source_id=source.id,
        source_status=source.status,
        latency_ms=latency_ms,
        look_ups=row.look_ups,
        resends=row.resends,
        follow_up_after=_follow_up(source, rules),
    )
    if source.live_mode is not None and source.live_mode != rules.live:
        outcome.code = "wrong_live_mode"
        outcome.what = f"created with liveMode {str(source.live_mode).lower()}"
        mode, other = ("live", "test") if rules.live else ("test", "live")
        reason = (
            f"elepay answered in {other} mode but ELEPAY_MODE is {mode}: check the key and ELEPAY_MODE, then resume"
        )
        return Decision(outcome, effect=Effect.HALT, reason=reason)
    return Decision(outcome)


def _follow_up(source: Source, rules: Rules) -> float | None:
    return None if source.status in SETTLED_STATUSES else rules.follow_up_seconds


def failed(  # one branch for each thing that can be done about a row
    row: HeldRow,
    error: ElepayError,
    *,
    worker: int,
    now: float,
    latency_ms: int | None,
    trouble_seconds: float,
    rules: Rules,
) -> Decision:
    """Decide about a send that brought no source; `trouble_seconds`: for how long all has failed like this."""
    outcome = _outcome(row, error, latency_ms)
    match error:
        case Unclear():
            outcome.what = "outcome unclear"
            return _look_up_after(outcome, rules.look_up_delay_seconds, worker, now)
        case AlreadyThere():
            outcome.what = "elepay says it exists"
            return _look_up_after(outcome, 0.0, worker, now)
        case MethodClosed():
            resource = row.resource if error.code in CLOSES_RESOURCE_ONLY else ""
            return Decision(outcome, effect=Effect.CLOSE_METHOD, resource=resource)
        case Halted():
            outcome.state = RowState.WAITING
            outcome.what = "batch halted"
            return Decision(outcome, effect=Effect.HALT, reason=_halting(error))
        case NotSent() | Throttled() | Maintenance() | TryLater():
            return _again(row, outcome, error, worker, now, trouble_seconds, rules)
    return Decision(outcome)


def _look_up_after(outcome: Outcome, seconds: float, worker: int, now: float) -> Decision:
    """Keep a row for a (next) look-up; it can be taken up by others, too, if this worker ends before."""
    outcome.state, outcome.worker, outcome.not_before = RowState.UNCLEAR, worker, now + seconds
    return Decision(outcome, again_after=seconds)


def _again(
    row: HeldRow,
    outcome: Outcome,
    error: ElepayError,
    worker: int,
    now: float,
    trouble_seconds: float,
    rules: Rules,
) -> Decision:
    wait = rules.retry.wait_before_retry(error, row.attempts, trouble_seconds)
    if wait is None:
        if isinstance(error, TryLater):
            return Decision(outcome)
        outcome.state = RowState.WAITING
        outcome.what = "gave up for now"
        return Decision(outcome, effect=Effect.HALT, reason=_halting(error))
    outcome.state, outcome.worker, outcome.not_before = RowState.CLAIMED, worker, now + wait
    outcome.what = "not executed, to be tried again"
    one_method = isinstance(error, Maintenance) and error.code in ONE_METHOD_ONLY
    return Decision(outcome, again_after=wait, effect=Effect.CLOSE_METHOD if one_method else Effect.NONE)


def closed(row: HeldRow, *, line: int) -> Decision:
    """Refuse a row unsent because its payment method was closed by the row on `line`."""
    outcome = Outcome(
        row.batch_id, row.record, row.attempts, RowState.REFUSED, code="method_closed", parameter=str(line)
    )
    return Decision(outcome)


def not_sent_in_time(row: HeldRow, why: str) -> Decision:
    """Give a row back that was marked but certainly not sent: its worker's lease, or the window, was about to end."""
    outcome = Outcome(row.batch_id, row.record, row.attempts, RowState.WAITING, code="not_sent", what=why)
    outcome.look_ups, outcome.resends = row.look_ups, row.resends
    return Decision(outcome)


def looked_up(row: HeldRow, found: LookUp, *, worker: int, now: float, rules: Rules) -> Decision:
    """Settle an unclear row by what elepay has (§2.5, §6).

    "Absent" sends a row again only when a second look-up, later, says so too: an answer may still be on its way at
    elepay's side.
    """
    outcome = Outcome(row.batch_id, row.record, row.attempts, RowState.UNCLEAR, code=row.code)
    outcome.look_ups, outcome.resends = row.look_ups, row.resends
    if found.finding is Finding.FOUND and found.source is not None:
        outcome.state, outcome.code = RowState.CREATED, None
        outcome.source_id, outcome.source_status, outcome.adopted = found.source.id, found.source.status, True
        outcome.source_generation, outcome.follow_up_after = found.generation, _follow_up(found.source, rules)
        outcome.what = "found by look-up" if found.copies == 1 else f"found {found.copies} times by look-up"
        return Decision(outcome)
    if found.finding is Finding.UNKNOWN:
        return _inconclusive(row, outcome, "the list proves nothing", worker, now, rules)
    if row.code in REFUSED_IF_ABSENT:
        outcome.state, outcome.what = RowState.REFUSED, "not found by look-up"
        return Decision(outcome)
    if row.code != "no_source_found":
        outcome.code, outcome.what = "no_source_found", "not found by look-up, to be confirmed"
        return _look_up_after(outcome, 2 * rules.look_up_delay_seconds, worker, now)
    if row.resends >= rules.resends and not row.never_sent:
        outcome.what = "not found again, a person decides"
        return Decision(outcome)
    outcome.state, outcome.worker, outcome.code = RowState.CLAIMED, worker, None
    outcome.look_ups, outcome.resends = 0, row.resends + 1
    outcome.what = "surely absent, to be sent" if row.never_sent else "surely absent, to be sent again"
    return Decision(outcome, again_after=0.0)


def look_up_failed(row: HeldRow, error: ElepayError, *, worker: int, now: float, rules: Rules) -> Decision:
    """Put a look-up off that brought no list."""
    outcome = Outcome(row.batch_id, row.record, row.attempts, RowState.UNCLEAR, code=row.code)
    outcome.look_ups, outcome.resends = row.look_ups, row.resends
    if isinstance(error, NotSent | Throttled | Maintenance | Halted):
        gap = max(look_up_gap(1, rules.look_up_delay_seconds), error.retry_after_seconds or 0.0, 1.0)
        put_off = _look_up_after(outcome, gap, worker, now)
        return replace(put_off, effect=Effect.HALT, reason=_halting(error)) if isinstance(error, Halted) else put_off
    return _inconclusive(row, outcome, f"look-up failed: {error.code}", worker, now, rules)


def _inconclusive(row: HeldRow, outcome: Outcome, what: str, worker: int, now: float, rules: Rules) -> Decision:
    outcome.look_ups, outcome.what = row.look_ups + 1, what
    if outcome.look_ups < rules.look_ups:
        gap = look_up_gap(outcome.look_ups, max(rules.look_up_delay_seconds, 0.5))
        return _look_up_after(outcome, gap, worker, now)
    outcome.code, outcome.what = "lookup_inconclusive", f"{what}; a person decides"
    return Decision(outcome)


def leave_to_others(outcome: Outcome) -> None:
    """Put a row that its worker would have tried again into nobody's hands; whoever claims it next tries again."""
    outcome.worker = None
    if outcome.state is RowState.CLAIMED:
        outcome.state = RowState.WAITING


def _outcome(row: HeldRow, error: ElepayError, latency_ms: int | None) -> Outcome:
    return Outcome(
        row.batch_id,
        row.record,
        row.attempts,
        RowState.REFUSED,
        code=error.code,
        parameter=error.parameter,
        request_id=error.request_id,
        latency_ms=latency_ms,
        look_ups=row.look_ups,
        resends=row.resends,
        what="refused",
    )


def _halting(error: ElepayError) -> str:
    """Return the sentence that stands on a halted batch: why, and what to do."""
    request = f", request {error.request_id}" if error.request_id else ""
    answer = f"elepay answered {error.code}{request}"
    match error:
        case NotSent():
            return f"elepay could not be reached ({error.code}): check network, DNS and ELEPAY_BASE_URL, then resume"
        case Throttled():
            return f"elepay kept throttling ({answer}): lower ELEPAY_REQUESTS_PER_SECOND, then resume"
        case Maintenance():
            return f"elepay is under maintenance ({answer}): resume when it is over"
    known = {
        "M001000": "elepay's account needs to be set up: ask elepay",
        "M003000": "elepay did not take the kind of call: this is a bug, report it",
        "M004001": "the secret key is not valid: check ELEPAY_SECRET_KEY",
        "M004002": "the secret key did not arrive: check ELEPAY_SECRET_KEY and any proxy",
        "M004003": "the key may not create sources: ask elepay",
        "http_401": "the secret key was not accepted: check ELEPAY_SECRET_KEY",
        "http_403": "access was forbidden: check ELEPAY_SECRET_KEY and any proxy or firewall",
    }
    return f"{known.get(error.code, 'that is not how elepay answers: check ELEPAY_BASE_URL')} ({answer}), then resume"
