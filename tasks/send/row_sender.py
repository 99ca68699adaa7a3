"""One request of a row, and the decision about its answer; safe to share between threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace

import structlog

from tasks.accept import decode_request
from tasks.elepay.client import ElepayApi
from tasks.elepay.codes import ONE_METHOD_ONLY
from tasks.errors import ElepayError, Fenced, Maintenance, NotSent, RateLimitUnavailable, Throttled, Unclear
from tasks.ledger import Ledger
from tasks.metrics_registry import counters
from tasks.models import LeasedRow, Source, SourceRequest
from tasks.send import outcomes
from tasks.send.outcomes import Decision, SendPolicy, Situation
from tasks.send.rate_limit import RateLimit
from tasks.send.source_lookup import SourceLookup

log = structlog.get_logger("onboard")

#: Maintenance is logged when it has lasted for so long.
LOG_AFTER_SECONDS = 1.0


class RowSender:
    """Sends rows and looks them up, and slows the fleet down when elepay asks for it.

    `threads` do what may block. `worker` is the number under which a row was marked; a row to be
    tried again is kept for it.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limiter: RateLimit,
        policy: SendPolicy,
        threads: Executor,
        outage_seconds: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger, self._api, self._limiter, self._policy = ledger, api, limiter, policy
        self._threads = threads
        self._clock, self._sleep = clock, sleep
        self._outage_seconds = outage_seconds
        self._lookup = SourceLookup(api, ledger, self._take_place, clock, list_lag_seconds=policy.list_lag_seconds)
        self._trouble_since: dict[str, float] = {}
        self._maintenance_logged = False

    def send(
        self,
        row: LeasedRow,
        worker: int,
        on_decision: Callable[[Decision], None],
        *,
        wait_seconds: float,
        fenced: Callable[[], str],
    ) -> None:
        """Create the row's source in `wait_seconds`; `on_decision` is called once, by any thread.

        `fenced` is called just before its bytes leave, and returns why they may not (nothing if they may).
        """
        request = SourceRequest(row.customer_id, row.payment_method, row.resource, *decode_request(row.request))
        starts_at = self._clock() + wait_seconds

        def completed(made: Source | ElepayError) -> None:
            took = self._clock() - starts_at
            counters.count_request(None if isinstance(made, Source) else made, took)
            if isinstance(made, Source):
                self._trouble_is_over()
                on_decision(outcomes.created(row, made, latency_ms=int(took * 1000), policy=self._policy))
            elif isinstance(made, Fenced):
                on_decision(outcomes.not_sent_in_time(row, fenced() or "lease ended"))
            else:  # the fleet may have to slow down, and no other answer should wait for that
                self._threads.submit(self._after_failure, row, made, worker, took, on_decision)

        self._api.begin_create(
            request, row.reference, completed, wait_seconds=wait_seconds, may_leave=lambda: not fenced()
        )

    def _after_failure(
        self,
        row: LeasedRow,
        error: ElepayError,
        worker: int,
        took: float,
        on_decision: Callable[[Decision], None],
    ) -> None:
        try:
            recovery = self._slow_down(error, took)
            decision = self._failed(
                row, error, worker, None if error.http_status is None else int(took * 1000), recovery_seconds=recovery
            )
        except Exception as unexpected:  # noqa: BLE001 - the door of a thread: a bug must not leave a row without an outcome
            log.error("unexpected failure", batch=row.batch_id, line=row.line, error=type(unexpected).__name__)  # noqa: TRY400
            decision = self.broken(row, worker)
        on_decision(decision)

    def look_up(self, row: LeasedRow, worker: int) -> Decision:
        """Ask elepay what became of an unclear row."""
        started, recovery = self._clock(), 0.0
        error: ElepayError
        try:
            result = self._lookup.look_up(row)
        except ElepayError as raised:
            recovery = self._slow_down(raised, self._clock() - started)
            error = raised
        except RateLimitUnavailable:
            error = NotSent("not_sent")
        else:
            counters.count_look_up(result.finding.value)
            situation = self._situation(worker)
            if situation.outage_seconds and not self._ledger.queries.has_unsent(row.batch_id):
                situation = replace(
                    situation, outage_seconds=0.0
                )  # no row will be sent after it, so no control source comes
            return outcomes.looked_up(row, result, situation, policy=self._policy)
        counters.count_look_up("failed")
        situation = self._situation(worker, recovery_seconds=recovery)
        return outcomes.look_up_failed(row, error, situation, policy=self._policy)

    def broken(self, row: LeasedRow, worker: int) -> Decision:
        """Decide about a row on which this program itself failed: it may have been sent."""
        return self._failed(row, Unclear("internal_error"), worker, None)

    def _failed(
        self, row: LeasedRow, error: ElepayError, worker: int, latency_ms: int | None, *, recovery_seconds: float = 0.0
    ) -> Decision:
        situation = self._situation(worker, trouble_seconds=self._trouble(error), recovery_seconds=recovery_seconds)
        return outcomes.failed(row, error, situation, latency_ms=latency_ms, policy=self._policy)

    def _situation(self, worker: int, *, trouble_seconds: float = 0.0, recovery_seconds: float = 0.0) -> Situation:
        return Situation(worker, self._ledger.now(), trouble_seconds, self._outage_seconds(), recovery_seconds)

    def _trouble(self, error: ElepayError) -> float:
        """Return for how long everything has failed like this, in seconds; any other answer starts anew."""
        method_only = error.code in ONE_METHOD_ONLY
        kind = type(error).__name__ + (error.code if method_only else "")
        if error.bare or not isinstance(error, NotSent | Throttled | Maintenance):
            self._trouble_is_over()
            return 0.0
        return self._clock() - self._trouble_since.setdefault(kind, self._clock())

    def _trouble_is_over(self) -> None:
        self._trouble_since.clear()
        if self._maintenance_logged:
            self._maintenance_logged = False
            log.info("elepay is open again")

    def _slow_down(self, error: ElepayError, seconds_ago: float) -> float:
        """Slow the whole fleet down, or pause it, as elepay asks.

        Return the seconds until its rate has recovered.
        """
        try:
            if isinstance(error, Throttled):
                return self._limiter.cut(seconds_ago, error.retry_after_seconds, bare=error.bare)
            if isinstance(error, Maintenance) and error.code not in ONE_METHOD_ONLY:
                wait = self._policy.retry.wait_before_retry(error, self._maintenance_gaps(), 0.0)
                self._limiter.pause(wait or 1.0)
                self._log_maintenance(error)
        except RateLimitUnavailable:
            log.warning("Redis did not take the news of throttling or maintenance", code=error.code)
        return 0.0

    def _log_maintenance(self, error: Maintenance) -> None:
        since = self._trouble_since.get("Maintenance")
        if since is not None and self._clock() - since >= LOG_AFTER_SECONDS and not self._maintenance_logged:
            self._maintenance_logged = True
            log.warning("elepay is under maintenance, so nothing is sent", code=error.code)

    def _maintenance_gaps(self) -> int:
        """Return which gap comes next: they grow with the time that maintenance has taken."""
        since = self._trouble_since.get("Maintenance")
        return 1 if since is None else max(1, int(self._clock() - since).bit_length())

    def _take_place(self) -> None:
        """Wait for one place of the rate limit."""
        self._limiter.take_place(self._sleep)
