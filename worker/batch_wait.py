"""Waits for batches: feeds their workers, shows how far they are, and pauses them when a person interrupts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum

import structlog

from tasks import celery_tasks
from tasks.errors import LedgerError, LedgerReplaced
from tasks.ledger import Ledger
from tasks.models import RowState
from tasks.operations import batch_lifecycle
from tasks.send_window import Window
from tasks.services import Services
from worker.command_runtime import AtWork
from worker.operator_identity import who
from worker.progress import BatchesDisplay, Progress
from worker.worker_pool import TICK_SECONDS, reap

log = structlog.get_logger("onboard")


class Ending(Enum):
    """How the waiting for batches ended."""

    OVER = "over"  #: no batch moves any more by itself
    LEFT = "left"  #: the watcher that was to send them is gone
    CLOSED = "closed"  #: the window has closed; the rest waits for its next opening
    INTERRUPTED = "interrupted"  #: by a person


def wait_for_batches(services: Services, batches: Sequence[int], work: AtWork, progress: Progress) -> Ending:
    """Work until no batch moves any more by itself, the window closes, or a person interrupts, which pauses them.

    What the workers still hold then is given back; after work that came to its end they go by themselves.
    """
    settings, workers = services.settings, work.workers
    if all(batch_lifecycle.is_over(services.ledger, batch_id) for batch_id in batches):
        return Ending.OVER
    ending = Ending.INTERRUPTED
    try:
        ending = _Wait(services, batches, work, BatchesDisplay(services, batches, progress)).until_ended()
        if ending is Ending.INTERRUPTED:
            _interrupt(services, batches, progress)
    finally:
        if workers is not None and ending is Ending.OVER:
            workers.drain()
        elif workers is not None:
            workers.stop(work.interrupts, settings.total_timeout_seconds + 15)
        reap(services.ledger, settings)
    return ending


def _interrupt(services: Services, batches: Sequence[int], progress: Progress) -> None:
    """Say what Ctrl-C does, and pause the batches; with a ledger that is out of reach they count as interrupted."""
    progress.announce("stopping", seconds=f"{services.settings.total_timeout_seconds:g}")
    services.ledger.hurry()
    for batch_id in batches:
        try:
            batch_lifecycle.interrupt(services.ledger, batch_id, who())
        except LedgerError as error:
            log.warning("batch could not be paused", batch=batch_id, why=str(error))


class _Wait:
    """Dispatches, reaps and shows, tick by tick; what is out of reach for a time is waited for."""

    def __init__(self, services: Services, batches: Sequence[int], work: AtWork, display: BatchesDisplay) -> None:
        self._ledger: Ledger = services.ledger
        self._settings = services.settings
        self._batches, self._work, self._display = batches, work, display
        self._closes_at: float | None = None
        self._waits_for = ""

    def until_ended(self) -> Ending:
        """Return how it ended. A window that is closed at first is waited for. Raises LedgerReplaced."""
        from worker.celery_app import BrokerUnreachable

        while not self._work.interrupts.count:
            try:
                if ending := self._tick():
                    return ending
                self._waits_for = ""
            except LedgerReplaced:
                raise
            except (LedgerError, BrokerUnreachable, OSError) as error:
                if str(error) != self._waits_for:
                    self._waits_for = str(error)
                    log.warning("waiting", why=self._waits_for)
            if self._work.workers is not None:
                self._work.workers.look_after()
            time.sleep(TICK_SECONDS)
        return Ending.INTERRUPTED

    def _tick(self) -> Ending | None:
        ledger = self._ledger
        ledger.require_memory()
        if self._work.runner is not None:
            self._work.runner.keep(self._batches)
        if self._closes_at is None:
            self._closes_at = _last_closing(ledger, self._batches, self._settings.window)
        reap(ledger, self._settings)
        if ledger.now() < self._closes_at:
            batch_lifecycle.dispatch(ledger, celery_tasks.send, self._settings.window)
        if all(batch_lifecycle.is_over(ledger, batch_id) for batch_id in self._batches):
            return Ending.OVER
        if ledger.now() >= self._closes_at and not any(_is_held(ledger, batch_id) for batch_id in self._batches):
            return Ending.CLOSED
        if self._work.left:
            return Ending.LEFT
        self._display.refresh()
        return None


def _last_closing(ledger: Ledger, batches: Sequence[int], window: Window) -> float:
    """Return when the last of these batches stops being sent, for tonight or for the night to come."""
    now = ledger.now()
    return max(window.span_with(ledger.dispatch.window_of(batch_id), now).closes_at for batch_id in batches)


def _is_held(ledger: Ledger, batch_id: int) -> bool:
    count = ledger.queries.count_states(batch_id)
    return bool(count.get(RowState.CLAIMED) or count.get(RowState.SENDING))
