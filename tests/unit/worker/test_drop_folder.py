"""The drop folder: what is complete, whose it is, and that nothing is overwritten."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from factories import untakable

from worker.drop_folder import CLAIM, REPORTS, WATCHERS, Claim, DropFolder, Dropped, Inbox
from worker.dropped_names import stem_of


class Clock:
    """A monotonic clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> DropFolder:
    return watcher_of(tmp_path, clock)


def watcher_of(root: Path, clock: Clock) -> DropFolder:
    found = DropFolder(root / "drop", time_zone="Asia/Tokyo", settle_seconds=5.0, silent_seconds=120.0, now=clock)
    found.make()
    found.beat()
    return found


def drop(folder: DropFolder, name: str, content: str = "a\n", *, at: float | None = None) -> Path:
    path = folder.inbox / name
    path.write_text(content)
    if at is not None:
        os.utime(path, (at, at))
    return path


def claimed(folder: DropFolder, name: str = "a.csv", content: str = "a\n") -> Claim:
    drop(folder, name, content)
    claim = folder.claim(Dropped(name))
    assert claim is not None
    return claim


def reported(claim: Claim, text: str = "report") -> Claim:
    (claim.folder / REPORTS).mkdir(exist_ok=True)
    (claim.folder / REPORTS / "summary.json").write_text(text)
    return claim


def unexpected(name: str, error: OSError) -> None:
    raise AssertionError(name) from error


OTHER_USER = 65534
CLAIM_ALL = """
import errno, os, sys
from pathlib import Path
from worker.drop_folder import DropFolder

folder = DropFolder(Path(sys.argv[1]), time_zone="UTC", settle_seconds=0, silent_seconds=9)
os.setgroups([]), os.setgid(int(sys.argv[2])), os.setuid(int(sys.argv[2]))
for dropped in sorted(folder.complete()):
    try:
        folder.claim(dropped)
    except OSError as error:
        assert not folder.is_shut(error)
        print(dropped.name, errno.errorcode[error.errno])
    else:
        print(dropped.name, "taken")
"""


def names(found: list[Dropped]) -> list[str]:
    return [each.name for each in found]


# -------------------------------------------------------------------------------------------------- complete or not


def test_a_file_is_complete_when_two_looks_apart_saw_the_same(folder: DropFolder, clock: Clock) -> None:
    drop(folder, "a.csv")
    assert folder.complete() == []
    assert folder.settling == 1
    clock.at += 4.9
    assert folder.complete() == []
    clock.at += 0.1
    assert names(folder.complete()) == ["a.csv"]


def test_a_complete_file_that_nobody_had_a_hand_for_is_complete_at_the_next_look(
    folder: DropFolder, clock: Clock
) -> None:
    drop(folder, "a.csv")
    assert folder.complete() == []
    clock.at += 5
    assert names(folder.complete()) == names(folder.complete()) == ["a.csv"]
    assert folder.settling == 0


def test_a_file_that_grows_or_is_written_over_starts_anew(folder: DropFolder, clock: Clock) -> None:
    path = drop(folder, "a.csv", at=1000)
    folder.complete()
    for change in (lambda: drop(folder, "a.csv", "ab\n", at=1000), lambda: drop(folder, "a.csv", "cd\n", at=2000)):
        clock.at += 5
        change()
        assert folder.complete() == []
    (folder.root / "other").write_text("ef\n")
    os.utime(folder.root / "other", (2000, 2000))
    (folder.root / "other").rename(path)
    clock.at += 5
    assert folder.complete() == [], "the same size and time, but another file"


@pytest.mark.parametrize("companion", ["a.csv.done", "a.ready", "A.CSV.OK", "a.ctl"])
def test_a_companion_makes_a_file_complete_at_once(folder: DropFolder, companion: str) -> None:
    drop(folder, "a.csv")
    drop(folder, companion)
    found = folder.complete()
    assert names(found) == ["a.csv"]
    claim = folder.claim(found[0])
    assert claim is not None
    assert list(folder.inbox.iterdir()) == []
    assert {each.name for each in claim.file.parent.iterdir()} == {"a.csv", companion}


def test_a_companion_of_an_earlier_file_says_nothing_of_a_later_one(folder: DropFolder, clock: Clock) -> None:
    companion = drop(folder, "a.csv.done")
    before = companion.stat().st_ctime_ns
    while drop(folder, "a.csv").stat().st_ctime_ns == before:  # the clock of files is coarse
        pass
    assert folder.complete() == []
    clock.at += 5
    found = folder.complete()
    assert folder.claim(found[0]) is not None
    assert list(folder.inbox.iterdir()) == [], "it goes with the later one"


