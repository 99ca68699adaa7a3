"""The rows that this process holds: queued by slice, in flight, or completed and not recorded yet.

Rows are taken in turn from every slice, so that a large batch does not hold up a small one. A slice ends when the last
outcome of its rows is recorded; what it could not send it gives back.
"""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tasks.ledger import Ledger
from tasks.models import LeasedRow, RowState, Slice
from tasks.send import outcomes
from tasks.send.batch_guards import BatchGuards
from tasks.send.circuit_breaker import CircuitBreaker
from tasks.send.outcomes import Decision

#: Rows of one commit at most.
COMMIT_ROWS = 100
#: A new commit starts when so many requests may leave, or after COMMIT_PAUSE_SECONDS.
COMMIT_MIN_ROWS = 40
COMMIT_PAUSE_SECONDS = 0.015
#: Without rows to send, outcomes gather for so long before they are written.
COMPLETED_PAUSE_SECONDS = 0.05
#: Without slices, the loop looks so often whether its lease is to be renewed.
IDLE_PAUSE_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class SliceRun:
    """What is left of one slice in this process; only the loop's thread changes it once it is queued."""

    slice: Slice
    worker: int  #: who claimed its rows
    ends_at: float  #: when it gives back what has not been sent, by the loop's clock
    closes_at: float = math.inf  #: when the send window closes, by the loop's clock: no request leaves from then on
    to_send: deque[LeasedRow] = field(default_factory=deque)
    to_look_up: deque[LeasedRow] = field(default_factory=deque)
    delayed: list[tuple[float, int, LeasedRow]] = field(default_factory=list)  #: heap by due time
    claimed: int = 0  #: rows that there were at first
    open: int = 0  #: rows whose last outcome is not recorded
    unsent: list[LeasedRow] = field(default_factory=list)  #: rows to be given back
    not_before: dict[tuple[int, int], float] = field(default_factory=dict)  #: by batch and record, the ledger's time
    done: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def is_queued(self) -> bool:
        """True if a row could be taken now."""
        return bool(self.to_send or self.to_look_up)

    def add(self, row: LeasedRow) -> None:
        """Queue a row behind the others."""
        (self.to_look_up if row.look_up else self.to_send).append(row)

    def put_back(self, row: LeasedRow) -> None:
        """Queue a row before the others."""
        (self.to_look_up if row.look_up else self.to_send).appendleft(row)

    def delay(self, row: LeasedRow, due_at: float, not_before: float) -> None:
        """Queue a row at `due_at` by the loop's clock, which is `not_before` by the ledger's."""
        heapq.heappush(self.delayed, (due_at, next(self._numbers), row))
        self.not_before[row.batch_id, row.record] = not_before

    def add_due(self, now: float) -> None:
        """Queue the delayed rows whose time has come."""
        while self.delayed and self.delayed[0][0] <= now:
            self.add(heapq.heappop(self.delayed)[2])

    def must_end(self, now: float) -> bool:
        """Return whether its time is over, or will be before any of its rows is due."""
        too_late = self.delayed and self.delayed[0][0] > self.ends_at
        return now >= self.ends_at or bool(too_late and self.open == len(self.delayed))

    def give_up(self, row: LeasedRow) -> None:
        """Let a row that was taken go back to the ledger unsent."""
        self.unsent.append(row)
        self.open -= 1

    def give_up_queued(self) -> None:
        """Let every row that is not in flight go back to the ledger unsent."""
        rows = [*self.to_send, *self.to_look_up, *(late[2] for late in self.delayed)]
        self.to_send.clear()
        self.to_look_up.clear()
        self.delayed.clear()
        self.unsent.extend(rows)
        self.open -= len(rows)


#: A row and the slice that it was taken from.
QueuedRow: TypeAlias = tuple[SliceRun, LeasedRow]


@dataclass(frozen=True, slots=True)
class Completed:
    """One decision on its way to the ledger."""

    run: SliceRun
    row: LeasedRow
    decision: Decision


