"""What an answer means for a row: pure decisions, no I/O, and only plain values are imported.

Every decision is an `Outcome` for the ledger, perhaps a wait after which the same worker tries again, and perhaps an
effect on more than this row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from tasks.elepay.codes import CLOSES_RESOURCE_ONLY, ONE_METHOD_ONLY, REFUSED_IF_ABSENT
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
from tasks.models import SETTLED_STATUSES, LeasedRow, Outcome, RowState, Source, Stop, StopCode
from tasks.send.lookup_result import Finding, LookUp
from tasks.send.retry_policy import RetryPolicy, look_up_gap

#: A row that waits for lists which may be behind is looked up again after so long at the latest: a control
#: source may have been sent meanwhile.
ASK_AGAIN_SECONDS = 30.0
#: Bare statuses by which something in between turns requests away when there are too many: having been turned away so
#: often does not speak against the row.
TURNED_AWAY = frozenset({"http_429", "http_503"})
#: Why a batch is halted when an outage lasts too long.
SILENT = Stop(StopCode.SILENT)


class Effect(Enum):
    """What an answer means for its batch (throttling and maintenance go to the fleet's rate limit at once)."""

    NONE = "none"
    CLOSE_METHOD = "close_method"  #: for a time (`Decision.again_after`) or for good
    HALT = "halt"  #: stop the batch; `Decision.stop` says why


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a row after one attempt or look-up."""

    outcome: Outcome
    again_after: float | None = None  #: seconds after which the worker that holds it tries again
    effect: Effect = Effect.NONE
    resource: str = ""  #: for CLOSE_METHOD: the resource it is closed for, "" for all
    stop: Stop | None = None  #: for HALT
    #: Whether elepay itself has answered, and so that the outcome is known; None: nothing was asked.
    definite: bool | None = None


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """The settings that decide."""

    live: bool
    look_up_delay_seconds: float
    look_ups: int
    resends: int
    retry: RetryPolicy
    follow_up_seconds: float = 3600.0  #: until elepay is asked what became of a new source
    list_lag_seconds: float = 120.0  #: how far elepay's lists may be behind
    longest_outage_seconds: float = 14_400.0  #: for so long an elepay that answers nothing definite is waited for


@dataclass(frozen=True, slots=True)
class Situation:
    """What a decision has to know besides the answer."""

    worker: int  #: who holds the row
    now: float  #: the ledger's time
    trouble_seconds: float = 0.0  #: for how long all requests have failed like this one
    outage_seconds: float = 0.0  #: for how long elepay has answered nothing definite (`circuit_breaker`); 0: it does
    recovery_seconds: float = 0.0  #: until the fleet's rate has recovered from this answer


def created(row: LeasedRow, source: Source, *, latency_ms: int, policy: SendPolicy) -> Decision:
    """Record the source; a mode other than the declared one stops the batch (§1)."""
    outcome = Outcome(
        row.batch_id,
        row.record,
        row.attempts,
        RowState.CREATED,
        source_id=source.id,
        source_status=source.status,
        names_row=source.reference is not None,
        latency_ms=latency_ms,
        look_ups=row.look_ups,
        resends=row.resends,
        follow_up_after=_follow_up(source, policy),
    )
    if source.live_mode is not None and source.live_mode != policy.live:
        outcome.code = "wrong_live_mode"
        outcome.what = f"created with liveMode {str(source.live_mode).lower()}"
        mode, other = ("live", "test") if policy.live else ("test", "live")
        stop = Stop(StopCode.WRONG_MODE, {"mode": mode, "other": other})
        return Decision(outcome, effect=Effect.HALT, stop=stop, definite=True)
    return Decision(outcome, definite=True)


def _follow_up(source: Source, policy: SendPolicy) -> float | None:
    return None if source.status in SETTLED_STATUSES else policy.follow_up_seconds


def failed(  # one branch for each thing that can be done about a row
    row: LeasedRow, error: ElepayError, situation: Situation, *, latency_ms: int | None, policy: SendPolicy
) -> Decision:
    """Decide about a send that brought no source.

    A bare error says what is to be done about batch and fleet, and nothing about the row: its outcome is unclear.
    """
    outcome = _outcome(row, error, latency_ms)
    if isinstance(error, Unclear) or error.bare:
        return _unclear(outcome, error, situation, policy)
    match error:
        case AlreadyThere():
            outcome.what, outcome.ended_at = "elepay says it exists", situation.now
            return replace(_look_up_after(outcome, 0.0, situation), definite=True)
        case MethodClosed():
            resource = row.resource if error.code in CLOSES_RESOURCE_ONLY else ""
            return Decision(outcome, effect=Effect.CLOSE_METHOD, resource=resource, definite=True)
        case Halted():
            outcome.state = RowState.WAITING
            outcome.what = "batch halted"
            return Decision(outcome, effect=Effect.HALT, stop=halting(error), definite=True)
        case NotSent() | Throttled() | Maintenance() | TryLater():
            decision = _again(row, outcome, error, situation, policy)
            return decision if isinstance(error, NotSent) else replace(decision, definite=True)
    return Decision(outcome, definite=True)


def _unclear(outcome: Outcome, error: ElepayError, situation: Situation, policy: SendPolicy) -> Decision:
    """Keep a row whose request may have been executed, and do what the answer says about batch and fleet."""
    outcome.what, outcome.ended_at = "outcome unclear", situation.now
    wait = policy.look_up_delay_seconds
    if isinstance(error, Throttled):
        wait = max(wait, situation.recovery_seconds, error.retry_after_seconds or 0.0)
    decision = replace(_look_up_after(outcome, wait, situation), definite=False)
    if isinstance(error, Halted):
        return replace(decision, effect=Effect.HALT, stop=halting(error))
    if situation.outage_seconds > policy.longest_outage_seconds:
        return replace(decision, effect=Effect.HALT, stop=SILENT)
    return decision


def _look_up_after(outcome: Outcome, seconds: float, situation: Situation) -> Decision:
    """Keep a row for a (next) look-up; it can be taken up by others, too, if this worker ends before."""
    outcome.state, outcome.worker, outcome.not_before = RowState.UNCLEAR, situation.worker, situation.now + seconds
    return Decision(outcome, again_after=seconds)


def _again(row: LeasedRow, outcome: Outcome, error: ElepayError, situation: Situation, policy: SendPolicy) -> Decision:
    wait = policy.retry.wait_before_retry(error, row.attempts, situation.trouble_seconds)
    if wait is None:
        if isinstance(error, TryLater):
            return Decision(outcome)
        outcome.state = RowState.WAITING
        outcome.what = "gave up for now"
        return Decision(outcome, effect=Effect.HALT, stop=halting(error))
    outcome.state, outcome.worker, outcome.not_before = RowState.CLAIMED, situation.worker, situation.now + wait
    outcome.what = "not executed, to be tried again"
    one_method = isinstance(error, Maintenance) and error.code in ONE_METHOD_ONLY
    return Decision(outcome, again_after=wait, effect=Effect.CLOSE_METHOD if one_method else Effect.NONE)


def closed(row: LeasedRow, *, line: int) -> Decision:
    """Refuse a row unsent because its payment method was closed by the row on `line`."""
    outcome = Outcome(
        row.batch_id, row.record, row.attempts, RowState.REFUSED, code="method_closed", parameter=str(line)
    )
    return Decision(outcome)


def not_sent_in_time(row: LeasedRow, why: str) -> Decision:
    """Give a row back that was marked but certainly not sent: its worker's lease, or the window, was about to end."""
    outcome = Outcome(row.batch_id, row.record, row.attempts, RowState.WAITING, code="not_sent", what=why)
    outcome.look_ups, outcome.resends = row.look_ups, row.resends
    return Decision(outcome)


def looked_up(row: LeasedRow, result: LookUp, situation: Situation, *, policy: SendPolicy) -> Decision:
    """Decide about an unclear row by what elepay has (§2.5, §6).

    A row whose source is missing is sent again only if a second look-up, later, says so too and lists are known not to
    be behind (`source_lookup`); until then others may have its worker.
    """
    outcome = _of_look_up(row, situation)
    if result.finding is Finding.FOUND and result.source is not None:
        outcome.state, outcome.code, outcome.ended_at, outcome.absent_at = RowState.CREATED, None, None, None
        outcome.source_id, outcome.source_status, outcome.adopted = result.source.id, result.source.status, True
        outcome.source_generation, outcome.follow_up_after = result.generation, _follow_up(result.source, policy)
        outcome.what = "found by look-up" if result.copies == 1 else f"found {result.copies} times by look-up"
        return Decision(outcome, definite=True)
    if result.finding is Finding.UNKNOWN:
        why = "the list proves nothing"
        return replace(_inconclusive(row, outcome, why, situation, policy), definite=True)
    if row.absent_at is None:
        outcome.absent_at, outcome.what = situation.now, "not found by look-up, to be confirmed"
        return replace(_look_up_after(outcome, 2 * policy.look_up_delay_seconds, situation), definite=True)
    if not result.proved:
        outcome.not_before = min(max(result.proved_at, situation.now + 1.0), situation.now + ASK_AGAIN_SECONDS)
        outcome.what = "not found by look-up, elepay's lists may be behind"
        return Decision(outcome, definite=True)
    return _absent(row, outcome, situation, policy)


def _absent(row: LeasedRow, outcome: Outcome, situation: Situation, policy: SendPolicy) -> Decision:
    """Decide about a row that has no source at elepay."""
    if row.code in REFUSED_IF_ABSENT:
        outcome.state, outcome.what = RowState.REFUSED, "not found by look-up"
        return Decision(outcome, definite=True)
    if row.resends >= policy.resends and not row.never_sent:
        outcome.code, outcome.what = "no_source_found", "not found again, a person decides"
        return Decision(outcome, definite=True)
    outcome.state, outcome.worker, outcome.code = RowState.CLAIMED, situation.worker, None
    outcome.ended_at = outcome.absent_at = None
    turned_away = row.code in TURNED_AWAY or situation.outage_seconds > 0
    outcome.look_ups, outcome.resends = 0, row.resends + (0 if turned_away and not row.never_sent else 1)
    outcome.what = "confirmed missing; will be sent" if row.never_sent else "confirmed missing; will be resent"
    return Decision(outcome, again_after=0.0, definite=True)


def look_up_failed(row: LeasedRow, error: ElepayError, situation: Situation, *, policy: SendPolicy) -> Decision:
    """Put a look-up off that brought no list; in an outage that says nothing about the row."""
    outcome = _of_look_up(row, situation)
    definite = None if isinstance(error, NotSent) else not (isinstance(error, Unclear) or error.bare)
    if isinstance(error, NotSent | Throttled | Maintenance | Halted):
        gap = situation.recovery_seconds or look_up_gap(1, policy.look_up_delay_seconds)
        gap = max(gap, error.retry_after_seconds or 0.0, 1.0)
        put_off = replace(_look_up_after(outcome, gap, situation), definite=definite)
        return replace(put_off, effect=Effect.HALT, stop=halting(error)) if isinstance(error, Halted) else put_off
    why = f"look-up failed: {error.code}"
    return replace(_inconclusive(row, outcome, why, situation, policy), definite=definite)


def _of_look_up(row: LeasedRow, situation: Situation) -> Outcome:
    """Return a row as it was before its look-up, without a worker."""
    outcome = Outcome(row.batch_id, row.record, row.attempts, RowState.UNCLEAR, code=row.code)
    outcome.look_ups, outcome.resends = row.look_ups, row.resends
    outcome.ended_at = situation.now if row.ended_at is None else row.ended_at
    outcome.absent_at = row.absent_at
    return outcome


def _inconclusive(row: LeasedRow, outcome: Outcome, what: str, situation: Situation, policy: SendPolicy) -> Decision:
    """Look a row up later, at most so often as the settings say; look-ups in an outage do not count."""
    if situation.outage_seconds == 0.0 or situation.outage_seconds > policy.longest_outage_seconds:
        outcome.look_ups = row.look_ups + 1
    outcome.what = what
    if outcome.look_ups < policy.look_ups:
        gap = look_up_gap(outcome.look_ups, max(policy.look_up_delay_seconds, 0.5))
        return _look_up_after(outcome, gap, situation)
    outcome.code, outcome.what = "lookup_inconclusive", f"{what}; a person decides"
    return Decision(outcome)


def leave_to_others(outcome: Outcome) -> None:
    """Take a row that its worker would have tried again from it; whoever claims it next tries again."""
    outcome.worker = None
    if outcome.state is RowState.CLAIMED:
        outcome.state = RowState.WAITING


def _outcome(row: LeasedRow, error: ElepayError, latency_ms: int | None) -> Outcome:
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


#: Why a batch is halted by an answer of elepay, or of something in between; every other answer is not elepay's.
_HALTING = {
    "M001000": StopCode.ACCOUNT_SETUP,
    "M003000": StopCode.BAD_CALL,
    "M004001": StopCode.KEY_INVALID,
    "M004002": StopCode.KEY_MISSING,
    "M004003": StopCode.KEY_FORBIDDEN,
    "http_401": StopCode.KEY_REFUSED,
    "http_403": StopCode.ACCESS_FORBIDDEN,
}


def halting(error: ElepayError) -> Stop:
    """Return why a batch is halted after this error."""
    values = {"code": error.code, **({"request": error.request_id} if error.request_id else {})}
    match error:
        case NotSent():
            return Stop(StopCode.UNREACHABLE, {"code": error.code})
        case Throttled():
            return Stop(StopCode.THROTTLED, values)
        case Maintenance():
            return Stop(StopCode.MAINTENANCE, values)
    return Stop(_HALTING.get(error.code, StopCode.NOT_ELEPAY), values)
