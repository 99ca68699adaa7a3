"""Uploads that go on after their file was taken: noticed, given back whole, and each step can be done again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from worker.drop_folder import Claim, DropFolder, Dropped
from worker.late_uploads import LookBack, give_back, has_other_content, read_version


@pytest.fixture
def folder(tmp_path: Path) -> DropFolder:
    found = DropFolder(tmp_path / "drop", time_zone="Asia/Tokyo", settle_seconds=5.0, silent_seconds=120.0)
    found.make()
    found.beat()
    return found


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    path = tmp_path / "kept.csv"
    path.write_text("a\n1\n")
    return path


@pytest.fixture
def writer(folder: DropFolder) -> Iterator[IO[str]]:
    """An uploader that holds its file open."""
    with (folder.inbox / "a.csv").open("w") as file:
        file.write("a\n1\n")
        file.flush()
        yield file


def write(writer: IO[str], text: str) -> None:
    writer.write(text)
    writer.flush()


def ended(folder: DropFolder, where: Path | None = None) -> Claim:
    """The file, read and put away."""
    claim = folder.claim(Dropped("a.csv"))
    assert claim is not None
    claim.note(**read_version(claim.file))
    return Claim(folder.put_away(claim, where or folder.archive, "1"), claim.facts)


def test_a_file_that_rests_stays_where_it_is(folder: DropFolder, writer: IO[str]) -> None:
    claim = ended(folder)
    assert not has_other_content(claim)
    assert list(LookBack(folder).changed()) == []


def test_what_an_uploader_writes_later_comes_along(folder: DropFolder, writer: IO[str], accepted: Path) -> None:
    claim = ended(folder)
    back = LookBack(folder)
    assert list(back.changed()) == []
    write(writer, "2\n")
    (found,) = back.changed()
    assert has_other_content(found)
    name = give_back(found, accepted, folder.inbox)
    assert name is not None
    assert name.startswith("a-continued-")
    write(writer, "3\n")
    assert (folder.inbox / name).read_text() == "a\n1\n2\n3\n"
    assert claim.file.read_text() == "a\n1\n", "the archive has what was accepted"
    assert list(back.changed()) == list(LookBack(folder).changed()) == [], "once"
    assert {each.name for each in claim.folder.iterdir()} == {"claim.json", "file"}


def test_a_new_upload_of_the_same_name_is_not_overwritten(folder: DropFolder, writer: IO[str], accepted: Path) -> None:
    claim = ended(folder)
    (folder.inbox / "a.csv").write_text("another\n")
    write(writer, "2\n")
    give_back(claim, accepted, folder.inbox)
    assert sorted(each.read_text() for each in folder.inbox.iterdir()) == ["a\n1\n2\n", "another\n"]


@pytest.mark.parametrize("after", ["copy", "move"])
def test_killed_in_between_it_is_done_again(folder: DropFolder, writer: IO[str], accepted: Path, after: str) -> None:
    claim = ended(folder)
    write(writer, "2\n")
    (claim.folder / ".accepted").write_text("a\n1\n")
    if after == "move":
        claim.file.rename(folder.inbox / "a-continued-x.csv")
    (found,) = LookBack(folder).changed()
    assert has_other_content(found)
    give_back(found, accepted, folder.inbox)
    assert [each.read_text() for each in folder.inbox.iterdir()] == ["a\n1\n2\n"]
    assert claim.file.read_text() == "a\n1\n"
    assert {each.name for each in claim.folder.iterdir()} == {"claim.json", "file"}
    back = [found for found in LookBack(folder).changed() if has_other_content(found)]
    assert back == []


def test_a_rejected_file_goes_back_as_it_is(folder: DropFolder, writer: IO[str], tmp_path: Path) -> None:
    claim = ended(folder, folder.rejected)
    write(writer, "2\n")
    (found,) = LookBack(folder).changed()
    assert give_back(found, None, folder.inbox) is not None
    assert not claim.is_here
    assert list(LookBack(folder).changed()) == []


@pytest.mark.parametrize("how", ["shorter", "in place"])
def test_a_file_that_is_shorter_or_another_of_the_same_size_has_changed(
    folder: DropFolder, writer: IO[str], how: str
) -> None:
    claim = ended(folder)
    before = claim.file.stat()
    writer.seek(0)
    writer.truncate(0 if how == "shorter" else None)
    write(writer, "" if how == "shorter" else "b\n2\n")
    if how == "in place":
        os.utime(claim.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert has_other_content(claim), "by its checksum, whatever size and time say"


def test_a_new_time_alone_is_nothing_new(folder: DropFolder, writer: IO[str]) -> None:
    claim = ended(folder)
    os.utime(claim.file, (1000, 1000))
    (found,) = LookBack(folder).changed()
    assert not has_other_content(found)
    assert list(LookBack(folder).changed()) == [], "it is noted"


def test_what_a_person_changes_long_after_is_left_alone(folder: DropFolder, writer: IO[str]) -> None:
    claim = ended(folder)
    write(writer, "2\n")
    late = claim.folder.stat().st_ctime + 3601
    os.utime(claim.file, (late, late))
    assert list(LookBack(folder).changed()) == []
