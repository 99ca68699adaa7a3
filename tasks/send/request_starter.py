"""Starts the requests of marked rows, each at its place of the rate limit, and hands on what came back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TypeAlias

import structlog

from tasks.models import LeasedRow
from tasks.send.outcomes import Decision
from tasks.send.row_sender import RowSender
from tasks.send.slice_queue import Completed, SliceRun
from tasks.send.worker_lease import WorkerLease

log = structlog.get_logger("onboard")

#: A row that may leave, its slice, and when its place comes by the loop's clock.
PlacedRow: TypeAlias = tuple[SliceRun, LeasedRow, float]


class RequestStarter:
    """Starts requests from the loop's thread; none of its methods waits.

    `on_completed` is called once for each row, by any thread, with its decision and whether the row was looked up.
    Look-ups wait for their answers in `threads`.
    """

    def __init__(
        self,
        sender: RowSender,
        lease: WorkerLease,
        threads: Executor,
        on_completed: Callable[[Completed, bool], None],
        total_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._sender, self._lease, self._threads = sender, lease, threads
        self._on_completed = on_completed
        self._total_seconds = total_seconds
        self._clock, self._sleep = clock, sleep

    def start(self, rows: Iterable[PlacedRow], worker: int) -> None:
        """Let rows leave that `worker` has marked.

        A row to be sent is fenced just before its bytes leave, if the lease would not outlive its request, or its send
        window has closed.
        """
        for run, row, place in rows:
            complete = functools.partial(self._complete, run, row, row.look_up)
            wait_seconds = max(0.0, place - self._clock())
            try:
                if row.look_up:
                    self._threads.submit(self._look_up, row, worker, wait_seconds, complete)
                else:
                    fenced = functools.partial(self._fenced, worker, run.closes_at)
                    self._sender.send(row, worker, complete, wait_seconds=wait_seconds, fenced=fenced)
            except Exception as error:  # noqa: BLE001 - a bug must not leave a row without an outcome
                _log_unexpected(row, error)
                complete(self._sender.broken(row, worker))

    def _fenced(self, worker: int, closes_at: float) -> str:
        """Return why a row that `worker` has marked may not leave now; nothing if it may."""
        if not self._lease.outlives(worker, self._total_seconds):
            return "lease ended"
        return "window closed" if self._clock() >= closes_at else ""

    def _look_up(self, row: LeasedRow, worker: int, wait_seconds: float, complete: Callable[[Decision], None]) -> None:
        self._sleep(wait_seconds)
        try:
            decision = self._sender.look_up(row, worker)
        except Exception as error:  # noqa: BLE001 - the door of a thread, as above
            _log_unexpected(row, error)
            decision = self._sender.broken(row, worker)
        complete(decision)

    def _complete(self, run: SliceRun, row: LeasedRow, was_look_up: bool, decision: Decision) -> None:
        self._on_completed(Completed(run, row, decision), was_look_up)


def _log_unexpected(row: LeasedRow, error: Exception) -> None:
    log.error("unexpected failure", batch=row.batch_id, line=row.line, error=type(error).__name__)
