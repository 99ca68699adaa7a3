"""Returns files to the inbox whose upload continued after they were read."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from tasks.files.file_store import FileStore, accepted_name
from tasks.ledger import Ledger
from tasks.models import NotificationKind
from worker.inboxes.protocol import Claim, Inbox
from worker.watcher.background import run_in_background
from worker.watcher.failure_log import FailureLog

log = structlog.get_logger("onboard")


class LateUploadCheck:
    """Checks the closed claims of an inbox now and then, in a thread of its own."""

    def __init__(
        self,
        inbox: Inbox,
        ledger: Ledger,
        accepted_files: FileStore,
        failures: FailureLog,
        *,
        pause_seconds: float,
        on_return: Callable[[], None],
    ) -> None:
        self._inbox, self._ledger, self._failures = inbox, ledger, failures
        self._accepted_files = accepted_files
        self._pause_seconds = pause_seconds
        self._on_return = on_return
        self._started_at = float("-inf")
        self._check: Future[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a check has been started and not collected."""
        return self._check is not None

    def start_if_due(self, on_end: Callable[[], None]) -> None:
        """Start a check if it is time and none is running."""
        if self._check is None and time.monotonic() >= self._started_at + self._pause_seconds:
            self._started_at = time.monotonic()
            self._check = run_in_background(self.check, on_end)

    def collect(self) -> None:
        """End a check that is done, and log what went wrong in it."""
        if self._check is not None and self._check.done():
            with self._failures.logged("late uploads"):
                self._check.result()
            self._check = None

    def check(self) -> None:
        """Return every changed file of the recent claims. Raises OSError."""
        for claim in self._inbox.late_uploads():
            self.return_if_changed(claim)

    def return_if_changed(self, claim: Claim) -> None:
        """Return a closed claim's file to the inbox if its upload continued; what was accepted stays in its place.

        Can be repeated.
        """
        with self._failures.logged(f"{claim.id}, compared with what was read"):
            if not self._inbox.has_other_content(claim):
                return
            self._ledger.outbox.add(NotificationKind.WENT_ON, once=f"went on {claim.id}", why=claim.name)
            accepted = self._accepted_files.get(accepted_name(claim.facts["sha256"]))
            if self._inbox.return_to_inbox(claim, accepted):
                log.warning("file changed after it was read, and comes back", claim=claim.id)
            self._on_return()
