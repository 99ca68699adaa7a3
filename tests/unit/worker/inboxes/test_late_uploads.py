"""Uploads that continued after their file was taken: no row is lost, and nothing is overwritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from worker.inboxes.claims import FACTS, has_file, note
from worker.inboxes.dated_folder import DatedFolder
from worker.inboxes.late_uploads import LateUploads, has_other_content, read_version, return_to_inbox
from worker.inboxes.protocol import Claim


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> DatedFolder:
    (tmp_path / "archive").mkdir()
    return DatedFolder(tmp_path / "archive", "Asia/Tokyo")


@pytest.fixture
def late(archive: DatedFolder) -> LateUploads:
    return LateUploads([archive])


@pytest.fixture
def accepted(tmp_path: Path) -> Path:
    path = tmp_path / "accepted.csv"
    path.write_text("a\n1\n")
    return path


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    """A claim, read and not closed."""
    claim = Claim(tmp_path / "processing" / "1@w", {"name": "a.csv"})
    claim.file.parent.mkdir(parents=True)
    claim.file.write_text("a\n1\n")
    note(claim, **read_version(claim.file))
    return claim


@pytest.fixture
def writer(claim: Claim) -> Iterator[IO[str]]:
    """An uploader that holds its file open."""
    with claim.file.open("r+") as file:
        file.seek(0, os.SEEK_END)
        yield file


def write(writer: IO[str], text: str) -> None:
    writer.write(text)
    writer.flush()


def closed(claim: Claim, archive: DatedFolder) -> Claim:
    return Claim(archive.add(claim.folder, "1"), claim.facts)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_that_does_not_change_stays_where_it_is(
    archive: DatedFolder, late: LateUploads, claim: Claim, writer: IO[str]
) -> None:
    assert not has_other_content(closed(claim, archive))
    assert list(late.changed()) == []


def test_what_an_uploader_writes_later_is_included(
    inbox: Path, archive: DatedFolder, late: LateUploads, claim: Claim, writer: IO[str], accepted: Path
) -> None:
    archived = closed(claim, archive)
    assert list(late.changed()) == []
    write(writer, "2\n")
    (changed,) = late.changed()
    assert has_other_content(changed)
    name = return_to_inbox(changed, accepted, inbox)
    assert name is not None
    assert name.startswith("a-continued-")
    write(writer, "3\n")
    assert (inbox / name).read_text() == "a\n1\n2\n3\n"
    assert archived.file.read_text() == "a\n1\n", "the archive has what was accepted"
    assert list(late.changed()) == list(LateUploads([archive]).changed()) == [], "once"
    assert names_in(archived.folder) == {FACTS, "file"}


def test_a_new_upload_of_the_same_name_is_not_overwritten(
    inbox: Path, archive: DatedFolder, claim: Claim, writer: IO[str], accepted: Path
) -> None:
    archived = closed(claim, archive)
    (inbox / "a.csv").write_text("another\n")
    write(writer, "2\n")
    return_to_inbox(archived, accepted, inbox)
    assert sorted(path.read_text() for path in inbox.iterdir()) == ["a\n1\n2\n", "another\n"]


@pytest.mark.parametrize("after", ["copy", "move"])
def test_interrupted_between_two_steps_it_is_repeated(
    inbox: Path, archive: DatedFolder, claim: Claim, writer: IO[str], accepted: Path, after: str
) -> None:
    archived = closed(claim, archive)
    write(writer, "2\n")
    (archived.folder / ".accepted").write_text("a\n1\n")
    if after == "move":
        archived.file.rename(inbox / "a-continued-x.csv")
    (changed,) = LateUploads([archive]).changed()
    assert has_other_content(changed)
    return_to_inbox(changed, accepted, inbox)
    assert [path.read_text() for path in inbox.iterdir()] == ["a\n1\n2\n"]
    assert archived.file.read_text() == "a\n1\n"
    assert names_in(archived.folder) == {FACTS, "file"}
    assert [again for again in LateUploads([archive]).changed() if has_other_content(again)] == []


def test_a_rejected_file_returns_as_it_is(
    inbox: Path, archive: DatedFolder, claim: Claim, writer: IO[str], tmp_path: Path
) -> None:
    rejected = closed(claim, archive)
    write(writer, "2\n")
    (changed,) = LateUploads([archive]).changed()
    assert return_to_inbox(changed, None, inbox) is not None
    assert not has_file(rejected)
    assert list(LateUploads([archive]).changed()) == []
    assert return_to_inbox(changed, None, inbox) is None, "it had been moved before"


@pytest.mark.parametrize("how", ["shorter", "in place"])
def test_a_file_that_is_shorter_or_another_of_the_same_size_has_other_content(
    archive: DatedFolder, claim: Claim, writer: IO[str], how: str
) -> None:
    archived = closed(claim, archive)
    before = archived.file.stat()
    writer.seek(0)
    writer.truncate(0 if how == "shorter" else None)
    write(writer, "" if how == "shorter" else "b\n2\n")
    if how == "in place":
        os.utime(archived.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert has_other_content(archived), "by its checksum, whatever size and time say"


def test_a_new_time_alone_is_not_a_change(archive: DatedFolder, late: LateUploads, claim: Claim) -> None:
    archived = closed(claim, archive)
    os.utime(archived.file, (1000, 1000))
    (changed,) = late.changed()
    assert not has_other_content(changed)
    assert list(LateUploads([archive]).changed()) == [], "it is noted"


def test_what_a_person_changes_long_after_is_left_alone(
    archive: DatedFolder, late: LateUploads, claim: Claim, writer: IO[str]
) -> None:
    archived = closed(claim, archive)
    write(writer, "2\n")
    later = archived.folder.stat().st_ctime + 3601
    os.utime(archived.file, (later, later))
    assert list(late.changed()) == []
