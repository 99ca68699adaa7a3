"""The inbox is scanned when it is time or something changed; a file that cannot be claimed blocks no other."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from drop_folders import claimed, drop, open_folder, pipeline_of
from factories import ManualClock, untakable

from tasks.models import Notification, NotificationKind
from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.health_server import Pulse
from worker.inboxes.local_folder import LocalFolder
from worker.notifier import message_of
from worker.watcher.failure_log import FailureLog
from worker.watcher.scanner import InboxScanner
from worker.watcher.summary import Summary


class Scan:
    """A scanner, and what it scans for."""

    def __init__(
        self, services: Services, folder: LocalFolder, failures: FailureLog, accept: Callable[[Path], Accepted]
    ) -> None:
        self.folder, self.changed, self.summary = folder, threading.Event(), Summary()
        self.claims = pipeline_of(services, folder, failures, accept, self.summary)
        self.scanner = InboxScanner(
            folder,
            self.claims,
            services.ledger,
            failures,
            self.summary,
            Pulse(60.0),
            changed=self.changed,
            scan_seconds=3600.0,
            settle_seconds=3600.0,
            time_zone="Asia/Tokyo",
        )

    def __call__(self) -> list[tuple[str, object]]:
        """Scan because something changed; return event and subject of what was logged."""
        self.changed.set()
        with structlog.testing.capture_logs() as logged:
            self.scanner.scan_if_due()
        return [(line["event"], line.get("what")) for line in logged if line["event"] != "file taken"]

    def claimed(self) -> set[str]:
        return {path.name for path in self.folder.paths.processing.glob("*@*/file/*")}


@pytest.fixture
def scan(services: Services, folder: LocalFolder, failures: FailureLog, accept: Callable[[Path], Accepted]) -> Scan:
    return Scan(services, folder, failures, accept)


def kinds(notifications: Callable[[], list[Notification]]) -> list[NotificationKind]:
    return [notification.kind for notification in notifications()]


def test_the_inbox_is_scanned_at_first_and_then_when_something_changed(scan: Scan, folder: LocalFolder) -> None:
    assert not scan.scanner.has_taken_all, "it was not scanned"
    scan.scanner.scan_if_due()
    assert scan.scanner.has_taken_all
    drop(folder, "a.csv")
    scan.scanner.scan_if_due()
    assert scan.claimed() == set(), "it is not time"
    scan.changed.set()
    assert not scan.scanner.has_taken_all
    scan.scanner.scan_if_due()
    assert scan.claimed() == {"a.csv"}
    assert (scan.summary.taken, len(scan.claims)) == (1, 1)
    assert scan.scanner.has_taken_all


def test_the_claims_of_a_dead_watcher_are_taken_over(scan: Scan, tmp_path: Path, clock: ManualClock) -> None:
    ended = open_folder(tmp_path, clock)
    claimed(ended)
    ended.leave()
    assert scan() == [("claim of a watcher that ended taken over", None)]
    assert (scan.summary.taken, len(scan.claims)) == (0, 1)


def test_a_file_that_cannot_be_claimed_blocks_no_other_and_is_logged_once(
    scan: Scan, folder: LocalFolder, notifications: Callable[[], list[Notification]]
) -> None:
    stuck = drop(folder, "a\nstuck.csv")
    drop(folder, "z good.csv")
    with untakable(stuck):
        assert scan() == [("held up, and tried again", "inbox/a_stuck.csv")]
        assert scan() == [], "logged once"
    assert scan.claimed() == {"z good.csv"}
    assert kinds(notifications) == [NotificationKind.NOT_TAKEN]
    assert scan.summary.exit_code == 1
    assert scan() == [("no longer held up", "inbox/a_stuck.csv")]
    assert scan.claimed() == {"z good.csv", "a_stuck.csv"}
    assert kinds(notifications) == [NotificationKind.NOT_TAKEN]


def test_many_files_that_cannot_be_claimed_are_one_notification(
    scan: Scan, folder: LocalFolder, services: Services, notifications: Callable[[], list[Notification]]
) -> None:
    paths = [drop(folder, f"{number}.csv") for number in range(5)]
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(untakable(path))
        assert len(scan()) == 5
    (notification,) = notifications()
    assert notification.why.startswith("0.csv (")
    assert notification.why.endswith(", +2")
    assert "1.csv (" in message_of(services, notification).text
    paths[0].unlink()
    recovered = {what for _, what in scan()}
    assert recovered == {f"inbox/{number}.csv" for number in range(5)}, "also of the one that is gone"


def test_an_inbox_that_blocks_every_file_is_logged_once_without_the_names_in_it(
    scan: Scan, folder: LocalFolder, notifications: Callable[[], list[Notification]]
) -> None:
    drop(folder, "yamada.csv")
    with untakable(folder.paths.inbox):
        assert scan() == [("held up, and tried again", "folder")]
        assert scan() == []
        assert kinds(notifications) == [NotificationKind.NOT_TAKEN]
        assert not scan.scanner.has_taken_all
    assert scan() == [("no longer held up", "folder")]


def test_no_more_files_are_claimed_than_are_read_soon(scan: Scan, folder: LocalFolder) -> None:
    for number in range(12):
        drop(folder, f"{number:02}.csv")
    scan()
    assert (len(scan.claims), scan.scanner.left_files) == (8, True)
    assert not scan.scanner.has_taken_all
    scan.scanner.scan_if_due()
    assert len(scan.claims) == 8, "enough are to be read"
