"""Disasters of `onboard watch`: files arrive in every way, watchers die, and each file ends in one place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROWS, Night
from factories import Command, untakable, wait_until, write_csv
from judge import at_the_simulator
from machines import Started, Valkey, kill, pause

SETTINGS = {"ONBOARD_SETTLE_SECONDS": 1, "ONBOARD_SCAN_SECONDS": 0.5}


class Drop:
    """The drop folder of a watcher."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox, self.processing, self.archive, self.rejected, self.outbox = (
            root / name for name in ("inbox", "processing", "archive", "rejected", "outbox")
        )
        self.inbox.mkdir(parents=True)

    def file(self, name: str, rows: int = ROWS, **more: Any) -> Path:
        """Drop a clean file by a rename."""
        uploaded = write_csv(self.root / "uploaded.csv", rows, **more)
        return uploaded.rename(self.inbox / name)

    def claims(self) -> list[Path]:
        return list(self.processing.glob("*@*"))

    def archived(self) -> dict[str, str]:
        """Folder in the archive -> the name of its file."""
        return {path.parent.parent.name: path.name for path in self.archive.glob("*/*/file/*")}

    def rejections(self) -> dict[str, str]:
        """Rejected file -> the code that says why."""
        return {
            notice["file"]["name"]: notice["error"]["code"]
            for notice in map(read, self.rejected.glob("*/*/reports/notice.json"))
        }

    def published(self) -> dict[str, set[str]]:
        return {folder.name: {path.name for path in folder.iterdir()} for folder in self.outbox.iterdir()}


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def logged(started: Started, event: str) -> list[dict[str, Any]]:
    lines = started.err.read_text().splitlines()
    return [entry for line in lines if line.startswith("{") and (entry := json.loads(line))["event"] == event]


@pytest.fixture
def drop(night: Night) -> Drop:
    return Drop(night.folder / "drop")


def watcher_on(night: Night, drop: Drop, **settings: Any) -> Command:
    return night.machine(**{**SETTINGS, "ONBOARD_DROP_FOLDER": drop.root, **settings})


def watch(night: Night, command: Command, *arguments: object) -> Started:
    return night.start(command, "watch", "--json", *arguments)


def judge_single_file(night: Night, command: Command, drop: Drop, name: str, sources: int, *, batch: int = 1) -> None:
    """Judge the end of a single file: it is in the archive, its reports are complete, and nothing else is left."""
    assert drop.claims() == []
    assert drop.archived() == {str(batch): name}
    assert list(drop.inbox.iterdir()) == []
    assert list(drop.rejected.glob("*/*")) == []
    (folder,) = drop.outbox.iterdir()
    summary = read(folder / "summary.json")
    assert summary["books"]["created"] == sources
    for reports in (folder, next(drop.archive.glob("*/*")) / "reports"):
        named = read(reports / "manifest.json")["files"]
        assert {path.name for path in reports.iterdir()} == {*named, "manifest.json"}
        assert {name: (reports / name).stat().st_size for name in named} == {k: v["bytes"] for k, v in named.items()}
    at_the_simulator(command, night.simulator, sources)
    night.note(rows=sources, kills=night.kills)


def test_a_file_is_taken_when_it_is_complete_and_not_before(night: Night, drop: Drop) -> None:
    command = watcher_on(night, drop, ONBOARD_SETTLE_SECONDS=1.5)
    started = watch(night, command)
    write_csv(night.folder / "whole.csv", ROWS)
    lines = (night.folder / "whole.csv").read_text().splitlines(keepends=True)
    with (drop.inbox / "slow.csv").open("w") as slow:
        for at in range(0, len(lines), 20):
            slow.write("".join(lines[at : at + 20]))
            slow.flush()
            pause(0.3)
            assert (drop.inbox / "slow.csv").exists(), "it still grows"
    wait_until(lambda: drop.archived() == {"1": "slow.csv"}, 60, "the slow file's end")
    write_csv(drop.inbox / "upload.csv.part", 40, prefix="part_")
    os.mkfifo(drop.inbox / "fifo.csv")
    (drop.inbox / "folder.csv").mkdir()
    write_csv(drop.inbox / ".hidden.csv", 40, prefix="hidden_")
    pause(3.5)
    assert len(drop.archived()) == 1, "two scans, and nothing of these was claimed"
    (drop.inbox / "upload.csv.part").rename(drop.inbox / "upload.csv")
    wait_until(lambda: drop.archived().get("2") == "upload.csv", 60, "the upload's end")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    assert {path.name for path in drop.inbox.iterdir()} == {"fifo.csv", "folder.csv", ".hidden.csv"}
    at_the_simulator(command, night.simulator, ROWS + 40)
    night.note(rows=ROWS + 40)


