"""An expected file that does not arrive is notified once a day, whichever watcher is first."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from drop_folders import claimed

from tasks.ledger import Ledger
from tasks.models import Notification, NotificationKind
from tasks.settings import SettingsError, load_settings
from worker.inboxes.local_folder import LocalFolder
from worker.watcher.expected_file import ExpectedFile
from worker.watcher.failure_log import FailureLog


@pytest.fixture
def expected(folder: LocalFolder, ledger: Ledger, failures: FailureLog) -> ExpectedFile:
    return ExpectedFile(folder, ledger, failures, expect_by="02:00", time_zone="Asia/Tokyo")


def test_nothing_arrived_is_notified_once_a_day(
    expected: ExpectedFile, notifications: Callable[[], list[Notification]]
) -> None:
    expected.check_if_due()
    assert notifications() == [], "it is not time yet"
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            expected.due_at = time.time() - 1
            expected.check_if_due()
            expected.check_if_due()
    assert [notification.kind for notification in notifications()] == [NotificationKind.NOTHING_ARRIVED]
    assert [line["event"] for line in logged] == ["nothing arrived"]
    assert expected.due_at is not None
    assert expected.due_at > time.time()


def test_nothing_is_notified_when_a_file_arrived(
    expected: ExpectedFile, folder: LocalFolder, notifications: Callable[[], list[Notification]]
) -> None:
    folder.reject(claimed(folder), "a")
    expected.due_at = time.time() - 1
    expected.check_if_due()
    assert notifications() == []


def test_without_the_setting_no_file_is_expected(folder: LocalFolder, ledger: Ledger, failures: FailureLog) -> None:
    assert ExpectedFile(folder, ledger, failures, expect_by="", time_zone="Asia/Tokyo").due_at is None


@pytest.mark.parametrize("text", ["2:00", "24:00", "02:60", "noon"])
def test_a_malformed_time_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"ONBOARD_EXPECT_FILE_BY: .*is not a time of day"):
        load_settings({"HOME": "/home/one", "ONBOARD_EXPECT_FILE_BY": text}, folder=tmp_path)
