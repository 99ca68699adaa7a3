"""The watcher's loop without processes: what it asks for, and what it says once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
from factories import KEY

from tasks.errors import LedgerError, UnusableFile
from tasks.models import NewsKind
from tasks.resources import Resources
from tasks.settings import SettingsError, load_settings
from worker.drop_folder import Dropped
from worker.interrupts import Interrupts
from worker.running import AtWork, Redis
from worker.watcher import Options, Troubles, Watcher


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    settings = load_settings(
        {
            "ELEPAY_SECRET_KEY": KEY,
            "ONBOARD_HOME": str(tmp_path / "home"),
            "ONBOARD_DROP_FOLDER": str(tmp_path / "drop"),
            "ONBOARD_EXPECT_FILE_BY": "02:00",
        },
        folder=tmp_path,
    )
    found = Watcher(Resources(settings), Options(), AtWork(Interrupts(), None, None, Redis()))
    found.folder.make()
    return found


def told(watcher: Watcher) -> list[NewsKind]:
    """What people are told, by a channel that has been there since the beginning."""
    watcher._ledger.know_channels(["mail"], 0.0)
    return [news.kind for news in watcher._ledger.untold_news("mail", time.time(), 0.0)]


def test_nothing_arrived_is_said_once_a_day_by_one_of_the_watchers(watcher: Watcher) -> None:
    watcher._ask_for_the_expected()
    assert told(watcher) == [], "it is not time yet"
    for _ in range(2):
        watcher._expected_at = time.time() - 1
        watcher._ask_for_the_expected()
        watcher._ask_for_the_expected()
    assert told(watcher) == [NewsKind.NOTHING_ARRIVED]
    assert watcher._expected_at is not None
    assert watcher._expected_at > time.time()


def test_nothing_is_said_when_a_file_arrived(watcher: Watcher) -> None:
    (watcher.folder.inbox / "a.csv").write_text("a\n")
    claim = watcher.folder.claim(Dropped("a.csv"))
    assert claim is not None
    watcher.folder.put_away(claim, watcher.folder.rejected, "a")
    watcher._expected_at = time.time() - 1
    watcher._ask_for_the_expected()
    assert told(watcher) == []


@pytest.mark.parametrize("text", ["2:00", "24:00", "02:60", "noon"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"ONBOARD_EXPECT_FILE_BY: .*is not a time of day"):
        load_settings({"HOME": "/home/one", "ONBOARD_EXPECT_FILE_BY": text}, folder=tmp_path)


def test_a_trouble_is_said_once_and_its_end_too(tmp_path: Path) -> None:
    troubles = Troubles(tmp_path)
    full = OSError(28, "No space left on device", str(tmp_path / "outbox" / "yamada.csv"))
    with structlog.testing.capture_logs() as logged:
        for error in (full, full, LedgerError("gone"), None, None):
            with troubles.told("x"):
                if error is not None:
                    raise error
        troubles.say("y", UnusableFile("changed_while_reading", "…"))
        troubles.say("y", ZeroDivisionError("yamada"))
    assert [(each["event"], each.get("why")) for each in logged] == [
        ("held up, and tried again", "outbox: No space left on device"),
        ("held up, and tried again", "gone"),
        ("no longer held up", None),
        ("held up, and tried again", "changed_while_reading"),
        ("held up, and tried again", "ZeroDivisionError"),
        ("unexpected failure", None),
    ]
    assert "yamada" not in str([each for each in logged if "exc_info" not in each])