def test_a_companion_makes_a_file_complete_at_once(night: Night, drop: Drop) -> None:
    command = watcher_on(night, drop, ONBOARD_SETTLE_SECONDS=3600)
    started = watch(night, command)
    drop.file("waits.csv", 30, prefix="waits_")
    drop.file("declared.csv")
    (drop.inbox / "declared.csv.done").touch()
    wait_until(lambda: len(drop.archived()) == 1, 60, "the end of the file with a companion")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    assert [path.name for path in drop.inbox.iterdir()] == ["waits.csv"]
    assert {path.name for path in drop.archive.glob("*/1/file/*")} == {"declared.csv", "declared.csv.done"}
    at_the_simulator(command, night.simulator, ROWS)
    night.note(rows=ROWS)


@pytest.mark.representative
def test_two_watchers_on_one_folder_take_each_file_once(
    night: Night, drop: Drop, valkey: Valkey, postgres_url: str
) -> None:
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url, "ONBOARD_WORKERS": 1}
    here, there = watcher_on(night, drop, **place), watcher_on(night, drop, **place)
    both = [watch(night, here), watch(night, there)]
    for nth in range(12):
        drop.file(f"file{nth}.csv", 30, prefix=f"f{nth}_")
        pause(night.dice.random() * 0.3)
    wait_until(lambda: len(drop.archived()) == 12, 90, "the end of all files")
    for watcher in both:
        watcher.signal(signal.SIGTERM)
    results = [watcher.json() for watcher in both]
    assert [result["exit"] for result in results] == [0, 0]
    assert sum(result["taken"] for result in results) == sum(result["archived"] for result in results) == 12
    assert sorted(drop.archived().values()) == sorted(f"file{nth}.csv" for nth in range(12))
    assert drop.claims() == []
    assert len(drop.published()) == 12
    at_the_simulator(here, night.simulator, 12 * 30)
    night.note(rows=12 * 30)


def test_another_watcher_finishes_what_a_killed_one_left(
    night: Night, drop: Drop, valkey: Valkey, postgres_url: str
) -> None:
    night.simulator.control(latency_ms=50)
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url, "ELEPAY_REQUESTS_PER_SECOND": 60}
    here, there = watcher_on(night, drop, **place), watcher_on(night, drop, **place)
    night.fleet(here)
    first = watch(night, here, "--no-workers")
    drop.file("a.csv")
    night.until_asked(40)
    second = watch(night, there, "--no-workers")
    pause(1)
    assert logged(second, "claim of a watcher that ended taken over") == [], "its owner lives"
    first.kill()
    night.kills += 1
    wait_until(lambda: len(drop.archived()) == 1, 60, "the end of the file")
    second.signal(signal.SIGTERM)
    assert second.json()["archived"] == 1
    judge_single_file(night, there, drop, "a.csv", ROWS)


def claimed(_night: Night, _command: Command, drop: Drop) -> bool:
    return any(drop.processing.glob("*@*/file/*"))


def being_read(_night: Night, command: Command, _drop: Drop) -> bool:
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(command.home / "ledger.db")) as db,
    ):
        return db.execute("select state from batches").fetchall() == [("reading",)]
    return False


def accepted(_night: Night, _command: Command, drop: Drop) -> bool:
    return any(b'"batch": 1' in path.read_bytes() for path in drop.processing.glob("*@*/claim.json"))


