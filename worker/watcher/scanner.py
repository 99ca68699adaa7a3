"""Claims the files of the inbox that are complete."""

from __future__ import annotations

import threading
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import structlog

from tasks.ledger import Ledger
from tasks.models import NotificationKind
from worker.health_server import Pulse
from worker.inboxes.protocol import CompleteFile, Inbox
from worker.watcher.failure_log import FailureLog, UnclaimableFiles, reason_of
from worker.watcher.pipeline import ClaimPipeline
from worker.watcher.summary import NEED_A_PERSON, Summary

log = structlog.get_logger("onboard")

#: So many files are claimed before they are read: the first need not wait for the last, other watchers get their share.
CLAIMED_AHEAD = 8


class InboxScanner:
    """Scans the inbox when it is time, when a file may have settled, or when `changed` says so.

    Any thread may set `changed`: something may have happened in the inbox.
    """

    def __init__(
        self,
        inbox: Inbox,
        claims: ClaimPipeline,
        ledger: Ledger,
        failures: FailureLog,
        summary: Summary,
        pulse: Pulse,
        *,
        changed: threading.Event,
        scan_seconds: float,
        settle_seconds: float,
        time_zone: str,
    ) -> None:
        self._inbox, self._claims, self._ledger = inbox, claims, ledger
        self._failures, self._summary, self._pulse = failures, summary, pulse
        self._unclaimable = UnclaimableFiles(failures)
        self._scan_seconds, self._settle_seconds = scan_seconds, settle_seconds
        self._zone = ZoneInfo(time_zone)
        self._changed = changed
        self._scanned_at = float("-inf")
        self._has_succeeded = False
        self._unreported: list[str] = []  # unclaimable files of which the ledger could not be notified yet
        self.left_files = False  #: complete files were left, because enough others are still to be read

    @property
    def has_taken_all(self) -> bool:
        """Whether the inbox was scanned, and nothing that can be claimed is there, now or soon."""
        left = self._changed.is_set() or self.left_files or self._inbox.settling
        return self._has_succeeded and not left

    def scan_if_due(self) -> None:
        """Scan if that is due; what goes wrong is logged, and tried again."""
        if not self._is_due():
            return
        self._changed.clear()
        self._scanned_at = time.monotonic()
        with self._failures.logged("folder"):
            self.scan()

    def _is_due(self) -> bool:
        pause = min(self._scan_seconds, self._settle_seconds) if self._inbox.settling else self._scan_seconds
        return (
            self._changed.is_set()
            or (self.left_files and self._claims.unread < CLAIMED_AHEAD / 2)
            or time.monotonic() - self._scanned_at >= pause
        )

    def scan(self) -> None:
        """Take over the claims of dead watchers, and claim complete files. Raises OSError, LedgerError."""
        self._inbox.prepare()
        for claim in self._inbox.take_over(self._failures.failed):
            log.info("claim of a watcher that ended taken over", claim=claim.id)
            self._claims.add(claim)
        self._claim_complete_files()
        self._has_succeeded = True
        self._pulse.beat()

    def _claim_complete_files(self) -> None:
        """Claim complete files, the oldest first. Raises OSError if none of them can be claimed."""
        self.left_files = False
        complete = self._inbox.complete_files()
        errors = dict(self._inbox.unreadable)
        while complete and self._claims.unread < CLAIMED_AHEAD:
            file = complete.pop(0)
            try:
                self._claim(file)
            except OSError as error:
                if self._inbox.blocks_every_file(error):
                    self._notify(f"inbox ({reason_of(error)})")
                    raise
                errors[file.name] = error
        self.left_files = bool(complete)
        self._report_unclaimable(errors, complete)

    def _claim(self, file: CompleteFile) -> None:
        claim = self._inbox.claim(file)
        if claim is not None:
            self._summary.taken += 1
            log.info("file taken", claim=claim.id)
            self._claims.add(claim)

    def _report_unclaimable(self, errors: dict[str, OSError], left: list[CompleteFile]) -> None:
        """Log and notify which files cannot be claimed; the ledger may refuse, then the next scan notifies."""
        if new := self._unclaimable.update(errors, untried=[file.name for file in left]):
            self._summary.raise_exit_code(NEED_A_PERSON)
            self._unreported.append(new)
        while self._unreported:
            self._notify(self._unreported[0])
            self._unreported.pop(0)

    def _notify(self, what: str) -> None:
        """Notify once a day and inbox what cannot be claimed, whichever watcher is first."""
        once = f"not taken {datetime.now(self._zone):%Y-%m-%d} {self._inbox.location} {what}"
        self._ledger.outbox.add(NotificationKind.NOT_TAKEN, once=once, why=what)
