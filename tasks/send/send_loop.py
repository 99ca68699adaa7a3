"""The sending loop of one process: mark, pace, send, record, wave by wave.

All slices that a process works on feed one loop. A *wave* is up to WAVE_ROWS rows:

1. take rows in turn from the slices, as many as may be under way
2. reserve places of the fleet's rate limit for them
3. one transaction: mark them `sending`, write the outcomes that came back meanwhile, renew the lease
4. let them fly: each waits for its own place, looks at the lease, leaves
5. what came back is written by the next wave; a slice is done when its last outcome is committed

A row is on disk as `sending` before the first byte of its request leaves, so whatever dies, nothing sent is unknown.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import structlog

from tasks.elepay.client import ElepayApi
from tasks.errors import LedgerError, RateLimitUnavailable
from tasks.ledger import Ledger, MarkResult
from tasks.metrics_registry import counters
from tasks.models import LeasedRow, RowState, Slice
from tasks.send import outcomes
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import CircuitBreaker
from tasks.send.outcomes import Decision, SendPolicy
from tasks.send.rate_limit import RateLimit
from tasks.send.row_sender import RowSender
from tasks.send_window import Window

log = structlog.get_logger("onboard")

#: Rows of one wave at most: one commit for so many.
WAVE_ROWS = 100
#: Threads for what must wait for an answer: look-ups, and telling the fleet to slow down.
BLOCKING_THREADS = 32
#: A new wave starts when so many requests may leave, or after WAVE_PAUSE_SECONDS.
WAVE_MIN_ROWS = 40
WAVE_PAUSE_SECONDS = 0.015
#: Without rows to send, outcomes gather for so long before they are written.
LANDED_PAUSE_SECONDS = 0.05
#: A wait for the rate limit longer than this is worth writing the outcomes first.
LONG_WAIT_SECONDS = 0.03
#: Where places are scarce, rows are marked so long (at most) before their place comes: a commit that takes longer makes
#: them late, and late rows crowd into the second after.
MOST_LEAD_SECONDS = 0.25
#: Places missed by more than this are given up.
LATE_SECONDS = 0.02
#: How long to wait before Redis or the ledger is asked again.
OUTAGE_PAUSE_SECONDS = 0.5


def _boottime() -> float:
    """Return a clock that never jumps and goes on while the machine is suspended (where the system has one)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(eq=False, slots=True)
class SliceRun:
    """What is left of one slice in this process."""

    slice: Slice
    worker: int  #: who claimed its rows
    ends: float  #: when it gives back what has not been sent, by the loop's clock
    queue: deque[LeasedRow]  #: to be sent
    questions: deque[LeasedRow] = field(default_factory=deque)  #: to be looked up
    closes: float = math.inf  #: when the window closes, by the loop's clock: no request leaves from then on
    delayed: list[tuple[float, int, LeasedRow]] = field(default_factory=list)  #: heap by due time
    open: int = 0  #: rows whose last outcome is not committed
    left: list[LeasedRow] = field(default_factory=list)  #: rows to be given back unsent
    not_before: dict[tuple[int, int], float] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def add(self, row: LeasedRow) -> None:
        """Let a row be sent or looked up after those that are there."""
        (self.questions if row.look_up else self.queue).append(row)

    def put_back(self, row: LeasedRow) -> None:
        """Let a row be sent or looked up before those that are there."""
        (self.questions if row.look_up else self.queue).appendleft(row)

    def take_rest(self) -> list[LeasedRow]:
        """Take out every row that is not under way."""
        rest = [*self.queue, *self.questions, *(late[2] for late in self.delayed)]
        self.queue.clear()
        self.questions.clear()
        self.delayed.clear()
        return rest


@dataclass(frozen=True, slots=True)
class Completed:
    """One decision on its way to the ledger."""

    work: SliceRun
    row: LeasedRow
    decision: Decision


