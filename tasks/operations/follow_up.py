"""What became of created sources: elepay is asked with growing gaps, within a share of the rate limit."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import structlog

from tasks.elepay.client import ElepayApi
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.errors import ElepayError, Halted, Maintenance, NotSent, RateLimitUnavailable, Throttled
from tasks.ledger import SETTLED_STATUSES, FollowUpRow, Ledger, StatusObservation
from tasks.send.rate_limit import RateLimit

log = structlog.get_logger("onboard")

#: Rows that are claimed at once, and threads that ask.
PAGE_ROWS = 100
THREADS = 8
#: A longer pause ends the round; what is due stays due.
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class FollowUpRules:
    """The settings that decide."""

    gaps_hours: tuple[float, ...]  #: from one question to the next; the last goes on for ever
    days: float  #: after so many days a pending source is left alone


@dataclass(slots=True)
class FollowedUp:
    """What one round came to."""

    asked: int = 0
    changed: int = 0
    stopped_by: str = ""  #: why the round ended before nothing was due any more


def follow_up(
    ledger: Ledger,
    api: ElepayApi,
    limits: Sequence[RateLimit],
    rules: FollowUpRules,
    *,
    ends: float,
    stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[FollowedUp], None] = lambda _so_far: None,
    sleep: Callable[[float], None] = time.sleep,
) -> FollowedUp:
    """Ask elepay for the status of every source that is due, until `ends` (monotonic) at the latest.

    Each question takes a place of every limit: the share, then the fleet's own. While a batch is halted nothing is
    asked, nor for as long as elepay asked to wait (`Retry-After`). Several may run at once: each row is claimed by one
    of them.
    """
    said = FollowedUp()
    stop = threading.Event()

    def end(why: str) -> None:
        said.stopped_by = why
        stop.set()

    with ThreadPoolExecutor(THREADS, thread_name_prefix="follow-up") as threads:
        while not (stop.is_set() or stopping() or time.monotonic() >= ends):
            if halted := ledger.follow_up.halted_batches():
                said.stopped_by = f"batch {halted[0]} is halted"
                break
            if (seconds := _pause(limits)) > LONGEST_PAUSE_SECONDS:
                said.stopped_by = f"elepay asked to wait, for {seconds:,.0f} s more"
                break
            claimed = ledger.follow_up.claim(PAGE_ROWS)
            if not claimed:
                break
            over = partial(_is_over, stop, stopping, ends)
            answers = list(threads.map(partial(_ask, api=api, limits=limits, over=over, end=end, sleep=sleep), claimed))
            now = ledger.now()
            asked = [(row, answer) for row, answer in zip(claimed, answers, strict=True) if answer is not None]
            said.asked += len(asked)
            said.changed += ledger.follow_up.record(
                [
                    StatusObservation(
                        row, word or None, None if word in SETTLED_STATUSES else next_question(row, now, rules)
                    )
                    for row, word in asked
                ]
            )
            ledger.follow_up.put_back([row for row, word in zip(claimed, answers, strict=True) if word is None])
            progress(said)
    return said


def _pause(limits: Sequence[RateLimit]) -> float:
    with contextlib.suppress(RateLimitUnavailable):  # whoever asks for a place will say so
        return max(limit.current().paused_seconds for limit in limits)
    return 0.0


def next_question(row: FollowUpRow, now: float, rules: FollowUpRules) -> float | None:
    """Return when elepay is asked again about a source that is still pending; None: never, it is too old."""
    gap = rules.gaps_hours[min(row.follow_ups + 1, len(rules.gaps_hours) - 1)]
    then = now + gap * 3600
    return then if row.sent_at <= 0 or then <= row.sent_at + rules.days * 86400 else None


def _is_over(stop: threading.Event, stopping: Callable[[], bool], ends: float) -> bool:
    return stop.is_set() or stopping() or time.monotonic() >= ends


def _ask(
    row: FollowUpRow,
    *,
    api: ElepayApi,
    limits: Sequence[RateLimit],
    over: Callable[[], bool],
    end: Callable[[str], None],
    sleep: Callable[[float], None],
) -> str | None:
    """Return elepay's word for a source, "" if it has none, None if it was not asked.

    A failure that is not about this one source ends the round; the source is asked about after its next gap all the
    same, so that no odd one is in the way of the others for ever.
    """
    try:
        for limit in limits:
            if not limit.take_place(sleep, over):
                return None
    except RateLimitUnavailable as error:
        end(str(error))
        return None
    started = time.monotonic()
    try:
        return api.retrieve_source_status(row.source_id)
    except Throttled as error:
        with contextlib.suppress(RateLimitUnavailable):
            limits[-1].cut(time.monotonic() - started, error.retry_after_seconds, bare=error.bare)
        return None
    except ElepayError as error:
        if error.code == DOES_NOT_EXIST:
            log.warning("elepay does not know a source that it created", batch=row.batch_id, line=row.line)
            return ""
        end(f"elepay cannot be asked now: {error}")
        if error.retry_after_seconds:
            with contextlib.suppress(RateLimitUnavailable):
                limits[0].pause(error.retry_after_seconds)  # of the share: creates find out by themselves
        return None if isinstance(error, NotSent | Maintenance | Halted) else ""