def being_sent(night: Night, _command: Command, _drop: Drop) -> bool:
    return night.asked() >= 60


def being_written(_night: Night, _command: Command, drop: Drop) -> bool:
    return any(drop.processing.glob("*@*/reports/.writing-*/*"))


def published(_night: Night, _command: Command, drop: Drop) -> bool:
    return any(drop.outbox.glob("*/manifest.json"))


@pytest.mark.parametrize("moment", [claimed, being_read, accepted, being_sent, being_written, published])
@pytest.mark.representative
def test_a_watcher_killed_at_any_moment_continues(
    night: Night, drop: Drop, moment: Callable[[Night, Command, Drop], bool]
) -> None:
    night.simulator.control(latency_ms=30)
    command = watcher_on(night, drop)
    write_csv(night.folder / "few.csv", ROWS)
    header, *lines = (night.folder / "few.csv").read_text().splitlines(keepends=True)
    (night.folder / "many.csv").write_text(header + "".join(lines * 100))  # it takes time to read and to report
    started = watch(night, command)
    wait_until(drop.outbox.exists, 30, "the last of the folders")
    (night.folder / "many.csv").rename(drop.inbox / "many.csv")
    if moment is published:
        wait_until(lambda: claimed(night, command, drop), 30, "the claim")
        drop.archive.rmdir()
        drop.archive.touch()  # so that the claim stays between outbox and archive
    wait_until(lambda: moment(night, command, drop), 60, moment.__name__)
    started.kill()
    night.kills += 1
    assert moment(night, command, drop), "it was killed too late"
    assert len(drop.claims()) == 1
    half_read = being_read(night, command, drop)
    if moment is published:
        drop.archive.unlink()
    again = watch(night, command, "--once").json(120)
    assert again["exit"] == 0, again["stderr"][-3000:]
    judge_single_file(night, command, drop, "many.csv", ROWS, batch=1 + half_read)


def test_killed_again_and_again_each_of_many_files_ends_in_one_place(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=30, jitter_ms=30)
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=100)
    for nth in range(10):
        drop.file(f"file{nth}.csv", 60, prefix=f"f{nth}_")
    while len(drop.archived()) < 10 and night.kills < 8:
        started = watch(night, command)
        before = len(drop.archived())
        wait_until(lambda seen=before: drop.claims() or len(drop.archived()) > seen, 60, "some work")
        pause(0.5 + night.dice.random() * 2)
        started.kill()
        night.kills += 1
    again = watch(night, command, "--once").json(120)
    assert again["exit"] == 0, again["stderr"][-3000:]
    assert drop.claims() == list(drop.inbox.iterdir()) == []
    assert sorted(drop.archived().values()) == sorted(f"file{nth}.csv" for nth in range(10))
    assert len(drop.published()) == 10
    at_the_simulator(command, night.simulator, 600)
    night.note(rows=600, kills=night.kills)


def test_an_interrupted_watcher_loses_nothing_and_continues(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=50)
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=25)
    started = watch(night, command)
    drop.file("a.csv")
    night.until_asked(50)
    started.signal(signal.SIGINT)
    result = started.json()
    assert (result["exit"], result["unfinished"]) == (3, 1)
    assert night.asked() < ROWS
    assert watch(night, command, "--once").json()["exit"] == 0
    judge_single_file(night, command, drop, "a.csv", ROWS)


def test_a_batch_that_a_person_paused_waits_for_a_person(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=50)
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=20)
    started = watch(night, command)
    drop.file("a.csv")
    night.until_asked(50)
    assert command("pause", 1).returncode == 0
    wait_until(lambda: logged(started, "batch waits for a person"), 30, "its line in the log")
    started.kill()
    night.kills += 1
    again = watch(night, command, "--once").json()
    assert (again["exit"], again["unfinished"], drop.archived()) == (3, 1, {})
    assert night.asked() < ROWS, "a restart does not resume it"
    assert command("resume", 1).returncode == 0
    assert watch(night, command, "--once").json()["exit"] == 0
    judge_single_file(night, command, drop, "a.csv", ROWS)


