"""Warns when no file arrived in time, as ONBOARD_EXPECT_FILE_BY asks."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import structlog

from tasks.ledger import Ledger
from tasks.models import NotificationKind
from worker import terminal
from worker.inboxes.protocol import Inbox
from worker.watcher.failure_log import FailureLog

log = structlog.get_logger("onboard")


class ExpectedFile:
    """The file that is expected every day by a time of day (HH:MM, or "" for none)."""

    def __init__(self, inbox: Inbox, ledger: Ledger, failures: FailureLog, *, expect_by: str, time_zone: str) -> None:
        self._inbox, self._ledger, self._failures = inbox, ledger, failures
        self._expect_by, self._time_zone = expect_by, time_zone
        self.due_at = self._next_time()  #: epoch seconds; None: no file is expected

    def check_if_due(self) -> None:
        """Warn if it is time, and no file arrived in the 24 hours before."""
        due_at = self.due_at
        if due_at is None or time.time() < due_at:
            return
        with self._failures.logged("expected file"):
            if not self._inbox.arrived_since(due_at - timedelta(days=1).total_seconds()):
                self._warn(datetime.fromtimestamp(due_at, ZoneInfo(self._time_zone)))
            self.due_at = self._next_time()

    def _warn(self, due: datetime) -> None:
        """Log and notify once a day and inbox, whichever watcher is first."""
        once = f"nothing arrived {due:%Y-%m-%d} {self._inbox.location}"
        if self._ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once=once, why=f"{due:%Y-%m-%d %H:%M}"):
            log.warning("nothing arrived", by=f"{due:%Y-%m-%d %H:%M}")

    def _next_time(self) -> float | None:
        return terminal.next_time(self._expect_by, self._time_zone) if self._expect_by else None
