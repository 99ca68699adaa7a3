"""Claims: each file is claimed by one watcher, survives that watcher, and a file that cannot be claimed stays."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from factories import ManualClock, untakable

from worker.inboxes.claims import FACTS, Claims, claimed_at, has_file, note, recover
from worker.inboxes.heartbeats import Heartbeats
from worker.inboxes.protocol import FILE, Claim, CompleteFile


class Watcher(NamedTuple):
    """A watcher of the folders `inbox` and `processing` of a test."""

    root: Path
    heartbeats: Heartbeats
    claims: Claims

    def claim(self, name: str, *companions: str) -> Claim | None:
        return self.claims.claim(CompleteFile(name, companions))

    def claimed(self, name: str) -> Claim:
        drop(self.root, name)
        claim = self.claim(name)
        assert claim is not None
        return claim

    def take_over(self) -> list[Claim]:
        """The claims of dead watchers; none of them fails."""

        def unexpected(claim_id: str, error: OSError) -> None:
            raise AssertionError(claim_id) from error

        return self.claims.take_over(unexpected)


def watcher_of(root: Path, clock: ManualClock) -> Watcher:
    watchers = root / "processing" / ".watchers"
    for folder in (root / "inbox", watchers):
        folder.mkdir(parents=True, exist_ok=True)
    heartbeats = Heartbeats(watchers, 120.0, clock)
    heartbeats.send()
    return Watcher(root, heartbeats, Claims(root / "inbox", root / "processing", heartbeats))


@pytest.fixture
def first(tmp_path: Path, clock: ManualClock) -> Watcher:
    return watcher_of(tmp_path, clock)


@pytest.fixture
def second(tmp_path: Path, clock: ManualClock) -> Watcher:
    return watcher_of(tmp_path, clock)


def drop(root: Path, name: str, content: str = "a\n") -> Path:
    path = root / "inbox" / name
    path.write_text(content)
    return path


def claim_folders(root: Path) -> list[Path]:
    return list((root / "processing").glob("*@*"))


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_of_two_watchers_one_gets_the_file(tmp_path: Path, first: Watcher, second: Watcher) -> None:
    drop(tmp_path, "a.csv")
    assert first.claim("a.csv") is not None
    assert second.claim("a.csv") is None
    assert len(claim_folders(tmp_path)) == 1, "the slower one leaves nothing behind"


def test_companions_move_with_their_file(tmp_path: Path, first: Watcher) -> None:
    for name in ("a.csv", "a.csv.done", "b.csv.done"):
        drop(tmp_path, name)
    claim = first.claim("a.csv", "a.csv.done", "gone.md5")
    assert claim is not None
    assert names_in(claim.file.parent) == {"a.csv", "a.csv.done"}
    assert names_in(tmp_path / "inbox") == {"b.csv.done"}


def test_a_link_is_claimed_and_never_followed(tmp_path: Path, first: Watcher) -> None:
    (tmp_path / "inbox" / "link.csv").symlink_to("/etc/hostname")
    claim = first.claim("link.csv")
    assert claim is not None
    assert claim.file.is_symlink()
    assert has_file(claim)


ODD_NAMES = [
    *(" ..", " .", "\u3000..", "-rf.csv", "--help", "CON", "a\nb.csv", "*", "x" * 251 + ".csv", "あ" * 85),
    os.fsdecode(b"caf\xe9.csv"),
    os.fsdecode(b"\xff" * 255),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_every_name_can_be_claimed(tmp_path: Path, first: Watcher, name: str) -> None:
    try:
        drop(tmp_path, name, "what is in it")
    except OSError:
        pytest.skip("this file system has no such names")
    claim = first.claim(name)
    assert claim is not None
    assert claim.file.parent == claim.folder / FILE
    assert claim.file.read_text() == "what is in it"
    assert list((tmp_path / "inbox").iterdir()) == []


def test_a_file_that_is_gone_or_a_folder_by_now_leaves_no_claim(tmp_path: Path, first: Watcher) -> None:
    (tmp_path / "inbox" / "folder.csv").mkdir()
    assert first.claim("folder.csv") is None
    assert first.claim("gone.csv") is None
    assert claim_folders(tmp_path) == []
    assert (tmp_path / "inbox" / "folder.csv").is_dir()


def test_a_file_that_cannot_be_moved_stays_and_leaves_no_claim(tmp_path: Path, first: Watcher) -> None:
    path = drop(tmp_path, "a.csv")
    with untakable(path), pytest.raises(PermissionError) as caught:
        first.claim("a.csv")
    assert not first.claims.blocks_every_file(caught.value), "others can be claimed"
    assert claim_folders(tmp_path) == []
    assert first.claim("a.csv") is not None


def test_a_folder_in_which_nothing_can_be_moved_blocks_every_file(tmp_path: Path, first: Watcher) -> None:
    drop(tmp_path, "a.csv")
    with untakable(tmp_path / "inbox"), pytest.raises(PermissionError) as caught:
        first.claim("a.csv")
    with untakable(tmp_path / "inbox"):
        assert first.claims.blocks_every_file(caught.value)
    assert not first.claims.blocks_every_file(caught.value)


OTHER_USER = 65534
CLAIM_ALL = """
import errno, os, sys
from pathlib import Path
from worker.inboxes.local_folder import LocalFolder

