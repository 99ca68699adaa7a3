"""Which files of an inbox are complete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from factories import ManualClock

from worker.inboxes.protocol import CompleteFile
from worker.inboxes.settling import SettlingFiles


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def files(inbox: Path, clock: ManualClock) -> SettlingFiles:
    return SettlingFiles(inbox, 5.0, clock)


def drop(inbox: Path, name: str, content: str = "a\n", *, at: float | None = None) -> Path:
    path = inbox / name
    path.write_text(content)
    if at is not None:
        os.utime(path, (at, at))
    return path


def names(complete: list[CompleteFile]) -> list[str]:
    return [file.name for file in complete]


def test_a_file_is_complete_when_it_has_not_changed_for_long_enough(
    inbox: Path, files: SettlingFiles, clock: ManualClock
) -> None:
    drop(inbox, "a.csv")
    assert files.scan() == []
    assert files.settling == 1
    clock.now += 4.9
    assert files.scan() == []
    clock.now += 0.1
    assert names(files.scan()) == ["a.csv"]


def test_a_complete_file_that_is_left_is_complete_at_the_next_scan(
    inbox: Path, files: SettlingFiles, clock: ManualClock
) -> None:
    drop(inbox, "a.csv")
    assert files.scan() == []
    clock.now += 5
    assert names(files.scan()) == names(files.scan()) == ["a.csv"]
    assert files.settling == 0


def test_a_file_that_grows_or_is_overwritten_starts_anew(inbox: Path, files: SettlingFiles, clock: ManualClock) -> None:
    path = drop(inbox, "a.csv", at=1000)
    files.scan()
    for change in (lambda: drop(inbox, "a.csv", "ab\n", at=1000), lambda: drop(inbox, "a.csv", "cd\n", at=2000)):
        clock.now += 5
        change()
        assert files.scan() == []
    replacement = drop(inbox.parent, "replacement", "ef\n", at=2000)
    replacement.rename(path)
    clock.now += 5
    assert files.scan() == [], "the same size and time, but another file"


@pytest.mark.parametrize("companion", ["a.csv.done", "a.ready", "A.CSV.OK", "a.ctl"])
def test_a_companion_makes_a_file_complete_at_once(inbox: Path, files: SettlingFiles, companion: str) -> None:
    drop(inbox, "a.csv")
    drop(inbox, companion)
    (file,) = files.scan()
    assert (file.name, file.companions) == ("a.csv", (companion,))


def test_a_companion_of_an_earlier_file_declares_nothing_about_a_later_one(
    inbox: Path, files: SettlingFiles, clock: ManualClock
) -> None:
    companion = drop(inbox, "a.csv.done")
    before = companion.stat().st_ctime_ns
    while drop(inbox, "a.csv").stat().st_ctime_ns == before:  # the clock of files is coarse
        pass
    assert files.scan() == []
    clock.now += 5
    (file,) = files.scan()
    assert file.companions == ("a.csv.done",), "it moves with the later one"


def test_a_checksum_does_not_make_a_file_complete(inbox: Path, files: SettlingFiles, clock: ManualClock) -> None:
    for name in ("a.csv", "a.csv.md5", "b.csv.md5"):
        drop(inbox, name)
    assert files.scan() == []
    clock.now += 5
    (file,) = files.scan()
    assert (file.name, file.companions) == ("a.csv", ("a.csv.md5",))


def test_what_is_unfinished_or_not_a_file_is_ignored(inbox: Path, files: SettlingFiles, clock: ManualClock) -> None:
    for name in ("a.csv.part", "~$e.csv", ".f.csv", "Thumbs.db", "g.csv.done", "h.csv.md5", "folder.csv.txt"):
        drop(inbox, name)
    for name in ("folder.csv", "folder.csv.txt.done", "__MACOSX"):
        (inbox / name).mkdir()
    os.mkfifo(inbox / "fifo.csv")
    assert files.scan() == []
    assert files.settling == 1
    clock.now += 5
    (file,) = files.scan()
    assert (file.name, file.companions) == ("folder.csv.txt", ())
    assert files.settling == 0


def test_a_link_is_complete_at_once(inbox: Path, files: SettlingFiles) -> None:
    (inbox / "link.csv").symlink_to("/etc/hostname")
    assert names(files.scan()) == ["link.csv"]


def test_the_oldest_comes_first(inbox: Path, files: SettlingFiles, clock: ManualClock) -> None:
    for name, at in (("c.csv", 10), ("a.csv", 30), ("b.csv", 20)):
        drop(inbox, name, at=at)
    files.scan()
    clock.now += 5
    assert names(files.scan()) == ["c.csv", "b.csv", "a.csv"]


def test_an_inbox_that_is_gone_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SettlingFiles(tmp_path / "gone", 5.0).scan()
