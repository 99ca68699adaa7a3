"""Advances each claim one step at a time: read, then running as a batch, then closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import structlog

from tasks.ledger import Ledger
from worker.inboxes.protocol import Claim, Inbox
from worker.watcher.background import run_in_background
from worker.watcher.claim_in_progress import ClaimInProgress
from worker.watcher.closing import ClaimCloser
from worker.watcher.failure_log import FailureLog
from worker.watcher.reading import ClaimReader

log = structlog.get_logger("onboard")

#: Batches of one watcher that may run at once; further claims are read later.
RUNNING_AT_ONCE = 50


class Job(NamedTuple):
    """A step of a claim that a thread is busy with; nothing else touches the claim meanwhile."""

    progress: ClaimInProgress
    future: Future[None]


class ClaimPipeline:
    """The claims of one watcher; one is read and one is closed at a time, the oldest first, each in a thread."""

    def __init__(
        self,
        inbox: Inbox,
        ledger: Ledger,
        reader: ClaimReader,
        closer: ClaimCloser,
        failures: FailureLog,
        *,
        retry_seconds: float,
        on_read: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._inbox, self._ledger, self._failures = inbox, ledger, failures
        self._reader, self._closer = reader, closer
        self._retry_seconds = retry_seconds
        self._on_read, self._on_end = on_read, on_end
        self._claims: list[ClaimInProgress] = []
        self._reading: Job | None = None
        self._closing: Job | None = None

    def __len__(self) -> int:
        """Return how many claims are not closed."""
        return len(self._claims)

    def add(self, claim: Claim) -> None:
        """Take a claim up, which is to be read."""
        self._claims.append(ClaimInProgress(claim))

    @property
    def unread(self) -> int:
        """How many claims can be read now; those that failed and are retried later do not count."""
        return sum(not progress.is_read and progress.is_due for progress in self._claims)

    @property
    def only_waits_for_people(self) -> bool:
        """Whether nothing is left to do but what a person must decide."""
        return all(progress.waits_for_a_person for progress in self._claims)

    @property
    def is_busy(self) -> bool:
        """Whether a step was started and not collected."""
        return self._reading is not None or self._closing is not None

    def advance(self) -> None:
        """Collect the steps that have ended, and start the next ones that are due."""
        self.collect()
        busy = [job.progress for job in (self._reading, self._closing) if job is not None]
        idle = [progress for progress in self._claims if progress not in busy and progress.is_due]
        with self._failures.logged("batches"):
            self._close_next(idle)
        self._read_next(idle)

    def _close_next(self, idle: list[ClaimInProgress]) -> None:
        read = [progress for progress in idle if progress.is_read]
        states = self._ledger.batches.states([each.batch_id for each in read if each.batch_id is not None])
        due = [progress for progress in read if self._closer.is_due(progress, states)]
        if due and self._closing is None:
            self._closing = self._start(min(due, key=lambda progress: progress.retry_at), self._closer.close)

    def _read_next(self, idle: list[ClaimInProgress]) -> None:
        running = sum(progress.is_read and not progress.waits_for_a_person for progress in self._claims)
        unread = [progress for progress in idle if not progress.is_read]
        if unread and self._reading is None and running < RUNNING_AT_ONCE:
            oldest = min(unread, key=lambda progress: (progress.retry_at, progress.claim.id))
            self._reading = self._start(oldest, self._reader.read)

    def _start(self, progress: ClaimInProgress, step: Callable[[ClaimInProgress], None]) -> Job:
        return Job(progress, run_in_background(partial(step, progress), self._on_end))

    def collect(self) -> None:
        """Take the results of the steps that have ended."""
        if self._reading is not None and self._reading.future.done():
            self._succeeded(self._reading)
            self._reading = None
            self._on_read()
        if self._closing is not None and self._closing.future.done():
            if self._succeeded(self._closing) and not self._inbox.holds(self._closing.progress.claim):
                self._claims.remove(self._closing.progress)
            self._closing = None

    def _succeeded(self, job: Job) -> bool:
        """Return whether a step succeeded; a failed one is retried, unless another watcher holds the claim by now."""
        progress, error = job.progress, job.future.exception()
        if error is None:
            self._failures.recovered(progress.claim.id)
            return True
        if isinstance(error, KeyboardInterrupt):
            return False
        if not self._inbox.holds(progress.claim):
            log.warning("claim lost to another watcher", claim=progress.claim.id)
            self._claims.remove(progress)
            return False
        self._failures.failed(progress.claim.id, error)
        progress.retry_at = time.monotonic() + self._retry_seconds
        return False