def test_files_of_all_kinds_end_where_they_should(night: Night, drop: Drop) -> None:
    command = watcher_on(night, drop)
    drop.file("first.csv")
    assert watch(night, command, "--once").json()["exit"] == 0
    again = drop.file("again.csv")
    again.with_name("First.csv").write_bytes(again.read_bytes())
    drop.file("first.csv", 40, prefix="second_")
    (drop.inbox / "broken.csv").write_text("name,mail\na,b\n")
    (drop.inbox / "link.csv").symlink_to(night.folder / "elsewhere.csv")
    write_csv(night.folder / "elsewhere.csv", 40, prefix="elsewhere_")
    odd = ["up\\..\\..\n\x1b[31m.csv", "x" * 251 + ".csv", "顧客.csv", " ..", " .", "-rf.csv", "CON"]
    for nth, name in enumerate(odd):
        drop.file(name, 10, prefix=f"odd{nth}_")
    with contextlib.suppress(OSError):
        drop.file("undecodable \udcff.csv", 10, prefix="bytes_")
    result = watch(night, command, "--once").json()
    assert result["exit"] == 1, "two were rejected"
    archived = drop.archived()
    assert (result["archived"], result["already_onboarded"], result["rejected"]) == (9, 2, 2)
    assert Counter(archived.values()) == Counter(
        [
            *("first.csv", "again.csv", "First.csv", "first.csv", "顧客.csv"),
            *("up_.._..__[31m.csv", "x" * 251 + ".csv", "undecodable _.csv", "__", "_", "-rf.csv", "CON"),
        ]
    )
    assert {name for name in archived if "again" in name} == {"1-again", "1-again-2"}
    assert drop.rejections() == {"broken.csv": "missing_column", "link.csv": "unreadable_file"}
    notices = [read(path) for path in drop.outbox.glob("*/notice.json")]
    assert [(notice["verdict"], notice["batch"]["id"]) for notice in notices] == [("already_onboarded", 1)] * 2
    assert "processed before, as batch 1 (first.csv" in next(drop.outbox.glob("*again*/notice.txt")).read_text()
    assert {path.name for path in drop.root.iterdir()} == {"inbox", "processing", "archive", "rejected", "outbox"}
    assert drop.claims() == list(drop.inbox.iterdir()) == []
    at_the_simulator(command, night.simulator, ROWS + 40 + 8 * 10)
    assert night.asked() == ROWS + 40 + 8 * 10, "no request for what was there before"
    assert "elsewhere" not in result["stderr"]
    night.note(rows=ROWS + 120)


def test_a_content_whose_batch_runs_is_not_accepted_twice(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=50)
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=25)
    started = watch(night, command)
    drop.file("a.csv")
    night.until_asked(50)
    drop.file("b.csv")
    wait_until(lambda: "1-again" in drop.archived(), 30, "the notice")
    assert night.asked() < ROWS
    assert "already in batch 1 (a.csv), which is running" in next(drop.outbox.glob("*again*/notice.txt")).read_text()
    wait_until(lambda: len(drop.archived()) == 2, 60, "the end")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    at_the_simulator(command, night.simulator, ROWS)
    night.note(rows=ROWS)


def parts_of(folder: Path, first: int, prefix: str) -> list[str]:
    """A file of 90 rows in three parts: of the first so many lines, or so many characters of the titles."""
    lines = write_csv(folder / "whole.csv", 90, prefix=prefix).read_text().splitlines(keepends=True)
    text, rest = "".join(lines[:61]), "".join(lines[61:])
    cut = len("".join(lines[:first])) if first else 15
    return [text[:cut], text[cut:], rest]


def archived_texts(drop: Drop) -> list[str]:
    return [path.read_text() for path in drop.archive.glob("*/*/file/*.csv")]


