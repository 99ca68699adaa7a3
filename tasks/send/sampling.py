"""Some rows of a new batch are looked up before its first is sent: so a ledger that was lost or replaced is noticed.

A source at elepay that carries a new row's reference, and that no row of this ledger calls created, proves that the
ledger has forgotten it: the batch is paused, and goes on only with every row looked up first. Not finding one proves
nothing.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from tasks import stop_texts
from tasks.elepay.client import ElepayApi, SourceList
from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    MethodClosed,
    NotSent,
    RateLimitUnavailable,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.identities import identity_and_generation
from tasks.ledger import Ledger, SampledRow
from tasks.models import BatchState, Slice, Stop, StopCode
from tasks.send.outcomes import SILENT, halting
from tasks.send.rate_limit import RateLimit
from tasks.send.retry_policy import RetryPolicy, retrying_look_up

log = structlog.get_logger("onboard")

#: Whoever takes a sample has so long; then another process may.
LEASE_SECONDS = 30.0
#: Other slices of the batch wait so long where they are, looking so often; then they are put off.
WAIT_SECONDS, LOOK_SECONDS = 1.0, 0.05
PUT_OFF_SECONDS = 1.0
#: The longest gap between two tries while nothing definite comes back.
MOST_GAP_SECONDS = 30.0
#: Answers that are about the row, and say nothing about its source.
_ABOUT_THE_ROW = (Refused, MethodClosed, AlreadyThere, TryLater)


@dataclass(slots=True)
class _Trouble:
    """Since when, by the clock, a batch's sample could not be taken, and how often it was tried."""

    since: float
    tries: int = 0


class Sampler:
    """Takes the samples of batches; one object a process, safe to share between threads."""

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limit: RateLimit,
        retry: RetryPolicy,
        *,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        dice: random.Random | None = None,
    ) -> None:
        self._ledger, self._api, self._limit, self._retry = ledger, api, limit, retry
        self._stopping, self._clock, self._sleep = stopping, clock, sleep
        self._dice = dice or random.Random()  # noqa: S311 - which rows are asked about is no secret
        self._troubles: dict[int, _Trouble] = {}
        self._lock = threading.Lock()

    def lets_go(self, slice_: Slice) -> bool:
        """Return whether rows of a slice may be sent, after taking the sample of its batch if that is due.

        If not, the slice is put off: another process is looking up, elepay cannot be asked, or the batch was stopped.
        """
        ends = self._clock() + WAIT_SECONDS
        while (due_at := self._ledger.sampling.due_at(slice_.batch_id)) is not None:
            now = self._ledger.now()
            if due_at <= now and self._ledger.sampling.claim(slice_.batch_id, LEASE_SECONDS):
                return self._take(slice_)
            if self._clock() >= ends or self._stopping():
                self._ledger.dispatch.put_off(slice_, now + PUT_OFF_SECONDS)
                return False
            self._sleep(LOOK_SECONDS)
        return True

    def _take(self, slice_: Slice) -> bool:
        """Look the sample up; True if the ledger knows every source of it."""
        batch_id = slice_.batch_id
        rows = self._ledger.sampling.rows(batch_id, self._dice)
        try:
            with ThreadPoolExecutor(max(1, len(rows)), thread_name_prefix="sample") as threads:
                unknown = sum(threads.map(self._has_unknown_source, rows))
        except (ElepayError, RateLimitUnavailable) as error:
            self._ledger.dispatch.put_off(slice_, self._ledger.now() + self._put_off(batch_id, error))
            return False
        with self._lock:
            self._troubles.pop(batch_id, None)
        if not unknown:
            self._ledger.sampling.end(batch_id)
            return True
        stop = Stop(StopCode.FORGOTTEN, {"unknown": unknown, "sampled": len(rows), "batch": batch_id})
        if self._ledger.lifecycle.pause(batch_id, stop):
            log.error("batch paused", batch=batch_id, why=stop_texts.sentence(stop))
        self._ledger.dispatch.put_off(slice_, self._ledger.now())
        return False

    def _has_unknown_source(self, row: SampledRow) -> bool:
        """Return whether elepay has a source of a row's identity that the ledger does not know."""
        try:
            listed = retrying_look_up(sleep=self._sleep, also=(Unclear,))(self._list, row)
        except _ABOUT_THE_ROW:
            return False
        wanted = identity_and_generation(row.reference)
        references = {source.reference for source in listed.sources if source.reference is not None}
        named = {reference: identity_and_generation(reference) for reference in references}
        newer = {
            reference
            for reference, key in named.items()
            if key is not None and wanted is not None and key[0] == wanted[0] and key[1] >= wanted[1]
        }
        return bool(newer - self._ledger.audit.created_references(newer))

    def _list(self, row: SampledRow) -> SourceList:
        if not self._limit.take_place(self._sleep, self._stopping):
            raise NotSent("not_sent")
        started = self._clock()
        try:
            return self._api.list_sources(row.customer_id, row.payment_method, fresh=True)
        except Throttled as error:
            with contextlib.suppress(RateLimitUnavailable):
                self._limit.cut(self._clock() - started, error.retry_after_seconds, bare=error.bare)
            raise

    def _put_off(self, batch_id: int, error: ElepayError | RateLimitUnavailable) -> float:
        """Let the sample be taken later, or halt the batch as after so many creates; return in how many seconds."""
        with self._lock:
            trouble = self._troubles.setdefault(batch_id, _Trouble(self._clock()))
            trouble.tries += 1
            first = trouble.tries == 1
        wait = PUT_OFF_SECONDS if self._stopping() else self._gap(error, trouble)
        if wait is None and isinstance(error, ElepayError):
            self._halt(batch_id, SILENT if isinstance(error, Unclear) else halting(error))
        elif first:
            log.warning("elepay cannot be asked before the first row of a batch", batch=batch_id, why=str(error))
        wait = wait or 0.0
        self._ledger.sampling.put_off(batch_id, self._ledger.now() + wait)
        return wait

    def _gap(self, error: ElepayError | RateLimitUnavailable, trouble: _Trouble) -> float | None:
        """Return the seconds until the next try; None: it has been tried for long enough."""
        lasted = self._clock() - trouble.since
        if isinstance(error, RateLimitUnavailable):
            return PUT_OFF_SECONDS
        if isinstance(error, Halted):
            return None
        if isinstance(error, Unclear):
            gap = max(2.0 ** min(trouble.tries, 10), error.retry_after_seconds or 0.0)
            return None if lasted > self._retry.maintenance_seconds else min(gap, MOST_GAP_SECONDS)
        wait = self._retry.wait_before_retry(error, trouble.tries, lasted)
        return None if wait is None else min(wait, MOST_GAP_SECONDS)

    def _halt(self, batch_id: int, stop: Stop) -> None:
        with self._lock:
            self._troubles.pop(batch_id, None)
        if self._ledger.lifecycle.change_state(batch_id, BatchState.HALTED, stop, only_from=[BatchState.RUNNING]):
            log.error("batch halted", batch=batch_id, why=stop_texts.sentence(stop))