folder = LocalFolder(Path(sys.argv[1]), time_zone="UTC", settle_seconds=0, silent_seconds=9)
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
for file in sorted(folder.complete_files()):
    try:
        folder.claim(file)
    except OSError as error:
        assert not folder.blocks_every_file(error)
        print(file.name, errno.errorcode[error.errno])
    else:
        print(file.name, "claimed")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_files_of_another_user_in_a_sticky_folder_and_unreadable_ones_block_no_others() -> None:
    """By a process of a user who is bound by permissions."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        drop_folder = Path(root) / "drop"
        for folder, owner in (
            (drop_folder, OTHER_USER),
            (drop_folder / "inbox", 0),
            (drop_folder / "processing", OTHER_USER),
        ):
            folder.mkdir()
            os.chown(folder, owner, owner)
        (drop_folder / "inbox").chmod(0o1777)
        for name, owner, mode in (
            ("sticky.csv", 0, 0o644),
            ("unreadable.csv", OTHER_USER, 0),
            ("a.csv", OTHER_USER, 0o644),
        ):
            path = drop(drop_folder, name)
            os.chown(path, owner, owner)
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", CLAIM_ALL, str(drop_folder), str(OTHER_USER)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.stdout.split() == ["a.csv", "claimed", "sticky.csv", "EPERM", "unreadable.csv", "EACCES"], (
            done.stderr
        )
        assert len(claim_folders(drop_folder)) == 1
        assert names_in(drop_folder / "inbox") == {"sticky.csv", "unreadable.csv"}


def test_an_inbox_on_another_file_system_is_named_as_the_reason(tmp_path: Path, clock: ManualClock) -> None:
    places = [Path(path) for path in ("/dev/shm", "/tmp", "/var/tmp") if os.access(path, os.W_OK)]
    place = next((path for path in places if path.stat().st_dev != tmp_path.stat().st_dev), None)
    if place is None:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=place) as elsewhere:
        (tmp_path / "inbox").symlink_to(elsewhere)
        watcher = watcher_of(tmp_path, clock)
        drop(tmp_path, "a.csv")
        with pytest.raises(OSError, match="on another file system than processing/") as caught:
            watcher.claim("a.csv")
        assert watcher.claims.blocks_every_file(caught.value)
        assert names_in(tmp_path / "inbox") == {"a.csv"}
        assert claim_folders(tmp_path) == []


def test_a_file_that_was_moved_is_claimed_though_the_disk_is_full(tmp_path: Path, first: Watcher) -> None:
    drop(tmp_path, "a.csv")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        claim = first.claim("a.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert claim is not None
    assert has_file(claim)
    note(claim, batch=1)
    assert json.loads((claim.folder / FACTS).read_bytes()).keys() == {"name", "claim", "claimed_at", "batch"}


@pytest.mark.parametrize("facts", ["", "[]", '{"name": "b.csv"}', '{"claimed_at": "late"}'])
def test_a_claim_is_recovered_whatever_is_left_of_its_facts(first: Watcher, facts: str) -> None:
    claim = first.claimed("b.csv")
    (claim.folder / FACTS).write_text(facts)
    recovered = recover(claim.folder)
    assert recovered is not None
    assert (recovered.name, recovered.id) == ("b.csv", claim.id)
    assert recovered.facts["claimed_at"] == pytest.approx(claim.facts["claimed_at"], abs=0.001)


def test_facts_that_name_no_file_of_the_claim_are_not_a_claim(first: Watcher) -> None:
    claim = first.claimed("b.csv")
    (claim.folder / FACTS).write_text('{"name": " ..", "claimed_at": 1.0}')
    assert recover(claim.folder) is None


def test_the_time_of_a_claim_with_damaged_facts_is_unknown(first: Watcher) -> None:
    claim = first.claimed("b.csv")
    assert claimed_at(claim.folder) == claim.facts["claimed_at"]
    (claim.folder / FACTS).write_text("{")
    assert claimed_at(claim.folder) == 0.0


def test_a_claim_that_cannot_be_taken_over_blocks_no_other(first: Watcher, second: Watcher) -> None:
    stuck, free = first.claimed("a.csv"), first.claimed("b.csv")
    first.heartbeats.end()
    failed: list[str] = []
    with untakable(stuck.folder):
        taken = second.claims.take_over(lambda claim_id, _: failed.append(claim_id))
    assert [claim.id for claim in taken] == [free.id]
    assert failed == [stuck.id]
    assert [claim.id for claim in second.take_over()] == [stuck.id]


def test_the_claims_of_a_living_watcher_stay_its_own(first: Watcher, second: Watcher, clock: ManualClock) -> None:
    claim = first.claimed("a.csv")
    clock.now += 10_000
    assert second.take_over() == first.take_over() == []
    assert has_file(claim)


def test_the_claims_of_a_watcher_that_ended_are_taken_over_by_one_other(
    tmp_path: Path, clock: ManualClock, first: Watcher, second: Watcher
) -> None:
    third = watcher_of(tmp_path, clock)
    claim = first.claimed("名前.csv")
    note(claim, batch=12)
    first.heartbeats.end()
    (taken,) = second.take_over()
    assert third.take_over() == []
    assert (taken.id, taken.name, taken.facts["batch"]) == (claim.id, "名前.csv", 12)
    assert has_file(taken)
    assert not has_file(claim)


def test_the_heartbeat_of_a_dead_watcher_is_removed_once_nothing_of_it_is_left(
    tmp_path: Path, first: Watcher, second: Watcher
) -> None:
    claim = first.claimed("a.csv")
    path = tmp_path / "processing" / ".watchers" / f"{first.heartbeats.watcher}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "process_started": "another"}))
    with untakable(claim.folder):
        second.claims.take_over(lambda *_: None)
        assert path.exists(), "its claim could not be taken over yet"
    assert len(second.take_over()) == 1
    assert not path.exists()


def test_a_claim_without_its_file_is_removed_and_a_file_without_its_facts_is_not(
    tmp_path: Path, first: Watcher, second: Watcher
) -> None:
    without_file, without_facts = first.claimed("a.csv"), first.claimed("b.csv")
    without_file.file.unlink()
    (without_facts.folder / FACTS).write_text("{")
    first.heartbeats.end()
    (taken,) = second.take_over()
    assert taken.name == "b.csv"
    assert claim_folders(tmp_path) == [taken.folder]


def test_it_is_known_whether_others_claim_a_batch(first: Watcher, second: Watcher) -> None:
    of_first, of_second = first.claimed("a.csv"), second.claimed("b.csv")
    note(of_first, batch=12)
    assert second.claims.others_claim(12, of_second)
    assert not first.claims.others_claim(12, of_first)
    assert not second.claims.others_claim(13, of_second)
