"""The sending loop of one process: take, pace, record, start, again and again.

All slices that a process works on feed one loop. Each of its steps is one commit:

1. take rows in turn from the slices, as many as may be in flight (`slice_queue`)
2. reserve places of the fleet's rate limit for them (`pacing`)
3. one transaction: mark them `sending`, write the outcomes that came back meanwhile, renew the lease (`recording`)
4. start their requests: each waits for its own place, looks at the lease, leaves (`request_starter`)
5. what came back is written by the next commit; a slice is done when its last outcome is committed

A row is on disk as `sending` before the first byte of its request leaves, so whatever dies, nothing sent is unknown.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from tasks.elepay.client import ElepayApi
from tasks.errors import LedgerError, RateLimitUnavailable
from tasks.ledger import Ledger
from tasks.models import Slice
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import CircuitBreaker
from tasks.send.outcomes import SendPolicy
from tasks.send.pacing import NO_PLACES, Pacing
from tasks.send.rate_limit import RateLimit
from tasks.send.recording import Recorder
from tasks.send.request_starter import RequestStarter
from tasks.send.row_sender import RowSender
from tasks.send.slice_claims import SliceClaims
from tasks.send.slice_queue import Completed, QueuedRow, SliceQueue, SliceRun
from tasks.send.worker_lease import WorkerLease
from tasks.send_window import Window

log = structlog.get_logger("onboard")

#: Threads for what must wait for an answer: look-ups, and slowing the fleet down.
BLOCKING_THREADS = 32
#: How long to wait before Redis or the ledger is asked again.
OUTAGE_PAUSE_SECONDS = 0.5


def _boottime() -> float:
    """Return a clock that never jumps and goes on while the machine is suspended (where the system has one)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True, slots=True)
class LoopSettings:
    """How much one process sends at once, and when it stops."""

    in_flight: int  #: requests at the same time, at most
    slice_seconds: float  #: then a slice gives back what was not sent
    lease_seconds: float  #: without a sign of life for so long, the rows of this process are taken back
    guard_answers: int  #: `BatchGuards`: so many first answers that a source does not exist halt a batch
    breaker_answers: int  #: ... a share of so many last answers that are refusals pauses it
    breaker_share: float
    window: Window = field(default_factory=Window)  #: when this process sends


