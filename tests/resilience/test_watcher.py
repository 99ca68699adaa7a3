"""Disasters of `onboard watch`: files arrive in every way, watchers die, and each file ends in one place."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable

import pytest
from conftest import ROWS, Night
from drops import Drop, judge_single_file, logged, read, watch, watcher_on
from factories import Command, wait_until, write_csv
from judge import at_the_simulator
from machines import Valkey, pause


@pytest.fixture
def drop(night: Night) -> Drop:
    return Drop(night.folder / "drop")


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
