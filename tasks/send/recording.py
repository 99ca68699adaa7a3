"""One commit of the send loop: rows are marked `sending`, outcomes written, and the lease renewed, in one transaction.

A row may leave only after it, so whatever dies, nothing that was sent is unknown to the ledger.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from tasks.errors import LedgerError
from tasks.ledger import Ledger, MarkResult
from tasks.metrics_registry import counters
from tasks.models import LeasedRow
from tasks.send import outcomes
from tasks.send.batch_guards import BatchGuards
from tasks.send.slice_queue import Completed, QueuedRow, SliceQueue
from tasks.send.worker_lease import WorkerLease

log = structlog.get_logger("onboard")


class Recorded(NamedTuple):
    """What became of a commit."""

    marked: list[QueuedRow]  #: rows that may leave now
    seconds: float  #: how long the transaction took


class Recorder:
    """Writes the commits of one process; used by the loop's thread only."""

    def __init__(
        self,
        ledger: Ledger,
        lease: WorkerLease,
        queue: SliceQueue,
        guards: BatchGuards,
        renew_connections: Callable[[], None],
        look_up_delay_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._ledger, self._lease, self._queue, self._guards = ledger, lease, queue, guards
        self._renew_connections = renew_connections
        self._look_up_delay_seconds = look_up_delay_seconds
        self._clock = clock
        self.moved_at = clock()  #: when an outcome was last written

    def write(self, completed: Sequence[Completed], rows: Sequence[QueuedRow]) -> Recorded:
        """Write outcomes, mark rows, renew the lease; raises LedgerError, and keeps the outcomes for the next commit.

        1. rows that a former number of this process has claimed are let go: they may have been claimed once more, by
           this very process, and must not be marked for their old copies
        2. the transaction
        3. outcomes take effect: batches stop, methods close; rows that are tried again are queued, the others are done
        4. rows that are not marked leave their slices: they are given back, or are another worker's now
        5. if the lease had ended, this process goes on under a new number
        """
        started, worker = self._clock(), self._lease.worker
        result = self._commit(worker, completed, [row for run, row in rows if run.worker == worker and not row.look_up])
        seconds = self._clock() - started
        counters.count_commit()
        self._lease.renew(started, kept=result.lease_kept)
        if result.doubted:
            log.warning("sources that other rows hold were answered, to be looked up", rows=result.doubted)
            self._renew_connections()
        self._finish(completed)
        marked = [queued for queued in rows if self._may_leave(queued, result, worker)]
        if result.lease_kept:
            self._queue.give_up_batches(result.stopped)
        else:
            self._queue.give_up_all()
            self._register_again()
        return Recorded(marked, seconds)

    def _commit(self, worker: int, completed: Sequence[Completed], to_send: list[LeasedRow]) -> MarkResult:
        for each in completed:
            if each.run.worker != worker:
                outcomes.leave_to_others(each.decision.outcome)
        try:
            return self._ledger.leases.record_and_mark(
                worker,
                [each.decision.outcome for each in completed],
                to_send,
                self._lease.seconds,
                look_up_delay_seconds=self._look_up_delay_seconds,
            )
        except LedgerError:
            self._queue.put_back_completed(completed)
            raise

    def _finish(self, completed: Sequence[Completed]) -> None:
        if not completed:
            return
        self.moved_at = self._clock()
        try:  # before their slice is done: a batch must not be closed that its last answers halt
            for each in completed:
                self._guards.take_effect(each.row, each.decision)
        finally:
            self._queue.finish(completed)

    def _may_leave(self, queued: QueuedRow, result: MarkResult, worker: int) -> bool:
        """Return whether a row may be sent (or looked up) now; if not, it leaves its slice."""
        run, row = queued
        stopped = result.lease_kept and not row.look_up and row.batch_id in result.stopped
        if stopped or run.worker != worker:
            self._queue.give_up(run, row)
            return False
        if not result.lease_kept or (not row.look_up and not result.take(row)):
            self._queue.drop(run, row)
            return False
        if not row.look_up:
            row.attempts, row.sent_at = row.attempts + 1, result.at
        return True

    def _register_again(self) -> None:
        log.warning(
            "lease lost: this process was given up for dead, its rows were given to others", worker=self._lease.worker
        )
        with contextlib.suppress(LedgerError):  # else this number stays without a lease, and the next commit sees it
            self._lease.register()
