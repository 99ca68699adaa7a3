"""A ledger that has forgotten what was sent is noticed before anything is sent from it, and never without a reason."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import factories
import pytest
from factories import (
    ROOT,
    Command,
    Simulator,
    answer,
    new_row,
    new_worker,
    running_batch,
    wait_until,
    whole,
    write_csv,
)
from postgres import postgres_tool
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tasks.errors import LedgerReplaced
from tasks.ledger import Ledger, memory
from tasks.models import NO_ACCOUNT, BatchState, RowState


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ONCE_SECONDS", 0.0)


def send(ledger: Ledger, batch: int, rows: int) -> None:
    """Send so many rows of a batch."""
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held[:rows])
    worker.record(*[answer(row) for row in held[:rows]])
    ledger.leases.release(worker.number, held[rows:], {})
    ledger.workers.end(worker.number)


def counter(ledger: Ledger) -> int:
    with ledger.engine.read() as connection:
        return int(connection.execute(text("select change_counter from ledger_identity")).scalar_one())


def refused(ledger: Ledger, batch: int, why: str) -> None:
    """Nothing is given out, marked or resumed, and everything can be read."""
    assert why in ledger.replaced
    with pytest.raises(LedgerReplaced, match="onboard ledger accept"):
        ledger.require_memory()
    with pytest.raises(LedgerReplaced):
        ledger.leases.claim(whole(batch), new_worker(ledger).number)
    with pytest.raises(LedgerReplaced):
        ledger.lifecycle.resume(batch, "somebody")
    assert ledger.batches.get(batch).state is BatchState.RUNNING


def backup(path: Path, to: Path) -> None:
    """Copy a SQLite ledger while it is in use."""
    with sqlite3.connect(path) as source, sqlite3.connect(to) as target:
        source.backup(target)
    source.close()
    target.close()


def put_back(copy: Path, path: Path) -> None:
    """Restore it, as docs/3am/lost.md says."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    shutil.copy(copy, path)


