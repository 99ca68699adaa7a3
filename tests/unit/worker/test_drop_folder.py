"""The drop folder: what is complete, whose it is, and that nothing is overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from worker.drop_folder import CLAIM, REPORTS, WATCHERS, Claim, DropFolder, Dropped, Inbox, safe_name, stem_of


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


def names(found: list[Dropped]) -> list[str]:
    return [each.name for each in found]


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("customers.csv", "customers.csv"),
        ("顧客 2026年.csv", "顧客 2026年.csv"),
        ("..\\..\\evil.csv", ".._.._evil.csv"),
        ("a\nb\x1b[31m.csv", "a_b_[31m.csv"),
        ("right\u202eto left.csv", "right_to left.csv"),
        ("no text \udcff.csv", "no text _.csv"),
        ('what?<>|*":.csv', "what_______.csv"),
        (" ", "_"),
    ],
)
def test_a_name_that_is_odd_becomes_a_plain_one(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    safe_name(name).encode()


def test_a_stem_fits_into_another_name() -> None:
    assert stem_of("customers.csv") == "customers"
    assert stem_of("..csv") == "_"
    assert stem_of("...") == "_"
    assert len(stem_of("あ" * 80 + ".csv").encode()) <= 150
    assert len(stem_of("x" * 250 + ".csv")) == 60


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


@pytest.mark.parametrize("companion", ["a.csv.done", "a.csv.ready", "a.done", "a.ready"])
def test_a_companion_makes_a_file_complete_at_once(folder: DropFolder, companion: str) -> None:
    drop(folder, "a.csv")
    drop(folder, companion)
    found = folder.complete()
    assert names(found) == ["a.csv"]
    claim = folder.claim(found[0])
    assert claim is not None
    assert list(folder.inbox.iterdir()) == []
    assert sorted(each.name for each in claim.file.parent.iterdir()) == ["a.csv", companion]


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


def test_what_is_unfinished_or_no_file_is_passed_over(folder: DropFolder, clock: Clock) -> None:
    for name in ("a.csv.part", "b.tmp", "c.csv.FILEPART", "d.crdownload", "~$e.csv", ".f.csv", "g.csv.done"):
        drop(folder, name)
    (folder.inbox / "folder.csv").mkdir()
    os.mkfifo(folder.inbox / "fifo.csv")
    folder.complete()
    clock.at += 5
    assert folder.complete() == []
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


def test_what_a_living_watcher_has_stays_its_own(tmp_path: Path, clock: Clock) -> None:
    one, other = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claim = claimed(one)
    clock.at += 10_000
    assert other.take_over() == []
    assert one.take_over() == []
    assert claim.is_here


def test_what_a_watcher_left_when_it_ended_is_anybodys_and_goes_to_one(tmp_path: Path, clock: Clock) -> None:
    ended, one, other = (watcher_of(tmp_path, clock) for _ in range(3))
    claim = claimed(ended, "名前.csv")
    claim.note(batch=12)
    ended.leave()
    (taken,) = one.take_over()
    assert other.take_over() == []
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
    assert len(one.take_over()) == 1
    assert not about.exists(), "nothing reminds of it"


def test_a_watcher_elsewhere_is_dead_when_it_was_silent_for_long(tmp_path: Path, clock: Clock) -> None:
    away, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    claimed(away)
    about = away.processing / WATCHERS / f"{away.watcher}.json"
    about.write_text('{"host": "elsewhere", "pid": 1, "process_started": ""}')
    for beat in range(3):
        os.utime(about, (beat, beat))
        assert one.take_over() == []
        clock.at += 119
    clock.at += 2
    assert len(one.take_over()) == 1


def test_a_claim_without_its_file_is_cleared_away_and_a_file_without_its_claim_is_not(
    tmp_path: Path, clock: Clock
) -> None:
    ended, one = watcher_of(tmp_path, clock), watcher_of(tmp_path, clock)
    before_the_rename, damaged = claimed(ended, "a.csv"), claimed(ended, "b.csv")
    before_the_rename.file.unlink()
    (damaged.folder / CLAIM).write_text("{")
    ended.leave()
    (taken,) = one.take_over()
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
