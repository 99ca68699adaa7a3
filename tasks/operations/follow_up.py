"""What became of created sources: elepay is asked with growing gaps, within a share of the rate limit."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from tasks.elepay.client import ElepayApi
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.error_texts import Sentence
from tasks.errors import ElepayError, Halted, Maintenance, NotSent, RateLimitUnavailable, Throttled
from tasks.ledger import SETTLED_STATUSES, FollowUpRow, Ledger, StatusObservation
from tasks.send.rate_limit import RateLimit
from tasks.services import Services

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


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """What one round came to."""

    asked: int = 0
    changed: int = 0
    stopped_by: str = ""  #: why the round ended before nothing was due any more


def follow_up(
    services: Services,
    *,
    ends: float = math.inf,
    stopping: Callable[[], bool] = lambda: False,
    progress: Callable[[FollowedUp], None] = lambda _so_far: None,
) -> FollowedUp:
    """Ask elepay what became of every pending source that is due, until `ends` (monotonic) at the latest.

    Asks within ONBOARD_FOLLOW_UP_SHARE of the rate limit; see `ask_about_due_sources`. Raises SettingsError without a
    key or a Redis.
    """
    settings = services.settings
    return ask_about_due_sources(
        services.ledger,
        services.api,
        services.follow_up_limits,
        FollowUpRules(settings.follow_up_hours, settings.follow_up_days),
        ends=ends,
        stopping=stopping,
        progress=progress,
    )


def ask_about_due_sources(
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
    round_ = _Round(ledger, api, limits, rules, ends, stopping, sleep)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="follow-up") as threads:
        while not round_.is_over():
            if round_.must_wait():
                break
            claimed = ledger.follow_up.claim(PAGE_ROWS)
            if not claimed:
                break
            round_.record(claimed, list(threads.map(round_.ask, claimed)))
            progress(round_.result)
    return round_.result


def _pause(limits: Sequence[RateLimit]) -> float:
    with contextlib.suppress(RateLimitUnavailable):  # whoever asks for a place will say so
        return max(limit.current().paused_seconds for limit in limits)
    return 0.0


def next_question(row: FollowUpRow, now: float, rules: FollowUpRules) -> float | None:
    """Return when elepay is asked again about a source that is still pending; None: never, it is too old."""
    gap = rules.gaps_hours[min(row.follow_ups + 1, len(rules.gaps_hours) - 1)]
    then = now + gap * 3600
    return then if row.sent_at <= 0 or then <= row.sent_at + rules.days * 86400 else None


class _Round:
    """One round of questions; `ask` is called from several threads."""

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limits: Sequence[RateLimit],
        rules: FollowUpRules,
        ends: float,
        stopping: Callable[[], bool],
        sleep: Callable[[float], None],
    ) -> None:
        self._ledger, self._api, self._limits, self._rules = ledger, api, limits, rules
        self._ends, self._stopping, self._sleep = ends, stopping, sleep
        self._stopped = threading.Event()
        self._asked = self._changed = 0
        self._stopped_by = ""

    @property
    def result(self) -> FollowedUp:
        """What the round came to so far."""
        return FollowedUp(self._asked, self._changed, self._stopped_by)

    def is_over(self) -> bool:
        """Return whether nothing more is to be asked."""
        return self._stopped.is_set() or self._stopping() or time.monotonic() >= self._ends

    def must_wait(self) -> bool:
        """Return whether nothing may be asked now, and keep the reason."""
        if halted := self._ledger.follow_up.halted_batches():
            self._stopped_by = Sentence("batch {batch} is halted", batch=halted[0])
        elif (seconds := _pause(self._limits)) > LONGEST_PAUSE_SECONDS:
            self._stopped_by = Sentence("elepay asked to wait, for {seconds:,.0f} s more", seconds=seconds)
        return bool(self._stopped_by)

    def _stop(self, why: str) -> None:
        self._stopped_by = why
        self._stopped.set()

    def ask(self, row: FollowUpRow) -> str | None:
        """Return elepay's word for a source, "" if it has none, None if it was not asked.

        A failure that is not about this one source ends the round; the source is asked about after its next gap all the
        same, so that no odd one is in the way of the others for ever.
        """
        try:
            if not all(limit.take_place(self._sleep, self.is_over) for limit in self._limits):
                return None
        except RateLimitUnavailable as error:
            self._stop(error.sentence)
            return None
        started = time.monotonic()
        try:
            return self._api.retrieve_source_status(row.source_id)
        except Throttled as error:
            with contextlib.suppress(RateLimitUnavailable):
                self._limits[-1].cut(time.monotonic() - started, error.retry_after_seconds, bare=error.bare)
            return None
        except ElepayError as error:
            return self._failed(row, error)

    def _failed(self, row: FollowUpRow, error: ElepayError) -> str | None:
        if error.code == DOES_NOT_EXIST:
            log.warning("elepay does not know a source that it created", batch=row.batch_id, line=row.line)
            return ""
        self._stop(Sentence("elepay cannot be asked now: {answer}", answer=error))
        if error.retry_after_seconds:
            with contextlib.suppress(RateLimitUnavailable):
                self._limits[0].pause(error.retry_after_seconds)  # of the share: creates notice by themselves
        return None if isinstance(error, NotSent | Maintenance | Halted) else ""

    def record(self, claimed: Sequence[FollowUpRow], answers: Sequence[str | None]) -> None:
        """Write what elepay said, and when it is asked again; rows that were not asked about stay due."""
        now = self._ledger.now()
        asked = [(row, word) for row, word in zip(claimed, answers, strict=True) if word is not None]
        observations = [
            StatusObservation(
                row, word or None, None if word in SETTLED_STATUSES else next_question(row, now, self._rules)
            )
            for row, word in asked
        ]
        self._asked += len(asked)
        self._changed += self._ledger.follow_up.record(observations)
        self._ledger.follow_up.put_back([row for row, word in zip(claimed, answers, strict=True) if word is None])
