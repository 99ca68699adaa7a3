"""The watcher's loop without processes: what it asks for, and what it says once."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
import structlog
from factories import KEY, running_batch, untakable

from tasks.errors import LedgerError, UnusableFile
from tasks.models import NotificationKind
from tasks.services import Services
from tasks.settings import SettingsError, load_settings
from worker.commands.run import AtWork, Redis
from worker.drop_folder import Dropped
from worker.interrupts import Interrupts
from worker.late_uploads import read_version
from worker.notifier import message_of
from worker.troubles import Troubles
from worker.watcher import Options, Watcher


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
    found = Watcher(Services(settings), Options(), AtWork(Interrupts(), None, None, Redis()))
    found.folder.make()
    found.folder._inbox._settle_seconds = 0.0  # what is there is complete
    return found


def told(watcher: Watcher) -> list[NotificationKind]:
    """What people are told, by a channel that has been there since the beginning."""
    watcher._ledger.outbox.register_channels(["mail"], 0.0)
    return [news.kind for news in watcher._ledger.outbox.unplanned("mail", time.time(), 0.0)]


def test_nothing_arrived_is_said_once_a_day_by_one_of_the_watchers(watcher: Watcher) -> None:
    watcher._ask_for_the_expected()
    assert told(watcher) == [], "it is not time yet"
    for _ in range(2):
        watcher._expected_at = time.time() - 1
        watcher._ask_for_the_expected()
        watcher._ask_for_the_expected()
    assert told(watcher) == [NotificationKind.NOTHING_ARRIVED]
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


def look(watcher: Watcher) -> list[tuple[str, object, object]]:
    """Let the watcher look into the inbox; return what was said."""
    with structlog.testing.capture_logs() as logged:
        watcher._looked_at = float("-inf")
        watcher._look_if_due()
    return [(each["event"], each.get("what"), each.get("why")) for each in logged if each["event"] != "file taken"]


def drop(watcher: Watcher, *names: str) -> list[Path]:
    paths = [watcher.folder.inbox / name for name in names]
    for path in paths:
        path.write_text("a\n")
    return paths


def test_a_file_that_cannot_be_taken_keeps_no_other_and_is_said_once(watcher: Watcher) -> None:
    watcher._options = Options(once=True)
    stuck, _ = drop(watcher, "a\nstuck.csv", "z good.csv")
    with untakable(stuck):
        said = look(watcher)
        assert [(event, what) for event, what, _ in said] == [("held up, and tried again", "inbox/a_stuck.csv")]
        assert look(watcher) == [], "said once"
    assert [one.claim.name for one in watcher._in_hand] == ["z good.csv"]
    assert told(watcher) == [NotificationKind.NOT_TAKEN]
    assert watcher._code == 1
    assert look(watcher) == [("no longer held up", "inbox/a_stuck.csv", None)]
    assert {one.claim.name for one in watcher._in_hand} == {"z good.csv", "a_stuck.csv"}
    assert told(watcher) == [NotificationKind.NOT_TAKEN]


def test_many_files_that_cannot_be_taken_are_one_message(watcher: Watcher) -> None:
    paths = drop(watcher, *(f"{nth}.csv" for nth in range(5)))
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.enter_context(untakable(path))
        assert len(look(watcher)) == 5
        (news,) = watcher._ledger.outbox.unplanned("mail", time.time(), 0.0) if told(watcher) else ()
    assert news.why.startswith("0.csv (")
    assert news.why.endswith(", +2")
    assert "1.csv (" in message_of(watcher._ours, news).text
    paths[0].unlink()
    said = {what for _, what, _ in look(watcher)}
    assert said == {f"inbox/{nth}.csv" for nth in range(5)}, "also of the one that is gone"


def test_an_inbox_that_is_shut_is_said_once_without_the_names_in_it(watcher: Watcher) -> None:
    drop(watcher, "yamada.csv")
    with untakable(watcher.folder.inbox):
        assert [(event, what) for event, what, _ in look(watcher)] == [("held up, and tried again", "folder")]
        assert look(watcher) == []
        assert told(watcher) == [NotificationKind.NOT_TAKEN]
    assert look(watcher) == [("no longer held up", "folder", None)]


def test_files_that_cannot_be_read_keep_no_other_waiting(watcher: Watcher) -> None:
    drop(watcher, *(f"{nth:02}.csv" for nth in range(12)))
    look(watcher)
    assert (watcher.in_hand, watcher._left_there) == (8, True)
    for one in watcher._in_hand:
        one.try_at = time.monotonic() + 3600  # its reading has failed
    look(watcher)
    assert (watcher.in_hand, watcher._left_there) == (12, False)


def test_a_claim_goes_on_with_its_batch_though_its_file_has_grown_since(watcher: Watcher) -> None:
    batch = running_batch(watcher._ledger, 3)
    drop(watcher, "a.csv")
    look(watcher)
    one = watcher._in_hand[0]
    one.claim.note(sha256="0" * 64, after=0, batch=None)  # killed before it was written down
    watcher._ours.files.mkdir()
    (watcher._ours.files / f"{'0' * 64}.csv").write_text("what was accepted")
    watcher._read(one)
    assert (one.batch_id, one.repeats, one.claim.facts["sha256"]) == (batch, False, "0" * 64)


def test_what_went_on_is_said_once_and_can_be_taken_again(watcher: Watcher) -> None:
    (path,) = drop(watcher, "a.csv")
    with path.open("a") as writer:
        look(watcher)
        claim = watcher._in_hand.pop().claim
        claim.note(**read_version(claim.file))
        writer.write("b\n")
        writer.flush()
        with structlog.testing.capture_logs() as logged:
            watcher._put_into(watcher.folder.rejected, "a", claim)
            watcher._give_back_what_went_on()
    assert [each["event"] for each in logged] == ["file changed after it was read, and comes back"]
    assert told(watcher) == [NotificationKind.WENT_ON]
    look(watcher)
    assert watcher._in_hand[0].claim.file.read_text() == "a\nb\n"
