"""Slices of this process from their claim to their end: what was not sent goes back to the ledger, whatever happens.

When a commit's answer is lost (the database restarts), a claim may have come true, and its rows are in no process. So
this process knows which rows it has, and now and then gives back the others that the ledger has under its number.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from tasks.ledger import Ledger
from tasks.models import Slice
from tasks.send.batch_guards import BatchGuards
from tasks.send.slice_queue import SliceRun
from tasks.send.worker_lease import WorkerLease
from tasks.send_window import Window

log = structlog.get_logger("onboard")


class SliceClaims:
    """The slices that this process has claimed; safe to share between threads."""

    def __init__(
        self,
        ledger: Ledger,
        lease: WorkerLease,
        guards: BatchGuards,
        window: Window,
        slice_seconds: float,
        look_up_delay_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._ledger, self._lease, self._guards, self._window = ledger, lease, guards, window
        self._slice_seconds, self._look_up_delay_seconds = slice_seconds, look_up_delay_seconds
        self._clock = clock
        self._claiming = threading.Lock()  # held from a claim until its rows are known here
        self._known: dict[SliceRun, frozenset[tuple[int, int]]] = {}
        self._checked_at = clock()

    def claim(self, slice_: Slice) -> SliceRun | None:
        """Claim what is due in a slice; None while its batch's window, or this process's, is closed.

        Then the slice is put off to the opening.
        """
        now = self._ledger.now()
        window = self._window.span_with(self._ledger.dispatch.window_of(slice_.batch_id), now)
        if window.opens_at > now:
            self._ledger.dispatch.put_off(slice_, window.opens_at)
            return None
        self._guards.read_closed(slice_.batch_id)
        closes_at = self._clock() + window.closes_at - now
        with self._claiming:
            worker = self._lease.worker
            rows = self._ledger.leases.claim(slice_, worker)
            ends_at = min(self._clock() + self._slice_seconds, closes_at)
            run = SliceRun(slice_, worker, ends_at, closes_at, claimed=len(rows), open=len(rows))
            for row in rows:
                run.add(row)
            self._known[run] = frozenset((row.batch_id, row.record) for row in rows)
        return run

    def end(self, run: SliceRun) -> None:
        """Give back what was not sent, and end the slice."""
        try:
            self._ledger.leases.release(run.worker, run.unsent, run.not_before)
        finally:
            self.forget(run)
        self._ledger.dispatch.finish(run.slice)

    def forget(self, run: SliceRun) -> None:
        """Know nothing of a slice any more: what the ledger still has of it is given back."""
        del self._known[run]

    def give_back_unknown(self) -> None:
        """Give back the rows that the ledger has for this worker and this process knows nothing of, now and then."""
        due = self._clock() - self._checked_at > self._lease.seconds / 4
        if not due or not self._claiming.acquire(blocking=False):
            return
        try:
            known = set().union(*self._known.values())
            worker = self._lease.worker
            rows = self._ledger.reaper.give_back_unknown(worker, known, self._look_up_delay_seconds)
        finally:
            self._claiming.release()
        self._checked_at = self._clock()
        if rows:
            log.warning("rows without work given back", worker=worker, rows=rows)