class SendLoop:
    """One process's sending loop; `run_slice` may be called from several threads at once."""

    def __init__(
        self,
        ledger: Ledger,
        api: ElepayApi,
        limiter: RateLimit,
        *,
        rules: SendPolicy,
        register: Callable[[], int],
        in_flight: int,
        slice_seconds: float,
        lease_seconds: float,
        guard_answers: int,
        breaker_answers: int,
        breaker_share: float,
        window: Window | None = None,
        clock: Callable[[], float] = _boottime,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger, self._api, self._limiter = ledger, api, limiter
        self._look_up_delay_seconds = rules.look_up_delay_seconds
        self._register = register
        self._in_flight = in_flight
        self._slice_seconds, self._lease_seconds = slice_seconds, lease_seconds
        self._window = window or Window()
        self._clock, self._sleep = clock, sleep
        self._consequences = BatchGuards(
            ledger, guard_answers=guard_answers, breaker_answers=breaker_answers, breaker_share=breaker_share
        )
        self._breaker = CircuitBreaker(clock)
        self._pool = ThreadPoolExecutor(min(in_flight, BLOCKING_THREADS), thread_name_prefix="ask")
        self._sender = RowSender(
            ledger,
            api,
            limiter,
            rules,
            self._pool,
            outage_seconds=lambda: self._breaker.outage_seconds,
            clock=clock,
            sleep=sleep,
        )
        self._changed = threading.Condition()
        self._works: deque[SliceRun] = deque()
        self._completed: deque[Completed] = deque()
        self._flying = 0
        self._held_up = False  # rows are queued, and for now none of them may leave
        self._lease_ends = 0.0
        self._lease_renewed = 0.0
        self._lead_seconds = 0.15  # the first commit is the slowest
        self._scarce = True
        self._worker = 0
        self._stopping = False
        self._claiming = threading.Lock()  # held from a claim until its rows are known here
        self._known: dict[SliceRun, frozenset[tuple[int, int]]] = {}
        self._audited = clock()
        self._numbers = itertools.count()
        self._paused_until = 0.0
        self._busy_since = 0.0
        self._outage = ""
        self.failure: BaseException | None = None  #: by which the loop ended
        self.moved_at = clock()  #: when a row last moved, by `clock`
        self._thread = threading.Thread(target=self._run, name="send-loop", daemon=True)

    def start(self) -> None:
        """Register this process as a worker and start the loop."""
        self._register_worker()
        self._thread.start()

    @property
    def stuck_seconds(self) -> float:
        """For how long rows have been open here without one moving, not counting pauses."""
        if not self._works:
            return 0.0
        idle_until = max(self.moved_at, self._paused_until, self._busy_since, self._breaker.try_at)
        return max(0.0, self._clock() - idle_until)

    @property
    def failed(self) -> bool:
        """True if the loop ended by a failure: this process can do nothing more and should be started again."""
        return self.failure is not None or self._api.failed

    @property
    def under_way(self) -> int:
        """How many rows are being sent or looked up now."""
        return self._flying

    @property
    def draining(self) -> bool:
        """True once this process was told to send nothing more."""
        return self._stopping

    def drain(self) -> None:
        """Send nothing more; slices end as soon as the last answer under way is written, and give the rest back."""
        self._stopping = True  # no lock: a signal handler may call this in the middle of anything

    def stop(self, timeout_seconds: float) -> bool:
        """Retire and wait for the end of the loop; False if it did not come in time."""
        self.drain()
        self._thread.join(timeout_seconds)
        self._pool.shutdown(wait=False, cancel_futures=True)
        ended = not self._thread.is_alive()
        if ended and self.failure is None:
            self._ledger.workers.end(self._worker)
        return ended

    def run_slice(self, one: Slice) -> int:
        """Send (and look up) what is due in the slice; return when the outcome of everything sent is committed.

        What was not sent in `slice_seconds`, or because the window closes, or the batch or the process stops, is given
        back. Outside of the batch's window, or of this process's own, the slice is put off to the opening. Returns how
        many rows were claimed.
        """
        if self._stopping:
            self._ledger.dispatch.repeat(one)
            return 0
        now = self._ledger.now()
        window = self._window.span_with(self._ledger.dispatch.window_of(one.batch_id), now)
        if window.opens_at > now:
            self._ledger.dispatch.put_off(one, window.opens_at)
            return 0
        self._consequences.read_closed(one.batch_id)
        work = self._take(one, self._clock() + window.closes_at - now)
        claimed = work.open
        try:
            if claimed:
                self._work_on(work)
                self._ledger.leases.release(work.worker, work.left, work.not_before)
        finally:
            del self._known[work]
        self._ledger.dispatch.finish(one)
        if claimed:
            log.debug(
                "slice done", batch=one.batch_id, first_record=one.first_record, rows=claimed, left=len(work.left)
            )
        return claimed

    def _take(self, one: Slice, closes: float = math.inf) -> SliceRun:
        """Claim what is due in a slice; from now on the audit knows of it."""
        with self._claiming:
            worker = self._worker
            held = self._ledger.leases.claim(one, worker)
            ends = min(self._clock() + self._slice_seconds, closes)
            work = SliceRun(one, worker, ends, deque(), closes=closes, open=len(held))
            for row in held:
                work.add(row)
            self._known[work] = frozenset((row.batch_id, row.record) for row in held)
        return work

    def _work_on(self, work: SliceRun) -> None:
        """Hand a slice's rows to the loop and wait for the last of them."""
        with self._changed:
            if not self._works:
                self._busy_since = self._clock()
            self._works.append(work)
            self._changed.notify_all()
        while not work.done.wait(1.0):
            if self.failure is not None or not self._thread.is_alive():
                raise LedgerError("the sending loop of this process has ended") from self.failure

    # ------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except BaseException as failure:
            self.failure = failure
            log.exception("sending loop failed", worker=self._worker)
            raise
        finally:
            with self._changed:
                for work in self._works:
                    work.done.set()

    def _turn(self) -> bool:
        """Fly one wave; False when there is nothing left to do and the process stops."""
        with self._changed:
            self._changed.wait_for(self._worth_a_wave, timeout=self._patience())
            self._retire()
            if self._stopping and not self._works and not self._completed and not self._flying:
                with contextlib.suppress(LedgerError):
                    self._ledger.remember(at_once=True)
                return False
            rows = self._pick()
            completed = self._take_landed()
        try:
            if rows or completed or self._clock() - self._lease_renewed > self._lease_seconds / 4:
                self._wave(rows, completed)
            self._audit()
            self._ledger.remember()
            if self._outage:
                log.info("goes on", after=self._outage)
                self._outage = ""
        except (RateLimitUnavailable, LedgerError) as error:
            if self._outage != str(error):
                self._outage = str(error)
                log.error("nothing is sent", why=self._outage)  # noqa: TRY400 - the sentence says it all
            self._sleep(OUTAGE_PAUSE_SECONDS)
        return True

    def _worth_a_wave(self) -> bool:
        if self._stopping:
            return not self._flying
        free = self._in_flight - self._flying
        return not self._held_up and self._queued() and free >= min(WAVE_MIN_ROWS, self._in_flight)

    def _queued(self) -> bool:
        return any(work.queue or work.questions for work in self._works)

    def _patience(self) -> float:
        if self._queued():
            return WAVE_PAUSE_SECONDS
        return LANDED_PAUSE_SECONDS if self._works or self._completed else 0.5

    def _retire(self) -> None:
        """Bring due rows back into the queues; take the rest out of slices that must end."""
        now = self._clock()
        for work in self._works:
            while work.delayed and work.delayed[0][0] <= now:
                work.add(heapq.heappop(work.delayed)[2])
            too_far = work.delayed and work.delayed[0][0] > work.ends
            if self._stopping or now >= work.ends or (too_far and work.open == len(work.delayed)):
                self._leave(work, work.take_rest())
        self._finish_works()

    def _leave(self, work: SliceRun, rows: list[LeasedRow]) -> None:
        work.left.extend(rows)
        work.open -= len(rows)

    def _finish_works(self) -> None:
        for work in [work for work in self._works if work.open == 0]:
            self._works.remove(work)
            work.done.set()

    def _pick(self) -> list[tuple[SliceRun, LeasedRow]]:
        """Take rows in turn from every slice, as many as may be under way."""
        room = min(self._in_flight - self._flying, WAVE_ROWS)
        picked: list[tuple[SliceRun, LeasedRow]] = []
        busy = [work for work in self._works if work.queue or work.questions]
        while busy and len(picked) < room:
            still_busy = []
            for work in busy:
                before = len(picked)
                self._pick_from(work, picked, room)
                if len(picked) > before:
                    still_busy.append(work)
            busy = still_busy
        self._works.rotate(-1)
        self._held_up = not picked and self._queued()
        return picked

    def _pick_from(self, work: SliceRun, picked: list[tuple[SliceRun, LeasedRow]], room: int) -> None:
        """Take one row to look up and one to send from a slice, if there is room and they may leave."""
        if work.questions and len(picked) < room and self._breaker.look_ups_allowed() != 0:
            self._breaker.look_up_leaves()
            picked.append((work, work.questions.popleft()))
        batch_id = work.slice.batch_id
        while work.queue and len(picked) < room and self._breaker.creates_allowed(batch_id) != 0:
            row = work.queue.popleft()
            shut = self._consequences.closed(row)
            if shut is None:
                self._breaker.create_leaves(batch_id)
                picked.append((work, row))
                return
            if shut[1] is None:
                self._completed.append(Completed(work, row, outcomes.closed(row, line=shut[0])))
            else:
                self._delay(work, row, shut[1] - self._ledger.now())

    def _stays(self, row: LeasedRow) -> None:
        """Note that a row that was picked does not leave after all."""
        if row.look_up:
            self._breaker.look_up_ended(None)
        else:
            self._breaker.create_ended(row.batch_id, None)

    def _delay(self, work: SliceRun, row: LeasedRow, seconds: float) -> None:
        heapq.heappush(work.delayed, (self._clock() + seconds, next(self._numbers), row))
        work.not_before[row.batch_id, row.record] = self._ledger.now() + seconds

    def _back(self, rows: list[tuple[SliceRun, LeasedRow]]) -> None:
        with self._changed:
            for work, row in reversed(rows):
                self._stays(row)
                work.put_back(row)

    def _take_landed(self) -> list[Completed]:
        completed = list(self._completed)
        self._completed.clear()
        return completed

    def _audit(self) -> None:
        """Give back what the ledger holds for this worker and this process knows nothing of.

        When a commit's answer is lost (the database restarts), a claim may have come true and nobody works on it.
        """
        due = self._clock() - self._audited > self._lease_seconds / 4
        if not due or not self._claiming.acquire(blocking=False):
            return
        try:
            known = set().union(*self._known.values())
            back = self._ledger.reaper.give_back_unknown(self._worker, known, self._look_up_delay_seconds)
        finally:
            self._claiming.release()
        self._audited = self._clock()
        if back:
            log.warning("rows without work given back", worker=self._worker, rows=back)

    # ------------------------------------------------------------------ one wave

    def _wave(self, rows: list[tuple[SliceRun, LeasedRow]], completed: list[Completed]) -> None:
        """Reserve, mark and send; write what has landed, whatever happens to the rows.

        Rows that cannot leave go back into their queues, each exactly once.
        """
        first = interval = 0.0
        try:
            if rows:
                rows, first, interval = self._reserve(rows)
            if first - self._clock() > LONG_WAIT_SECONDS:
                if completed:
                    self._write(completed, [])
                self._sleep(max(0.0, first - self._clock() - self._lead_seconds))
                with self._changed:
                    completed = self._take_landed()
            marked = self._write(completed, rows)
        except RateLimitUnavailable:
            self._back(rows)
            self._write(completed, [])
            raise
        except LedgerError:
            self._back(rows)
            raise
        if marked and self._scarce and self._clock() - first > LATE_SECONDS:
            first, interval = self._places_again(len(marked), first, interval)
        with self._changed:
            self._flying += len(marked)
        self._depart([(work, row, first + place * interval) for place, (work, row) in enumerate(marked)], self._worker)

    def _reserve(self, rows: list[tuple[SliceRun, LeasedRow]]) -> tuple[list[tuple[SliceRun, LeasedRow]], float, float]:
        """Return the rows that have a place, when the first place is, and the time from place to place."""
        lead = self._lead_seconds if self._scarce else 0.0
        reserved = self._limiter.reserve(len(rows), lead)
        now = self._clock()
        self._scarce = reserved.wait_seconds > lead + 0.001
        if reserved.places < len(rows):
            self._back(rows[reserved.places :])
            rows = rows[: reserved.places]
        if not rows:
            self._paused_until = now + reserved.wait_seconds
        wait = reserved.wait_seconds if rows else min(max(reserved.wait_seconds - 0.5, 0.02), 1.0)
        return rows, now + wait, reserved.interval_seconds

    def _places_again(self, rows: int, first: float, interval: float) -> tuple[float, float]:
        """Let places go that were missed, and take others: late rows would crowd into the next second."""
        with contextlib.suppress(RateLimitUnavailable):
            reserved = self._limiter.reserve(rows)
            if reserved.places == rows:
                return self._clock() + reserved.wait_seconds, reserved.interval_seconds
        return first, interval

    def _write(
        self, completed: list[Completed], rows: list[tuple[SliceRun, LeasedRow]]
    ) -> list[tuple[SliceRun, LeasedRow]]:
        """One transaction; return the rows that may leave now.

        Rows that a former number of this process has claimed are let go: they may have been claimed once more, by this
        very process, and must not be marked for their old copies.
        """
        started, worker = self._clock(), self._worker
        to_send = [row for work, row in rows if not row.look_up and work.worker == worker]
        for one in completed:
            if one.work.worker != worker:
                outcomes.leave_to_others(one.decision.outcome)
        try:
            wave = self._ledger.leases.record_and_mark(
                worker,
                [one.decision.outcome for one in completed],
                to_send,
                self._lease_seconds,
                look_up_delay_seconds=self._look_up_delay_seconds,
            )
        except LedgerError:
            with self._changed:
                self._completed.extendleft(reversed(completed))
            raise
        counters.count_wave()
        if wave.lease_kept:
            self._lease_ends = started + self._lease_seconds
        self._lease_renewed = started
        if rows:
            took = self._clock() - started
            self._lead_seconds = min(MOST_LEAD_SECONDS, max(1.3 * took + 0.005, 0.97 * self._lead_seconds))
        if wave.doubted:
            log.warning("sources that other rows hold were answered, to be looked up", rows=wave.doubted)
            self._api.renew_connections()
        self._finish_completed(completed)
        with self._changed:
            marked = [(work, row) for work, row in rows if self._may_leave(work, row, wave, worker)]
            for work in self._works:
                if work.slice.batch_id in wave.stopped or not wave.lease_kept:
                    self._leave(work, work.take_rest())
            self._finish_works()
        if not wave.lease_kept:
            log.warning(
                "lease lost: this process was given up for dead, its rows were given to others", worker=self._worker
            )
            with contextlib.suppress(LedgerError):  # else this number stays without a lease, and the next wave sees it
                self._register_worker()
        return marked

    def _may_leave(self, work: SliceRun, row: LeasedRow, wave: MarkResult, worker: int) -> bool:
        """Tell whether a row of a wave may be sent (or looked up); if not, it leaves its work."""
        stopped = wave.lease_kept and not row.look_up and row.batch_id in wave.stopped
        if stopped or work.worker != worker:
            self._stays(row)
            self._leave(work, [row])
            return False
        if not wave.lease_kept or (not row.look_up and not wave.take(row)):
            self._stays(row)
            work.open -= 1  # not ours any more
            return False
        if not row.look_up:
            row.attempts, row.sent_at = row.attempts + 1, wave.at
        return True

    def _register_worker(self) -> None:
        started = self._clock()
        self._worker = self._register()
        self._lease_ends, self._lease_renewed = started + self._lease_seconds, started

    def _finish_completed(self, completed: list[Completed]) -> None:
        """After their commit: put back what is tried again, and let the others go."""
        if not completed:
            return
        self.moved_at = self._clock()
        with self._changed:
            for one in completed:
                outcome = one.decision.outcome
                if outcome.worker is not None and one.decision.again_after is not None:
                    one.row.look_up = outcome.state is RowState.UNCLEAR
                    one.row.look_ups, one.row.resends, one.row.code = outcome.look_ups, outcome.resends, outcome.code
                    one.row.ended_at, one.row.absent_at = outcome.ended_at, outcome.absent_at
                    self._delay(one.work, one.row, one.decision.again_after)
                else:
                    one.work.open -= 1
            self._finish_works()
        for one in completed:
            self._consequences.take_effect(one.row, one.decision)

    # ------------------------------------------------------------------ in other threads

    def _depart(self, rows: list[tuple[SliceRun, LeasedRow, float]], worker: int) -> None:
        """Let rows leave, each at its place; `worker` is who marked them. Their decisions are for the next wave."""

        def keeps_back(closes: float) -> str:
            lease_ends = self._lease_ends  # before the look at the worker: a new one has a new lease
            if worker != self._worker or self._clock() + self._api.total_seconds > lease_ends:
                return "lease ended"
            return "window closed" if self._clock() >= closes else ""

        for work, row, place in rows:
            land = functools.partial(self._land, work, row, row.look_up)
            wait = max(0.0, place - self._clock())
            try:
                if row.look_up:
                    self._pool.submit(self._look_up, row, worker, wait, land)
                else:
                    why_not = functools.partial(keeps_back, work.closes)
                    self._sender.send(row, worker, land, wait_seconds=wait, keeps_back=why_not)
            except Exception as error:  # noqa: BLE001 - a bug must not leave a row without an outcome
                self._unexpected(row, error)
                land(self._sender.broken(row, worker))

    def _look_up(self, row: LeasedRow, worker: int, wait: float, land: Callable[[Decision], None]) -> None:
        self._sleep(wait)
        try:
            decision = self._sender.look_up(row, worker)
        except Exception as error:  # noqa: BLE001 - the door of a thread, as above
            self._unexpected(row, error)
            decision = self._sender.broken(row, worker)
        land(decision)

    def _unexpected(self, row: LeasedRow, error: Exception) -> None:
        log.error("unexpected failure", batch=row.batch_id, line=row.line, error=type(error).__name__)

    def _land(self, work: SliceRun, row: LeasedRow, asked: bool, decision: Decision) -> None:
        """Note what a request brought; `asked`: it was a look-up."""
        with self._changed:
            if asked:
                pause_seconds = self._breaker.look_up_ended(decision.definite)
            else:
                pause_seconds = self._breaker.create_ended(row.batch_id, decision.definite)
            self._completed.append(Completed(work, row, decision))
            self._flying -= 1
            self._held_up = False
            if self._in_flight - self._flying >= WAVE_MIN_ROWS or not self._flying:
                self._changed.notify_all()
        if pause_seconds is not None:
            self._pool.submit(self._pause_fleet, pause_seconds)

    def _pause_fleet(self, seconds: float) -> None:
        """Let the fleet send nothing for so long, because nothing definite comes back."""
        log.warning("elepay answers nothing definite, so nothing is sent for now", seconds=seconds)
        with contextlib.suppress(RateLimitUnavailable):
            self._limiter.pause(seconds)
