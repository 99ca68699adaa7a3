"""One request of a row: it leaves or it does not, and the decision about what came back; safe from many threads."""

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

#: Maintenance is worth a line in the log when it has lasted for so long, in seconds.
WORTH_SAYING_SECONDS = 1.0


class RowSender:
    """Sends rows and looks them up, and slows the fleet down when elepay asks for it.

    What may block is done by the threads of `others`. `worker` is the number under which a row was marked; a row to be
    tried again is kept for it.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limiter: RateLimit,
        rules: SendPolicy,
        others: Executor,
        *,
        outage_seconds: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger, self._api, self._limiter, self._rules = ledger, api, limiter, rules
        self._others = others
        self._clock, self._sleep = clock, sleep
        self._outage_seconds = outage_seconds
        self._settling = SourceLookup(api, ledger, self._take_place, clock, list_lag_seconds=rules.list_lag_seconds)
        self._trouble_since: dict[str, float] = {}
        self._closed = False  #: it was said that elepay is under maintenance

    def send(
        self,
        row: LeasedRow,
        worker: int,
        then: Callable[[Decision], None],
        *,
        wait_seconds: float,
        keeps_back: Callable[[], str],
    ) -> None:
        """Create the row's source in `wait_seconds`; `then` is called once, by one thread or another.

        `keeps_back` is asked just before its bytes leave, and says why they may not.
        """
        request = SourceRequest(row.customer_id, row.payment_method, row.resource, *decode_request(row.request))
        starts = self._clock() + wait_seconds

        def completed(made: Source | ElepayError) -> None:
            took = self._clock() - starts
            counters.count_request(None if isinstance(made, Source) else made, took)
            if isinstance(made, Source):
                self._trouble_is_over()
                then(outcomes.created(row, made, latency_ms=int(took * 1000), rules=self._rules))
            elif isinstance(made, Fenced):
                then(outcomes.not_sent_in_time(row, keeps_back() or "lease ended"))
            else:  # the fleet may have to be told, and nobody else's answer should wait for that
                self._others.submit(self._after_failure, row, made, worker, took, then)

        self._api.begin_create(
            request, row.reference, completed, wait_seconds=wait_seconds, may_leave=lambda: not keeps_back()
        )

    def _after_failure(
        self, row: LeasedRow, error: ElepayError, worker: int, took: float, then: Callable[[Decision], None]
    ) -> None:
        try:
            recovery = self._slow_down(error, took)
            decision = self._failed(
                row, error, worker, None if error.http_status is None else int(took * 1000), recovery_seconds=recovery
            )
        except Exception as unexpected:  # noqa: BLE001 - the door of a thread: a bug must not leave a row without an outcome
            log.error("unexpected failure", batch=row.batch_id, line=row.line, error=type(unexpected).__name__)  # noqa: TRY400
            decision = self.broken(row, worker)
        then(decision)

    def look_up(self, row: LeasedRow, worker: int) -> Decision:
        """Ask elepay what became of an unclear row."""
        started, recovery = self._clock(), 0.0
        error: ElepayError
        try:
            found = self._settling.look_up(row)
        except ElepayError as raised:
            recovery = self._slow_down(raised, self._clock() - started)
            error = raised
        except RateLimitUnavailable:
            error = NotSent("not_sent")
        else:
            counters.count_look_up(found.finding.value)
            situation = self._situation(worker)
            if situation.outage_seconds and not self._ledger.queries.has_unsent(row.batch_id):
                situation = replace(situation, outage_seconds=0.0)  # no row will be sent after it and be a witness
            return outcomes.looked_up(row, found, situation, rules=self._rules)
        counters.count_look_up("failed")
        situation = self._situation(worker, recovery_seconds=recovery)
        return outcomes.look_up_failed(row, error, situation, rules=self._rules)

    def broken(self, row: LeasedRow, worker: int) -> Decision:
        """Decide about a row on which this program itself failed: whether it was sent, nobody knows."""
        return self._failed(row, Unclear("internal_error"), worker, None)

    def _failed(
        self, row: LeasedRow, error: ElepayError, worker: int, latency_ms: int | None, *, recovery_seconds: float = 0.0
    ) -> Decision:
        situation = self._situation(worker, trouble_seconds=self._trouble(error), recovery_seconds=recovery_seconds)
        return outcomes.failed(row, error, situation, latency_ms=latency_ms, rules=self._rules)

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
        if self._closed:
            self._closed = False
            log.info("elepay is open again")

    def _slow_down(self, error: ElepayError, seconds_ago: float) -> float:
        """Let the whole fleet know at once that elepay wants less, or nothing for now.

        Return the seconds until its rate has recovered.
        """
        try:
            if isinstance(error, Throttled):
                return self._limiter.cut(seconds_ago, error.retry_after_seconds, bare=error.bare)
            if isinstance(error, Maintenance) and error.code not in ONE_METHOD_ONLY:
                wait = self._rules.retry.wait_before_retry(error, self._maintenance_gaps(), 0.0)
                self._limiter.pause(wait or 1.0)
                self._say_closed(error)
        except RateLimitUnavailable:
            log.warning("Redis did not take the news of throttling or maintenance", code=error.code)
        return 0.0

    def _say_closed(self, error: Maintenance) -> None:
        since = self._trouble_since.get("Maintenance")
        if since is not None and self._clock() - since >= WORTH_SAYING_SECONDS and not self._closed:
            self._closed = True
            log.warning("elepay is under maintenance, so nothing is sent", code=error.code)

    def _maintenance_gaps(self) -> int:
        """Return which gap comes next: they grow with the time that maintenance has taken."""
        since = self._trouble_since.get("Maintenance")
        return 1 if since is None else max(1, int(self._clock() - since).bit_length())

    def _take_place(self) -> None:
        """Wait for one place of the rate limit."""
        self._limiter.take_place(self._sleep)
