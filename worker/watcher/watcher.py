"""The loop of `onboard watch`: what is due is done, then it sleeps until something happens."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from tasks.ledger import WATCH, Ledger
from tasks.operations import accept_batch
from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.command_runtime import AtWork, reading_until_interrupted
from worker.health_server import Pulse
from worker.inboxes.protocol import Inbox
from worker.interrupts import STOPPED
from worker.operator_identity import who
from worker.watcher.closing import ClaimCloser
from worker.watcher.expected_file import ExpectedFile
from worker.watcher.failure_log import FailureLog
from worker.watcher.late_upload_check import LateUploadCheck
from worker.watcher.pipeline import ClaimPipeline
from worker.watcher.reading import ClaimReader
from worker.watcher.scanner import InboxScanner
from worker.watcher.summary import Summary
from worker.watcher.upkeep import Upkeep
from worker.worker_pool import TICK_SECONDS

log = structlog.get_logger("onboard")

#: The longest sleep while nothing of this watcher runs, in seconds.
IDLE_SECONDS = 1.0
#: How often a heartbeat is sent to the other watchers of the inbox, in seconds.
HEARTBEAT_SECONDS = 5.0
#: Closed claims are checked for late uploads every so many times ONBOARD_SCAN_SECONDS.
LATE_UPLOAD_SCANS = 6


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `onboard watch`."""

    folder: Path | None = None
    workers: int | None = None
    no_workers: bool = False
    mapping: Path | None = None
    canary: int | None = None
    verify_first: bool = False
    lang: str | None = None
    excel_safe: bool = False
    once: bool = False


class Watcher:
    """One watcher of one inbox; several may share an inbox if they share ledger and Redis."""

    def __init__(self, services: Services, options: Options, inbox: Inbox, work: AtWork) -> None:
        settings = services.settings
        self._services, self._options, self._inbox, self._work = services, options, inbox, work
        self._ledger: Ledger = services.ledger
        self._inbox_changed, self._wake_up = threading.Event(), threading.Event()
        self._heartbeat_at = float("-inf")
        self.summary = Summary()
        self.pulse = Pulse(max(settings.watchdog_seconds, 5 * settings.scan_seconds))  # beats with each scan
        self._failures = FailureLog(Path(inbox.location))
        self._upkeep = Upkeep(self._ledger, settings, self._failures, redis=work.redis.server, workers=work.workers)
        self._late_uploads = self._make_late_upload_check()
        self.claims = self._make_pipeline()
        self._scanner = self._make_scanner()
        self._expected_file = ExpectedFile(
            inbox, self._ledger, self._failures, expect_by=settings.expect_file_by, time_zone=settings.time_zone
        )

    def _make_late_upload_check(self) -> LateUploadCheck:
        return LateUploadCheck(
            self._inbox,
            self._ledger,
            self._services.files,
            self._failures,
            pause_seconds=LATE_UPLOAD_SCANS * self._services.settings.scan_seconds,
            on_return=self._inbox_changed.set,
        )

    def _make_pipeline(self) -> ClaimPipeline:
        services, options = self._services, self._options
        reader = ClaimReader(self._inbox, self._ledger, services.files, self._accept)
        closer = ClaimCloser(
            services,
            self._inbox,
            self.summary,
            lang=options.lang or services.settings.lang,
            excel_safe=options.excel_safe,
            on_closed=self._late_uploads.return_if_changed,
        )
        return ClaimPipeline(
            self._inbox,
            self._ledger,
            reader,
            closer,
            self._failures,
            retry_seconds=services.settings.scan_seconds,
            on_read=self._upkeep.run_soon,
            on_end=self._wake_up.set,
        )

    def _make_scanner(self) -> InboxScanner:
        settings = self._services.settings
        return InboxScanner(
            self._inbox,
            self.claims,
            self._ledger,
            self._failures,
            self.summary,
            self.pulse,
            changed=self._inbox_changed,
            scan_seconds=settings.scan_seconds,
            settle_seconds=settings.settle_seconds,
            time_zone=settings.time_zone,
        )

    def _accept(self, file: Path) -> Accepted:
        options = self._options
        return accept_batch.accept(
            self._services,
            file,
            who=who(),
            brought_by=WATCH,
            progress=reading_until_interrupted(self._work.interrupts),
            mapping=options.mapping,
            canary=options.canary,
            verify_first=options.verify_first,
        )

    def run(self) -> int:
        """Work until it is interrupted or (`once`) nothing is left to do; return the exit code."""
        threading.Thread(target=self._wait_for_changes, name="inbox", daemon=True).start()
        try:
            while not self._work.interrupts.count:
                self._do_what_is_due()
                if self._options.once and self._nothing_is_left:
                    break
                self._wake_up.wait(TICK_SECONDS if self.claims or self._inbox.settling else IDLE_SECONDS)
                self._wake_up.clear()
            self._stop()
        finally:
            self._inbox.leave()
        if self.claims:
            return STOPPED
        return self.summary.exit_code if self._options.once else 0

    def _do_what_is_due(self) -> None:
        self._send_heartbeat_if_due()
        self._late_uploads.start_if_due(self._wake_up.set)
        self._scanner.scan_if_due()
        self._upkeep.run_if_due()
        self._late_uploads.collect()
        self.claims.advance()
        self._expected_file.check_if_due()

    @property
    def _nothing_is_left(self) -> bool:
        return self._scanner.has_taken_all and not self._late_uploads.is_running and self.claims.only_waits_for_people

    def _send_heartbeat_if_due(self) -> None:
        if time.monotonic() - self._heartbeat_at >= HEARTBEAT_SECONDS:
            self._heartbeat_at = time.monotonic()
            with self._failures.logged("heartbeat"):
                self._inbox.send_heartbeat()

    def _wait_for_changes(self) -> None:
        """Scan as soon as something changes in the inbox; where that cannot be watched, it is only polled."""
        while True:
            try:
                for _ in self._inbox.changes():
                    self._inbox_changed.set()
                    self._wake_up.set()
            except Exception as error:  # noqa: BLE001 - the door of a thread: polling goes on without it
                log.debug("file watching unavailable, polling instead", error=type(error).__name__)
            time.sleep(self._services.settings.scan_seconds)

    def _stop(self) -> None:
        """Drain the workers if it was interrupted; wait for the steps that have been started.

        A file that is being read is not waited for longer than it takes to notice the interrupt: nothing of it stays in
        the ledger.
        """
        interrupts, workers = self._work.interrupts, self._work.workers
        if interrupts.count:
            self._ledger.hurry()
        if interrupts.count and workers is not None:
            workers.drain()
        ends = time.monotonic() + self._services.settings.total_timeout_seconds + 15
        while self.claims.is_busy or self._late_uploads.is_running:
            self.claims.collect()
            self._late_uploads.collect()
            if time.monotonic() > ends or interrupts.count > 1:
                break
            time.sleep(0.02)
