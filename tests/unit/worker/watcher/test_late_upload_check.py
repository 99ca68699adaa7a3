"""An upload that continued is notified once, and its file can be claimed again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from drop_folders import claimed

from tasks.files.local_folder import LocalFolder as FileFolder
from tasks.ledger import Ledger
from tasks.models import Notification, NotificationKind
from worker.inboxes.local_folder import LocalFolder
from worker.inboxes.protocol import Claim
from worker.watcher.failure_log import FailureLog
from worker.watcher.late_upload_check import LateUploadCheck


@pytest.fixture
def returned() -> threading.Event:
    return threading.Event()


@pytest.fixture
def check(
    folder: LocalFolder, ledger: Ledger, failures: FailureLog, tmp_path: Path, returned: threading.Event
) -> LateUploadCheck:
    return LateUploadCheck(folder, ledger, FileFolder(tmp_path), failures, pause_seconds=3600.0, on_return=returned.set)


@pytest.fixture
def late(folder: LocalFolder) -> Claim:
    """A rejected file whose upload continued."""
    claim = claimed(folder)
    folder.note(claim, **folder.read_version(claim))
    with claim.file.open("a") as writer:
        rejected = folder.reject(claim, "a")
        writer.write("b\n")
    return rejected


def test_a_late_upload_is_notified_once_and_returns(
    check: LateUploadCheck,
    folder: LocalFolder,
    late: Claim,
    returned: threading.Event,
    notifications: Callable[[], list[Notification]],
) -> None:
    with structlog.testing.capture_logs() as logged:
        check.return_if_changed(late)
        check.check()
    assert [line["event"] for line in logged] == ["file changed after it was read, and comes back"]
    assert [notification.kind for notification in notifications()] == [NotificationKind.WENT_ON]
    assert [path.read_text() for path in folder.paths.inbox.iterdir()] == ["a\nb\n"]
    assert returned.is_set()


def test_a_check_runs_in_a_thread_and_pauses(
    check: LateUploadCheck, folder: LocalFolder, late: Claim, notifications: Callable[[], list[Notification]]
) -> None:
    ended = threading.Event()
    check.start_if_due(ended.set)
    assert check.is_running
    assert ended.wait(10)
    check.collect()
    assert not check.is_running
    assert len(notifications()) == 1
    check.start_if_due(ended.set)
    assert not check.is_running, "it pauses"


def test_a_file_that_cannot_be_returned_is_logged_and_returned_later(
    check: LateUploadCheck, folder: LocalFolder, late: Claim
) -> None:
    folder.paths.inbox.rmdir()
    folder.paths.inbox.touch()  # nothing can be moved there
    with structlog.testing.capture_logs() as logged:
        check.check()
        folder.paths.inbox.unlink()
        folder.prepare()
        check.check()
    assert [line["event"] for line in logged] == [
        *("held up, and tried again", "file changed after it was read, and comes back", "no longer held up")
    ]
    assert len(list(folder.paths.inbox.iterdir())) == 1