class SliceQueue:
    """The slices of this process; safe to share between threads.

    The breaker is called under this queue's lock only. Of the ledger it needs the time.
    """

    def __init__(
        self,
        ledger: Ledger,
        breaker: CircuitBreaker,
        guards: BatchGuards,
        in_flight_limit: int,
        clock: Callable[[], float],
    ) -> None:
        self._ledger, self._breaker, self._guards = ledger, breaker, guards
        self._in_flight_limit = in_flight_limit
        self._clock = clock
        self._changed = threading.Condition()
        self._runs: deque[SliceRun] = deque()
        self._completed: deque[Completed] = deque()
        self._blocked = False  # rows are queued, and for now none of them may leave
        self.in_flight = 0  #: rows that are being sent or looked up
        self.busy_since = 0.0  #: when the first of the present slices came
        self.draining = False  #: nothing more is to be sent

    @property
    def has_slices(self) -> bool:
        """True while a slice has rows whose last outcome is not recorded."""
        return bool(self._runs)

    @property
    def is_empty(self) -> bool:
        """True if this process holds no row, and no outcome that is not recorded."""
        return not self._runs and not self._completed and not self.in_flight

    def add(self, run: SliceRun) -> None:
        """Queue a slice; one without rows is done."""
        if not run.open:
            run.done.set()
            return
        with self._changed:
            if not self._runs:
                self.busy_since = self._clock()
            self._runs.append(run)
            self._changed.notify_all()

    def end_all(self) -> None:
        """End every wait for a slice: the loop has ended."""
        with self._changed:
            for run in self._runs:
                run.done.set()

    def wait(self) -> None:
        """Wait until a commit is worth its price, or outcomes have waited for long enough."""
        with self._changed:
            self._changed.wait_for(self._is_worth_a_commit, timeout=self._patience_seconds())

    def wake(self) -> None:
        """End a wait whose reason has changed without the queue's knowledge."""
        with self._changed:
            self._changed.notify_all()

    def _is_worth_a_commit(self) -> bool:
        if self.draining:
            return not self.in_flight
        free = self._in_flight_limit - self.in_flight
        return not self._blocked and self._is_queued() and free >= min(COMMIT_MIN_ROWS, self._in_flight_limit)

    def _is_queued(self) -> bool:
        return any(run.to_send or run.to_look_up for run in self._runs)

    def _patience_seconds(self) -> float:
        if self._is_queued():
            return COMMIT_PAUSE_SECONDS
        return COMPLETED_PAUSE_SECONDS if self._runs or self._completed else IDLE_PAUSE_SECONDS

    def refresh(self) -> None:
        """Queue the rows that have become due, and end the slices that must end."""
        now = self._clock()
        with self._changed:
            for run in self._runs:
                run.add_due(now)
                if self.draining or run.must_end(now):
                    run.give_up_queued()
            self._finish_runs()

    def _finish_runs(self) -> None:
        for run in [run for run in self._runs if run.open == 0]:
            self._runs.remove(run)
            run.done.set()

    def take(self) -> list[QueuedRow]:
        """Take rows in turn from every slice, as many as may be in flight, at most COMMIT_ROWS.

        Rows of a payment method that is closed are completed without a request, or delayed until it opens.
        """
        with self._changed:
            room = min(self._in_flight_limit - self.in_flight, COMMIT_ROWS)
            taken: list[QueuedRow] = []
            busy = [run for run in self._runs if run.is_queued]
            while busy and len(taken) < room:
                still_busy = []
                for run in busy:
                    before = len(taken)
                    self._take_from(run, taken, room)
                    if len(taken) > before:
                        still_busy.append(run)
                busy = still_busy
            self._runs.rotate(-1)
            self._blocked = not taken and self._is_queued()
            return taken

    def _take_from(self, run: SliceRun, taken: list[QueuedRow], room: int) -> None:
        """Take one row to look up and one to send, if there is room and the breaker allows it."""
        if run.to_look_up and len(taken) < room and self._breaker.look_ups_allowed() != 0:
            self._breaker.look_up_leaves()
            taken.append((run, run.to_look_up.popleft()))
        batch_id = run.slice.batch_id
        while run.to_send and len(taken) < room and self._breaker.creates_allowed(batch_id) != 0:
            row = run.to_send.popleft()
            closed = self._guards.closed(row)
            if closed is None:
                self._breaker.create_leaves(batch_id)
                taken.append((run, row))
                return
            line, until = closed
            if until is None:
                self._completed.append(Completed(run, row, outcomes.closed(row, line=line)))
            else:
                self._delay(run, row, until - self._ledger.now())

    def _delay(self, run: SliceRun, row: LeasedRow, seconds: float) -> None:
        run.delay(row, self._clock() + seconds, self._ledger.now() + seconds)

    def put_back(self, rows: Sequence[QueuedRow]) -> None:
        """Queue rows that were taken and cannot leave, in front and in their order."""
        with self._changed:
            for run, row in reversed(rows):
                self._does_not_leave(row)
                run.put_back(row)

    def give_up(self, run: SliceRun, row: LeasedRow) -> None:
        """Let a row that was taken go back to the ledger unsent."""
        with self._changed:
            self._does_not_leave(row)
            run.give_up(row)

    def drop(self, run: SliceRun, row: LeasedRow) -> None:
        """Forget a row that was taken: it belongs to another worker now."""
        with self._changed:
            self._does_not_leave(row)
            run.open -= 1

    def _does_not_leave(self, row: LeasedRow) -> None:
        if row.look_up:
            self._breaker.look_up_ended(None)
        else:
            self._breaker.create_ended(row.batch_id, None)

    def give_up_batches(self, batch_ids: Collection[int]) -> None:
        """Let every queued row of these batches go back to the ledger unsent; slices without rows end."""
        self._give_up_queued(lambda run: run.slice.batch_id in batch_ids)

    def give_up_all(self) -> None:
        """Let every queued row go back to the ledger unsent; slices without rows end."""
        self._give_up_queued(lambda _: True)

    def _give_up_queued(self, ends: Callable[[SliceRun], bool]) -> None:
        with self._changed:
            for run in self._runs:
                if ends(run):
                    run.give_up_queued()
            self._finish_runs()

    def start(self, rows: int) -> None:
        """Note that so many rows that were taken are in flight."""
        with self._changed:
            self.in_flight += rows

    def complete(self, completed: Completed, *, was_look_up: bool) -> float | None:
        """Note what the request of a row brought; return for how long the fleet shall pause, if it shall."""
        decision = completed.decision
        with self._changed:
            if was_look_up:
                pause_seconds = self._breaker.look_up_ended(decision.definite)
            else:
                pause_seconds = self._breaker.create_ended(completed.row.batch_id, decision.definite)
            self._completed.append(completed)
            self.in_flight -= 1
            self._blocked = False
            if self._in_flight_limit - self.in_flight >= COMMIT_MIN_ROWS or not self.in_flight:
                self._changed.notify_all()
        return pause_seconds

    def take_completed(self) -> list[Completed]:
        """Take out every decision that is to be recorded."""
        with self._changed:
            completed = list(self._completed)
            self._completed.clear()
        return completed

    def put_back_completed(self, completed: Sequence[Completed]) -> None:
        """Keep decisions that could not be recorded, before those that came meanwhile."""
        with self._changed:
            self._completed.extendleft(reversed(completed))

    def finish(self, completed: Sequence[Completed]) -> None:
        """After their commit, delay the rows that this worker tries again; the others are done."""
        with self._changed:
            for each in completed:
                again_after = each.decision.again_after
                if each.decision.outcome.worker is not None and again_after is not None:
                    _take_over(each.row, each.decision)
                    self._delay(each.run, each.row, again_after)
                else:
                    each.run.open -= 1
            self._finish_runs()


def _take_over(row: LeasedRow, decision: Decision) -> None:
    """Bring a row that is tried again to what the ledger says of it now."""
    outcome = decision.outcome
    row.look_up = outcome.state is RowState.UNCLEAR
    row.look_ups, row.resends, row.code = outcome.look_ups, outcome.resends, outcome.code
    row.ended_at, row.absent_at = outcome.ended_at, outcome.absent_at