def test_the_counter_grows_with_what_is_sent_and_its_copy_follows(ledger_url: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ledger = Ledger.open(ledger_url, home=home)
    batch = running_batch(ledger, 10)
    before = counter(ledger)
    send(ledger, batch, 5)
    after = counter(ledger)
    assert after > before
    (copy,) = home.glob("ledger-seen-*.json")
    assert f'"counter":{after}' in copy.read_text()
    assert ledger.replaced == ""
    copy.unlink()
    ledger.require_memory()
    assert f'"counter":{after}' in copy.read_text(), "a new container: the copy is written anew"
    copy.write_text("")
    ledger.require_memory()
    ledger.close()
    other = Ledger.open(ledger_url, home=tmp_path / "other")
    assert other.replaced == ""
    other.close()


def test_the_counter_grows_once_a_second_and_the_last_change_is_not_left_out(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "ONCE_SECONDS", 0.3)
    ledger = Ledger.open(ledger_url, home=tmp_path / "home")
    batch = running_batch(ledger, 40)
    worker, started = new_worker(ledger), time.monotonic()
    claimed = ledger.leases.claim(whole(batch), worker.number)
    for row in claimed[:20]:
        worker.mark([row])
    at_most = 2 + (time.monotonic() - started) / 0.3
    assert 1 <= counter(ledger) <= at_most
    for row in claimed[20:]:  # until one has not been counted: where the machine is slow each of them may be
        before = counter(ledger)
        worker.mark([row])
        if counter(ledger) == before:
            break
    ledger.workers.renew(worker.number, 60.0)  # which nobody need remember
    time.sleep(0.35)
    ledger.remember()
    ledger.remember()
    assert counter(ledger) == before + 1
    ledger.close()


@pytest.mark.resilience
@pytest.mark.representative
def test_a_killed_writer_never_leaves_a_copy_ahead_of_its_ledger(ledger_url: str, tmp_path: Path) -> None:
    """No false stop in 100 kills at random instants, 30 by default."""
    kills = 100 if factories.searches_at_full_length else 30
    writers, home = ROOT / "tests" / "killed_writers.py", tmp_path / "home"
    command = [sys.executable, *map(str, (writers, ledger_url, home, kills, 7))]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    killed, grown, stops, *_ = map(int, done.stdout.split()[:3])
    assert (killed, stops) == (kills, 0), done.stdout + done.stderr
    assert grown > kills / 5, "kills fell before anything was written"


def test_a_restored_backup_of_sqlite_is_noticed_and_accepted_by_a_word_only(tmp_path: Path) -> None:
    path, home = tmp_path / "ledger.db", tmp_path / "home"
    url = f"sqlite:///{path}"
    ledger = Ledger.open(url, home=home)
    batch = running_batch(ledger, 10)
    done = running_batch(ledger, [new_row(n, customer=f"done_{n}") for n in (1, 2)])
    send(ledger, batch, 2)
    send(ledger, done, 2)
    ledger.lifecycle.close(done)
    backup(path, tmp_path / "backup")
    send(ledger, batch, 4)
    refused_before = ledger.replaced
    ledger.close()
    put_back(tmp_path / "backup", path)
    ledger = Ledger.open(url, home=home)
    assert refused_before == ""
    refused(ledger, batch, "is older than it was")
    assert ledger.acceptance.accept_as_it_is("me@here") == [batch]
    assert ledger.replaced == ""
    assert ledger.batches.get(batch).verify
    assert ledger.batches.get(done).verify, "a retry of it verifies, too"
    assert ledger.queries.count_states(batch) == {RowState.CREATED: 2, RowState.UNCLEAR: 8}
    held = ledger.leases.claim(whole(batch), new_worker(ledger).number)
    assert [row.look_up for row in held] == [True] * 8
    assert all(row.ended_at and row.ended_at > ledger.batches.get(batch).created_at for row in held), (
        "perhaps only just sent"
    )
    for one in (0, batch):
        (line,) = ledger.history.lines(one, 0)
        assert (line["what"], line["who"]) == ("the ledger was accepted as it is, and is verified", "me@here")
    ledger.close()
    elsewhere = Ledger.open(url, home=tmp_path / "another machine")
    assert elsewhere.replaced == ""
    elsewhere.close()


def test_a_deleted_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    """What a killed process left in it is gone; the copy knows better."""
    path, home = tmp_path / "ledger.db", tmp_path / "home"
    url = f"sqlite:///{path}"
    first = Ledger.open(url, home=home)
    batch = running_batch(first, 10)
    first.close()  # checkpoints: these rows are in ledger.db
    ledger = Ledger.open(url, home=home)
    send(ledger, batch, 4)
    for name in ("ledger.db", "ledger.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / f"{name}.killed")  # what is there at this instant
    ledger.close()
    put_back(tmp_path / "ledger.db.killed", path)
    forgetful = Ledger.open(url, home=home)
    assert forgetful.queries.count_states(batch) == {RowState.WAITING: 10}
    refused(forgetful, batch, "is older than it was")
    forgetful.close()
    put_back(tmp_path / "ledger.db.killed", path)
    shutil.copy(tmp_path / "ledger.db-wal.killed", tmp_path / "ledger.db-wal")
    whole_again = Ledger.open(url, home=home)
    assert whole_again.replaced == ""
    whole_again.close()


@pytest.mark.parametrize("lose", ["empty", "delete"])
def test_an_emptied_or_deleted_ledger_is_not_begun_anew_where_there_was_one(tmp_path: Path, lose: str) -> None:
    path, home = tmp_path / "ledger.db", tmp_path / "home"
    url = f"sqlite:///{path}"
    ledger = Ledger.open(url, home=home)
    send(ledger, running_batch(ledger, 10), 4)
    ledger.close()
    path.unlink()
    if lose == "empty":
        path.touch()
    for use in (Ledger.open, Ledger.upgrade):
        with pytest.raises(LedgerReplaced, match=r"Restore its newest backup.*onboard ledger create.*--verify-first"):
            use(url, home=home)
    assert Ledger.create(url, NO_ACCOUNT, home=home)
    made = Ledger.open(url, home=home)
    assert made.replaced == ""
    made.close()


def test_a_file_that_is_exchanged_while_a_program_runs_stops_it(tmp_path: Path) -> None:
    path, home = tmp_path / "ledger.db", tmp_path / "home"
    ledger = Ledger.open(f"sqlite:///{path}", home=home)
    batch = running_batch(ledger, 10)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held[:1])
    backup(path, tmp_path / "backup")
    (tmp_path / "backup").replace(path)
    with pytest.raises(LedgerReplaced, match="exchanged while this program ran"):
        worker.mark(held[1:2])
    worker.record(answer(held[0]))  # what was under way is written
    path.unlink()
    assert "was deleted while this program ran" in ledger.replaced
    ledger.close()


def test_another_ledger_in_the_same_place_is_noticed_and_one_in_another_place_is_not(
    ledger_url: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    ledger = Ledger.open(ledger_url, home=home)
    batch = running_batch(ledger, 5)
    send(ledger, batch, 1)
    with ledger.engine.write() as connection:
        connection.execute(text("update ledger_identity set ledger_id = 'other', change_counter = 1000"))
    refused(ledger, batch, "is another one than was worked with before")
    ledger.close()
    other = Ledger.open(f"sqlite:///{tmp_path / 'elsewhere.db'}", home=home)
    assert other.replaced == ""
    other.close()
    assert len(list(home.glob("ledger-seen-*.json"))) == 2


def test_a_home_that_cannot_be_written_stops_nothing(ledger_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    ledger = Ledger.open(ledger_url, home=tmp_path / "home")
    batch = running_batch(ledger, 5)
    send(ledger, batch, 2)
    assert ledger.replaced == ""
    assert counter(ledger) > 0
    ledger.close()


def test_a_restored_dump_of_postgresql_is_noticed(postgres_url: str, tmp_path: Path) -> None:
    """With the very commands of docs/3am/lost.md, also by a program that runs on through the restore."""
    dump_tool, restore_tool = postgres_tool("pg_dump"), postgres_tool("pg_restore")
    url = make_url(postgres_url)
    to = ["--host", str(url.query["host"]), "--username", "postgres"]
    running = Ledger.open(postgres_url, home=tmp_path / "home")
    batch = running_batch(running, 10)
    send(running, batch, 2)
    dump = tmp_path / "ledger.dump"
    subprocess.run([dump_tool, *to, "--format", "custom", "--file", dump, str(url.database)], check=True)
    send(running, batch, 4)
    restore = [restore_tool, *to, "--clean", "--if-exists", "--single-transaction", "--dbname"]
    subprocess.run([*restore, str(url.database), dump], check=True)
    refused(running, batch, "is older than it was")
    running.close()
    ledger = Ledger.open(postgres_url, home=tmp_path / "home")
    refused(ledger, batch, "is older than it was")
    assert ledger.acceptance.accept_as_it_is("me@here") == [batch]
    assert ledger.queries.count_states(batch) == {RowState.CREATED: 2, RowState.UNCLEAR: 8}
    assert ledger.replaced == ""
    ledger.close()


# ------------------------------------------------------------------------------------------------------ as people type


def test_a_ledger_exchanged_under_a_run_ends_it_and_goes_on_by_a_word(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(latency_ms=20)
    command = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND=40, ONBOARD_WORKERS=1)
    path, file = command.home / "ledger.db", write_csv(tmp_path / "a.csv", 400)
    run = command.start("run", file)
    wait_until(lambda: simulator.statistics()["created"] >= 10, what="the first rows")
    backup(path, tmp_path / "backup")
    wait_until(lambda: simulator.statistics()["created"] >= 60, what="more rows")
    shutil.copy(tmp_path / "backup", tmp_path / "older")
    (tmp_path / "older").replace(path)
    _, said = run.communicate(timeout=120)
    made = simulator.statistics()["created"]
    assert run.returncode == 2, said
    assert "exchanged while this program ran" in said
    assert made < 300, "it went on"
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (command.home / name).unlink(missing_ok=True)
    for words in (["run", file], ["resume", 1], ["worker"], ["watch", "--once", tmp_path / "drop"]):
        done = command(*words)
        assert done.returncode == 2, words
        assert "is older than it was" in done.stderr, words
    assert "is older than it was" in command("status").stdout
    assert [one["subject"] for one in command.json("doctor")["findings"] if not one["ok"]] == ["memory"]
    assert simulator.statistics()["created"] == made
    assert command.json("ledger", "accept")["batches"] == [1]
    simulator.control(latency_ms=0)
    command.environment["ELEPAY_REQUESTS_PER_SECOND"] = "0"
    said = command.json("run", file)
    assert said["books"]["created"] == 400, said
    references = simulator.statistics()["references"]
    assert (references["total"], references["doubled_count"]) == (400, 0)