def test_a_checksum_does_not_make_a_file_complete_and_goes_with_it(folder: DropFolder, clock: Clock) -> None:
    drop(folder, "a.csv")
    drop(folder, "a.csv.md5")
    drop(folder, "b.csv.md5")
    assert folder.complete() == []
    clock.at += 5
    (found,) = folder.complete()
    claim = folder.claim(found)
    assert claim is not None
    assert {each.name for each in claim.file.parent.iterdir()} == {"a.csv", "a.csv.md5"}
    assert [each.name for each in folder.inbox.iterdir()] == ["b.csv.md5"], "it stays, and nobody minds"


def test_what_is_unfinished_or_no_file_is_passed_over(folder: DropFolder, clock: Clock) -> None:
    for name in ("a.csv.part", "~$e.csv", ".f.csv", "Thumbs.db", "g.csv.done", "h.csv.md5"):
        drop(folder, name)
    drop(folder, "folder.csv.txt")
    for name in ("folder.csv", "folder.csv.txt.done", "__MACOSX"):
        (folder.inbox / name).mkdir()
    os.mkfifo(folder.inbox / "fifo.csv")
    assert folder.complete() == []
    assert folder.settling == 1
    clock.at += 5
    (found,) = folder.complete()
    assert (found.name, found.companions) == ("folder.csv.txt", ())
    assert folder.settling == 0


def test_a_link_is_taken_at_once_and_never_followed(folder: DropFolder) -> None:
    (folder.inbox / "link.csv").symlink_to("/etc/hostname")
    claim = folder.claim(folder.complete()[0])
    assert claim is not None
    assert claim.file.is_symlink()
    assert claim.is_here


def test_the_oldest_comes_first(folder: DropFolder, clock: Clock) -> None:
    for name, at in (("c.csv", 10), ("a.csv", 30), ("b.csv", 20)):
        drop(folder, name, at=at)
    folder.complete()
    clock.at += 5
    assert names(folder.complete()) == ["c.csv", "b.csv", "a.csv"]


def test_an_inbox_that_is_gone_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Inbox(tmp_path / "gone", 5.0).look()


# ------------------------------------------------------------------------------------------------------------ claims


def test_of_two_watchers_one_gets_the_file(tmp_path: Path, clock: Clock) -> None:
    one, other = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    drop(one, "a.csv")
    assert one.claim(Dropped("a.csv")) is not None
    assert other.claim(Dropped("a.csv")) is None
    assert len(list(one.processing.glob("*@*"))) == 1, "the other leaves nothing behind"