class SendLoop:
    """One process's sending loop; `run_slice` may be called from several threads at once.

    `register` makes this process a worker of the ledger. `threads` do what must wait for an answer, and `starter`
    makes what starts requests; both are for tests that decide themselves when something goes on.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limiter: RateLimit,
        *,
        policy: SendPolicy,
        settings: LoopSettings,
        register: Callable[[], int],
        clock: Callable[[], float] = _boottime,
        sleep: Callable[[float], None] = time.sleep,
        threads: Executor | None = None,
        starter: Callable[..., RequestStarter] = RequestStarter,
    ) -> None:
        self._ledger, self._api, self._limiter = ledger, api, limiter
        self._clock, self._sleep = clock, sleep
        self._threads = threads or ThreadPoolExecutor(
            min(settings.in_flight, BLOCKING_THREADS), thread_name_prefix="ask"
        )
        self._breaker = CircuitBreaker(clock)
        guards = BatchGuards(
            ledger,
            guard_answers=settings.guard_answers,
            breaker_answers=settings.breaker_answers,
            breaker_share=settings.breaker_share,
        )
        delay = policy.look_up_delay_seconds
        self._lease = WorkerLease(register, settings.lease_seconds, clock)
        self._queue = SliceQueue(ledger, self._breaker, guards, settings.in_flight, clock)
        self._claims = SliceClaims(ledger, self._lease, guards, settings.window, settings.slice_seconds, delay, clock)
        self._pacing = Pacing(limiter, clock, sleep)
        self._recorder = Recorder(ledger, self._lease, self._queue, guards, api.renew_connections, delay, clock)
        sender = RowSender(
            ledger, api, limiter, policy, self._threads, lambda: self._breaker.outage_seconds, clock, sleep
        )
        self._starter = starter(sender, self._lease, self._threads, self._complete, api.total_seconds, clock, sleep)
        self._outage = ""
        self.failure: BaseException | None = None  #: by which the loop ended
        self._thread = threading.Thread(target=self._run, name="send-loop", daemon=True)

    def start(self) -> None:
        """Register this process as a worker and start the loop."""
        self.register()
        self._thread.start()

    def register(self) -> None:
        """Register this process as a worker, without a thread: whoever does not `start` the loop calls `step`."""
        self._lease.register()

    @property
    def worker(self) -> int:
        """The number of this process in the ledger; after a lost lease it is another one."""
        return self._lease.worker

    @property
    def moved_at(self) -> float:
        """When a row last moved, by the loop's clock."""
        return self._recorder.moved_at

    @property
    def stuck_seconds(self) -> float:
        """For how long rows have been open here without one moving, not counting pauses."""
        if not self._queue.has_slices:
            return 0.0
        idle_until = max(self.moved_at, self._pacing.paused_until, self._queue.busy_since, self._breaker.try_at)
        return max(0.0, self._clock() - idle_until)

    @property
    def failed(self) -> bool:
        """True if the loop ended by a failure: this process can do nothing more and should be started again."""
        return self.failure is not None or self._api.failed

    @property
    def in_flight(self) -> int:
        """How many rows are being sent or looked up now."""
        return self._queue.in_flight

    @property
    def draining(self) -> bool:
        """True once this process was asked to send nothing more."""
        return self._queue.draining

    def drain(self) -> None:
        """Send nothing more; slices end as soon as the last answer in flight is written, and give the rest back."""
        self._queue.draining = True  # no lock: a signal handler may call this in the middle of anything

    def stop(self, timeout_seconds: float) -> bool:
        """Drain and wait for the end of the loop; False if it did not come in time."""
        self.drain()
        self._queue.wake()
        self._thread.join(timeout_seconds)
        self._threads.shutdown(wait=False, cancel_futures=True)
        ended = not self._thread.is_alive()
        if ended and self.failure is None:
            self._ledger.workers.end(self.worker)
        return ended

    def run_slice(self, slice_: Slice) -> int:
        """Send (and look up) what is due in the slice; return when the outcome of everything sent is committed.

        What was not sent in `slice_seconds`, or because the window closes, or the batch or the process stops, is given
        back. Outside of the batch's window, or of this process's own, the slice is put off to the opening. Returns how
        many rows were claimed.
        """
        run = self.begin_slice(slice_)
        if run is None:
            return 0
        try:
            self._wait_for(run)
        except BaseException:
            self._claims.forget(run)
            raise
        self.end_slice(run)
        return run.claimed

    def begin_slice(self, slice_: Slice) -> SliceRun | None:
        """Claim what is due in a slice and queue it, to be ended by `end_slice`; None if nothing may be sent now."""
        if self.draining:
            self._ledger.dispatch.repeat(slice_)
            return None
        run = self._claims.claim(slice_)
        if run is not None:
            self._queue.add(run)
        return run

    def end_slice(self, run: SliceRun) -> None:
        """Give back what was not sent of a slice that is done."""
        self._claims.end(run)
        if run.claimed:
            log.debug(
                "slice done",
                batch=run.slice.batch_id,
                first_record=run.slice.first_record,
                rows=run.claimed,
                left=len(run.unsent),
            )

    def _wait_for(self, run: SliceRun) -> None:
        while not run.done.wait(1.0):
            if self.failure is not None or not self._thread.is_alive():
                raise LedgerError("the sending loop of this process has ended") from self.failure

    def _run(self) -> None:
        """Be the loop's thread."""
        try:
            self._queue.wait()
            while self.step():
                self._queue.wait()
        except BaseException as failure:
            self.failure = failure
            log.exception("sending loop failed", worker=self.worker)
            raise
        finally:
            self._queue.end_all()

    def step(self) -> bool:
        """Commit what there is and start its requests; False if nothing is left to do and the process drains."""
        self._queue.refresh()
        if self.draining and self._queue.is_empty:
            with contextlib.suppress(LedgerError):
                self._ledger.remember(at_once=True)
            return False
        rows = self._queue.take()
        completed = self._queue.take_completed()
        try:
            if rows or completed or self._lease.must_be_renewed:
                self._commit(rows, completed)
            self._claims.give_back_unknown()
            self._ledger.remember()
            self._log_end_of_outage()
        except (RateLimitUnavailable, LedgerError) as error:
            self._log_outage(str(error))
            self._sleep(OUTAGE_PAUSE_SECONDS)
        return True

    def _log_outage(self, why: str) -> None:
        if self._outage != why:
            self._outage = why
            log.error("nothing is sent", why=why)

    def _log_end_of_outage(self) -> None:
        if self._outage:
            log.info("goes on", after=self._outage)
            self._outage = ""

    def _commit(self, rows: list[QueuedRow], completed: list[Completed]) -> None:
        """Reserve, mark and start rows; write the outcomes, whatever happens to the rows.

        Rows that cannot leave go back into their queues, each exactly once.
        """
        places = NO_PLACES
        try:
            if rows:
                places = self._pacing.reserve(len(rows))
                self._queue.put_back(rows[places.rows :])
                rows = rows[: places.rows]
            if self._pacing.is_long_before(places):
                if completed:
                    self._recorder.write(completed, [])
                self._pacing.wait_for(places)
                completed = self._queue.take_completed()
            marked, seconds = self._recorder.write(completed, rows)
        except RateLimitUnavailable:
            self._queue.put_back(rows)
            self._recorder.write(completed, [])
            raise
        except LedgerError:
            self._queue.put_back(rows)
            raise
        if rows:
            self._pacing.learn(seconds)
        places = self._pacing.replace_missed(places, len(marked))
        self._queue.start(len(marked))
        self._starter.start([(run, row, places.at(number)) for number, (run, row) in enumerate(marked)], self.worker)

    def _complete(self, completed: Completed, was_look_up: bool) -> None:
        """Note what a request brought; any thread calls this."""
        pause_seconds = self._queue.complete(completed, was_look_up=was_look_up)
        if pause_seconds is not None:
            self._threads.submit(self._pause_fleet, pause_seconds)

    def _pause_fleet(self, seconds: float) -> None:
        """Let the fleet send nothing for so long, because nothing definite comes back."""
        log.warning("elepay answers nothing definite, so nothing is sent for now", seconds=seconds)
        with contextlib.suppress(RateLimitUnavailable):
            self._limiter.pause(seconds)