def is_whole(drop: Drop, files: list[list[str]]) -> bool:
    """Return whether each file was read completely, and nothing is in progress."""
    reported = {
        path.parent.parent: read(path)["books"]["records"] for path in drop.archive.glob("*/*/reports/summary.json")
    }
    texts = set()
    for folder, rows in reported.items():
        with contextlib.suppress(FileNotFoundError):  # it is being returned to the inbox
            texts |= {path.read_text() for path in (folder / "file").glob("*.csv") if rows == 90}
    return {"".join(parts) for parts in files} <= texts and drop.claims() == list(drop.inbox.iterdir()) == []


def notifications(command: Command) -> Counter[str]:
    with contextlib.closing(sqlite3.connect(command.home / "ledger.db")) as db:
        return Counter(kind for (kind,) in db.execute("select kind from news"))


def test_an_upload_that_continues_while_its_rows_are_sent_loses_none(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=200)
    command = watcher_on(night, drop)
    parts = parts_of(night.folder, 30, "cus_")
    started = watch(night, command)
    wait_until(drop.outbox.exists, 30, "the start")
    with (drop.inbox / "slow.csv").open("w") as slow:
        for part, event in zip(
            parts, ["file accepted", "file changed after it was read, and comes back", ""], strict=True
        ):
            slow.write(part)
            slow.flush()
            if event:
                wait_until(lambda event=event: logged(started, event), 60, event)
    wait_until(lambda: is_whole(drop, [parts]), 60, "the end of the whole file")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    assert drop.claims() == list(drop.inbox.iterdir()) == []
    assert parts[0] in archived_texts(drop), "what was accepted is in the archive"
    assert notifications(command)["went_on"] >= 1
    at_the_simulator(command, night.simulator, 90)
    assert night.asked() == 90
    night.note(rows=90)


def test_uploads_that_continue_after_their_file_is_closed_lose_no_row(night: Night, drop: Drop) -> None:
    """Half of a file was archived, and half a title was rejected; no watcher runs when the uploads continue."""
    command = watcher_on(night, drop)
    files = {"slow.csv": parts_of(night.folder, 30, "slow_"), "half.csv": parts_of(night.folder, 0, "half_")}
    started = watch(night, command)
    wait_until(drop.outbox.exists, 30, "the start")
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context((drop.inbox / name).open("w")) for name in files}
        for at in (0, 1):
            for name, writer in writers.items():
                writer.write(files[name][at])
                writer.flush()
            if at == 0:
                wait_until(lambda: drop.archived() and drop.rejections(), 60, "the end of both")
                started.kill()
                night.kills += 1
        started = watch(night, command)
        for name, writer in writers.items():
            wait_until(
                lambda: len(logged(started, "file changed after it was read, and comes back")) >= 2,
                60,
                "its line in the log",
            )
            writer.write(files[name][2])
    wait_until(lambda: is_whole(drop, list(files.values())), 60, "the end of both")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    assert drop.claims() == list(drop.inbox.iterdir()) == []
    assert files["slow.csv"][0] in archived_texts(drop), "what was accepted is in the archive"
    assert (notifications(command)["went_on"] >= 2, notifications(command)["rejected"]) == (True, 1)
    at_the_simulator(command, night.simulator, 180)
    assert night.asked() == 180
    night.note(rows=180, kills=night.kills)


def test_a_file_that_cannot_be_claimed_blocks_no_other(night: Night, drop: Drop) -> None:
    command = watcher_on(night, drop)
    with untakable(drop.file("stuck.csv", 30, prefix="stuck_")):
        drop.file("good.csv", 30)
        started = watch(night, command, "--once")
        assert started.json()["exit"] == 1
        assert [entry["what"] for entry in logged(started, "held up, and tried again")] == ["inbox/stuck.csv"]
    assert drop.archived() == {"1": "good.csv"}
    assert drop.claims() == []
    assert [path.name for path in drop.inbox.iterdir()] == ["stuck.csv"]
    assert notifications(command)["not_taken"] == 1
    at_the_simulator(command, night.simulator, 30)
    night.note(rows=30)