ODD_NAMES = [
    *(" ..", " .", "\u3000..", "-rf.csv", "--help", "CON", "a\nb.csv", "*", "x" * 251 + ".csv", "あ" * 85),
    os.fsdecode(b"caf\xe9.csv"),
    os.fsdecode(b"\xff" * 255),
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_every_name_can_be_taken_and_ends_where_it_should(folder: DropFolder, clock: Clock, name: str) -> None:
    try:
        drop(folder, name, "what is in it")
    except OSError:
        pytest.skip("this file system has no such names")
    folder.complete()
    clock.at += 5
    claim = folder.claim(folder.complete()[0])
    assert claim is not None
    assert claim.file.parent == claim.folder / "file"
    assert claim.file.read_text() == "what is in it"
    assert list(folder.inbox.iterdir()) == []
    target = folder.put_away(reported(claim), folder.rejected, f"{claim.id}-{stem_of(claim.name)}")
    assert target.parent.parent == folder.rejected


def test_of_a_file_that_is_gone_or_a_folder_by_now_nothing_is_left(folder: DropFolder) -> None:
    (folder.inbox / "folder.csv").mkdir()
    assert folder.claim(Dropped("folder.csv")) is None
    assert folder.claim(Dropped("gone.csv")) is None
    assert list(folder.processing.glob("*@*")) == []
    assert (folder.inbox / "folder.csv").is_dir()


def test_a_file_that_cannot_be_moved_stays_and_leaves_no_claim(folder: DropFolder) -> None:
    path = drop(folder, "a.csv")
    with untakable(path), pytest.raises(PermissionError) as caught:
        folder.claim(Dropped("a.csv"))
    assert not folder.is_shut(caught.value), "others can be taken"
    assert list(folder.processing.glob("*@*")) == []
    assert folder.claim(Dropped("a.csv")) is not None


def test_a_folder_in_which_nothing_can_be_moved_is_shut(folder: DropFolder) -> None:
    drop(folder, "a.csv")
    with untakable(folder.inbox), pytest.raises(PermissionError) as caught:
        folder.claim(Dropped("a.csv"))
    with untakable(folder.inbox):
        assert folder.is_shut(caught.value)
    assert not folder.is_shut(caught.value)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_of_another_users_files_in_a_sticky_folder_or_unreadable_ones_others_are_not_hit() -> None:
    """By a process of a user who is bound by permissions."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        drop_folder = DropFolder(Path(root) / "drop", time_zone="UTC", settle_seconds=0, silent_seconds=9)
        drop_folder.make()
        for folder in (drop_folder.root, drop_folder.processing):
            os.chown(folder, OTHER_USER, OTHER_USER)
        drop_folder.inbox.chmod(0o1777)
        for name, owner, mode in (("sticky.csv", 0, 0o644), ("unreadable.csv", OTHER_USER, 0), ("a.csv", 65534, 0o644)):
            path = drop(drop_folder, name)
            os.chown(path, owner, owner)
            path.chmod(mode)
        done = subprocess.run(
            [sys.executable, "-c", CLAIM_ALL, str(drop_folder.root), str(OTHER_USER)],
            capture_output=True,
            text=True,
            check=False,
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.stdout.split() == ["a.csv", "taken", "sticky.csv", "EPERM", "unreadable.csv", "EACCES"], done.stderr
        assert len(list(drop_folder.processing.glob("*@*"))) == 1
        assert {each.name for each in drop_folder.inbox.iterdir()} == {"sticky.csv", "unreadable.csv"}


def test_an_inbox_on_another_file_system_is_said_to_be_one(tmp_path: Path, clock: Clock) -> None:
    others = [Path(each) for each in ("/dev/shm", "/tmp", "/var/tmp") if os.access(each, os.W_OK)]
    other = next((each for each in others if each.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip("one file system only")
    with tempfile.TemporaryDirectory(dir=other) as elsewhere:
        (tmp_path / "drop").mkdir()
        (tmp_path / "drop" / "inbox").symlink_to(elsewhere)
        folder = watcher_of(tmp_path, clock)
        drop(folder, "a.csv")
        with pytest.raises(OSError, match="on another file system than processing/") as caught:
            folder.claim(Dropped("a.csv"))
        assert folder.is_shut(caught.value)
        assert [each.name for each in folder.inbox.iterdir()] == ["a.csv"]
        assert list(folder.processing.glob("*@*")) == []


def test_a_file_that_was_moved_is_claimed_though_the_disk_is_full(folder: DropFolder) -> None:
    drop(folder, "a.csv")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        claim = folder.claim(Dropped("a.csv"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert claim is not None
    assert claim.is_here
    claim.note(batch=1)
    assert json.loads((claim.folder / CLAIM).read_bytes()).keys() == {"name", "claim", "claimed_at", "batch"}


@pytest.mark.parametrize("facts", ["", "[]", '{"name": "b.csv"}', '{"name": " ..", "claimed_at": 1.0}'])
def test_a_claim_is_found_anew_whatever_is_left_of_what_was_written_down(
    tmp_path: Path, clock: Clock, facts: str
) -> None:
    ended, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claim = claimed(ended, "b.csv")
    (claim.folder / CLAIM).write_text(facts)
    ended.leave()
    taken = one.take_over(unexpected)
    if ".." in facts:
        assert taken == []  # of a release that could not take it; there is no such file
        return
    assert (taken[0].name, taken[0].id) == ("b.csv", claim.id)
    assert taken[0].facts["claimed_at"] == pytest.approx(claim.facts["claimed_at"], abs=0.001)


def test_a_claim_that_cannot_be_taken_over_keeps_no_other(tmp_path: Path, clock: Clock) -> None:
    ended, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    first, second = claimed(ended, "a.csv"), claimed(ended, "b.csv")
    ended.leave()
    failed = []
    with untakable(first.folder):
        assert [each.name for each in one.take_over(lambda name, _: failed.append(name))] == ["b.csv"]
    assert failed == [first.id]
    assert second.id not in failed
    assert [each.name for each in one.take_over(unexpected)] == ["a.csv"]


def test_what_a_living_watcher_has_stays_its_own(tmp_path: Path, clock: Clock) -> None:
    one, other = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claim = claimed(one)
    clock.at += 10_000
    assert other.take_over(unexpected) == []
    assert one.take_over(unexpected) == []
    assert claim.is_here


def test_what_a_watcher_left_when_it_ended_is_anybodys_and_goes_to_one(tmp_path: Path, clock: Clock) -> None:
    ended, one, other = (watcher_of(tmp_path, clock) for _ in range(3))
    claim = claimed(ended, "名前.csv")
    claim.note(batch=12)
    ended.leave()
    (taken,) = one.take_over(unexpected)
    assert other.take_over(unexpected) == []
    assert taken.id == claim.id
    assert taken.name == "名前.csv"
    assert taken.facts["batch"] == 12
    assert taken.is_here
    assert not claim.is_here


def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(tmp_path: Path, clock: Clock) -> None:
    dead, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claimed(dead)
    about = dead.processing / WATCHERS / f"{dead.watcher}.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "process_started": "another"}))
    assert len(one.take_over(unexpected)) == 1
    assert not about.exists(), "nothing reminds of it"


def test_a_watcher_elsewhere_is_dead_when_it_was_silent_for_long(tmp_path: Path, clock: Clock) -> None:
    away, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claimed(away)
    about = away.processing / WATCHERS / f"{away.watcher}.json"
    about.write_text('{"host": "elsewhere", "pid": 1, "process_started": ""}')
    for beat in range(3):
        os.utime(about, (beat, beat))
        assert one.take_over(unexpected) == []
        clock.at += 119
    clock.at += 2
    assert len(one.take_over(unexpected)) == 1


def test_a_claim_without_its_file_is_cleared_away_and_a_file_without_its_claim_is_not(
    tmp_path: Path, clock: Clock
) -> None:
    ended, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    before_the_rename, damaged = claimed(ended, "a.csv"), claimed(ended, "b.csv")
    before_the_rename.file.unlink()
    (damaged.folder / CLAIM).write_text("{")
    ended.leave()
    (taken,) = one.take_over(unexpected)
    assert taken.name == "b.csv"
    assert list(one.processing.glob("*@*")) == [taken.folder]


def test_it_is_known_which_batches_are_in_hand(tmp_path: Path, clock: Clock) -> None:
    one, other = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    first, second = claimed(one, "a.csv"), claimed(other, "b.csv")
    first.note(batch=12)
    assert other.is_held(12, but=second)
    assert not one.is_held(12, but=first)
    assert not other.is_held(13, but=second)


# -------------------------------------------------------------------------------------------------------------- ends


def test_the_same_name_twice_on_one_day_is_kept_twice(folder: DropFolder) -> None:
    ends = [folder.put_away(claimed(folder, content=text), folder.archive, "12") for text in ("one", "two", "three")]
    assert [end.name for end in ends] == ["12", "12-2", "12-3"]
    assert [(end / "file" / "a.csv").read_text() for end in ends] == ["one", "two", "three"]
    assert list(folder.processing.glob("*@*")) == []


def test_reports_are_handed_out_once_and_overwrite_nothing(folder: DropFolder) -> None:
    (folder.outbox / "12-a").mkdir()
    (folder.outbox / "12-a" / "note.txt").write_text("somebody's")
    claim = reported(claimed(folder))
    first = folder.hand_out(claim, "12-a")
    assert first.name == "12-a-2"
    reported(claim, "written again after a crash")
    again = Claim(claim.folder, json.loads((claim.folder / CLAIM).read_bytes()))
    assert folder.hand_out(again, "12-a") == first
    assert (first / "summary.json").read_text() == "report"
    assert sorted(each.name for each in folder.outbox.iterdir()) == ["12-a", "12-a-2"]


def test_a_copy_that_broke_off_is_made_anew(folder: DropFolder) -> None:
    claim = reported(claimed(folder))
    (claim.folder / "outgoing").mkdir()
    (claim.folder / "outgoing" / "half").write_text("x")
    target = folder.hand_out(claim, "12-a")
    assert [each.name for each in target.iterdir()] == ["summary.json"]


def test_whatever_it_makes_is_for_its_owner_only(folder: DropFolder) -> None:
    claim = reported(claimed(folder))
    made = [folder.root, *folder.root.iterdir(), claim.folder, folder.hand_out(claim, "12-a")]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in made[-1].iterdir()} == {0o600}


def test_an_arrival_is_known_wherever_the_file_is_by_now(folder: DropFolder) -> None:
    assert not folder.arrived_since(0)
    claim = claimed(folder)
    at = claim.facts["claimed_at"]
    assert folder.arrived_since(at - 1)
    folder.put_away(claim, folder.rejected, "a")
    assert folder.arrived_since(at - 1)
    assert not folder.arrived_since(at + 1)
