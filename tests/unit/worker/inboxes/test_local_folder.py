"""The drop folder as a whole: from the inbox to where a file ends."""

from __future__ import annotations

import shlex
from pathlib import Path

from drop_folders import claim_folders, claimed, drop, open_folder, with_report
from factories import ManualClock

from worker.inboxes.local_folder import LocalFolder


def test_a_dropped_file_is_claimed_when_it_is_complete_and_archived(folder: LocalFolder, clock: ManualClock) -> None:
    drop(folder, "a.csv")
    assert (folder.complete_files(), folder.settling, folder.unreadable) == ([], 1, {})
    clock.now += 5
    (file,) = folder.complete_files()
    claim = folder.claim(file)
    assert claim is not None
    assert folder.holds(claim)
    archived = folder.archive(claim, "12")
    assert not folder.holds(claim)
    assert archived.file.read_text() == "a\n"
    assert archived.folder.parent.parent == folder.paths.archive
    assert claim_folders(folder) == list(folder.paths.inbox.iterdir()) == []


def test_a_claim_goes_from_a_watcher_that_leaves_to_another(tmp_path: Path, clock: ManualClock) -> None:
    first, second = open_folder(tmp_path, clock), open_folder(tmp_path, clock)
    claim = claimed(first)
    first.note(claim, batch=12)
    first.leave()
    (taken,) = second.take_over(lambda *_: None)
    assert taken.facts == claim.facts
    assert second.holds(taken)
    assert not first.holds(claim)


def test_everything_is_for_its_owner_only(folder: LocalFolder) -> None:
    claim = with_report(claimed(folder))
    folder.publish(claim, "12-a")
    published = folder.paths.outbox / "12-a"
    folders = [*folder.paths, claim.folder, published]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in published.iterdir()} == {0o600}


def test_a_report_is_dropped_again_by_the_command(folder: LocalFolder) -> None:
    claim = claimed(folder, "a file's.csv")
    command = folder.resubmit_command(claim, "12-a file's", "failures.csv")
    assert shlex.split(command) == ["cp", f"{folder.paths.outbox}/12-a file's/failures.csv", f"{folder.incoming}/"]


def test_an_arrival_is_known_wherever_the_file_is_by_now(folder: LocalFolder) -> None:
    assert not folder.arrived_since(0)
    claim = claimed(folder)
    at = claim.facts["claimed_at"]
    assert folder.arrived_since(at - 1)
    folder.reject(claim, "a")
    assert folder.arrived_since(at - 1)
    assert not folder.arrived_since(at + 1)


def test_a_late_upload_returns_to_the_inbox(folder: LocalFolder, tmp_path: Path) -> None:
    claim = claimed(folder)
    folder.note(claim, **folder.read_version(claim))
    with claim.file.open("a") as writer:
        archived = folder.archive(claim, "12")
        assert not folder.has_other_content(archived)
        writer.write("b\n")
    (late,) = folder.late_uploads()
    assert folder.has_other_content(late)
    accepted = tmp_path / "accepted.csv"
    accepted.write_text("a\n")
    assert folder.return_to_inbox(late, accepted)
    assert [path.read_text() for path in folder.paths.inbox.iterdir()] == ["a\nb\n"]
    assert archived.file.read_text() == "a\n", "the archive has what was accepted"
    assert list(folder.late_uploads()) == []
