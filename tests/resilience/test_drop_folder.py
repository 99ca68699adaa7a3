"""Disasters of a drop folder: uploads that continue, files in the way, full disks, and what one file does to others."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
from pathlib import Path

import pytest
from conftest import ROWS, Night
from drops import Drop, archived_texts, judge_single_file, logged, notifications, read, watch, watcher_on
from factories import in_the_way, untakable, wait_until, write_csv
from judge import at_the_simulator
from machines import Valkey, kill, pause


@pytest.fixture
def drop(night: Night) -> Drop:
    return Drop(night.folder / "drop")


def parts_of(folder: Path, first: int, prefix: str) -> list[str]:
    """A file of 90 rows in three parts: of the first so many lines, or so many characters of the titles."""
    lines = write_csv(folder / "whole.csv", 90, prefix=prefix).read_text().splitlines(keepends=True)
    text, rest = "".join(lines[:61]), "".join(lines[61:])
    cut = len("".join(lines[:first])) if first else 15
    return [text[:cut], text[cut:], rest]


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