@contextlib.contextmanager
def in_the_way(folder: Path) -> Iterator[None]:
    """Let nothing be written to a folder, not even by root: a file takes its place."""
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    folder.touch()
    yield
    folder.unlink()
    aside.rename(folder)


@pytest.mark.parametrize("which", ["outbox", "archive", "processing", "inbox"])
def test_a_folder_that_cannot_be_written_is_logged_and_tried_again(night: Night, drop: Drop, which: str) -> None:
    command = watcher_on(night, drop)
    started = watch(night, command)
    wait_until(drop.outbox.exists, 30, "the start")
    with in_the_way(drop.root / which):
        if which != "inbox":
            drop.file("a.csv")
        wait_until(lambda: logged(started, "held up, and tried again"), 60, "its line in the log")
        pause(2.5)
        failures = logged(started, "held up, and tried again")
        assert len({(entry["what"], entry["why"]) for entry in failures}) == len(failures), "each is logged once"
        assert any(re.match(rf"{which}: ", entry["why"]) or entry["what"] == "folder" for entry in failures)
        assert drop.archived() == {}
    if which == "inbox":
        drop.file("a.csv")
    wait_until(lambda: len(drop.archived()) == 1, 60, "the file's end")
    wait_until(lambda: logged(started, "no longer held up"), 10, "its line in the log")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    judge_single_file(night, command, drop, "a.csv", ROWS)


def test_on_a_full_disk_nothing_is_published_partially(
    night: Night, drop: Drop, valkey: Valkey, postgres_url: str
) -> None:
    """A limit on file sizes replaces the full disk: it needs no root, and writes fail in the same way."""
    command = watcher_on(night, drop, REDIS_URL=valkey.url, LEDGER_URL=postgres_url)
    night.fleet(command)
    started = watch(night, command, "--no-workers")
    drop.file("a.csv")
    night.until_asked(20)
    resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (16_384, resource.RLIM_INFINITY))
    wait_until(lambda: logged(started, "held up, and tried again"), 60, "its line in the log")
    pause(2)
    assert len(logged(started, "held up, and tried again")) == 1, "logged once, tried often"
    assert list(drop.outbox.iterdir()) == []
    assert drop.archived() == {}
    assert len(drop.claims()) == 1
    resource.prlimit(started.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_until(drop.archived, 60, "the file's end")
    wait_until(lambda: logged(started, "no longer held up"), 10, "its line in the log")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    judge_single_file(night, command, drop, "a.csv", ROWS)


def test_a_private_valkey_that_dies_is_restarted(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=50)
    short = {"ONBOARD_READ_TIMEOUT_SECONDS": 5, "ONBOARD_TOTAL_TIMEOUT_SECONDS": 10, "ONBOARD_LEASE_SECONDS": 15}
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=60, **short)  # a worker may have to restart
    started = watch(night, command)
    drop.file("a.csv")
    night.until_asked(30)
    night.kills += kill(int((command.home / "valkey.pid").read_text().split()[0]))
    wait_until(drop.archived, 90, "the file's end")
    assert logged(started, "the private Valkey had died and was started again")
    started.signal(signal.SIGTERM)
    assert started.wait() == 0
    judge_single_file(night, command, drop, "a.csv", ROWS)


def test_a_small_file_does_not_wait_for_a_large_one_that_was_dropped_before(night: Night, drop: Drop) -> None:
    night.simulator.control(latency_ms=20)
    command = watcher_on(night, drop, ELEPAY_REQUESTS_PER_SECOND=200, ONBOARD_SLICE_ROWS=200)
    started = watch(night, command)
    drop.file("large.csv", 20_000, prefix="large_")
    night.until_asked(1000)
    drop.file("small.csv", 20, prefix="small_")
    wait_until(lambda: drop.archived() == {"2": "small.csv"}, 60, "the small file's end")
    asked = night.asked()
    night.note(rows=20, requests_before_the_small_one_ended=asked)
    assert asked < 12_000
    started.signal(signal.SIGTERM)
    assert started.json()["exit"] == 3, "the large one is not done"
