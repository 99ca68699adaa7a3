"""A batch is sent with the key, to the address and in the nightly window that it was brought with, whoever runs."""

from __future__ import annotations

import re
import signal
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from factories import (
    KEY,
    Command,
    Simulator,
    batches_that_run,
    ledger_of,
    new_row,
    new_worker,
    running_batch,
    wait_until,
    whole,
    write_csv,
)

from tasks.ledger import Ledger
from tasks.models import Account, Slice

LIVE_KEY = KEY.replace("test", "live")
HERE, LIVE, THERE = Account(False, "https://here"), Account(True, "https://here"), Account(False, "https://there")


def hour(hours_from_now: float) -> str:
    """A time of day in Tokyo."""
    return datetime.fromtimestamp(time.time() + 3600 * hours_from_now, ZoneInfo("Asia/Tokyo")).strftime("%H:%M")


def live_command(folder: Path, simulator: Simulator) -> Command:
    """An installation in live mode, with its ledger."""
    live = Command(folder, simulator, ELEPAY_SECRET_KEY=LIVE_KEY, ELEPAY_MODE="live")
    assert live("ledger", "create").returncode == 0
    return live


def interrupted(command: Command, simulator: Simulator, *arguments: object, rows: int = 60) -> int:
    """Stop a run of so many rows by Ctrl-C; return how many sources it made."""
    run = command.start("run", "--json", *arguments, write_csv(command.folder / "stopped.csv", rows))
    wait_until(lambda: simulator.statistics()["created"] >= 5, what="the first rows")
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    return int(simulator.statistics()["created"])


@pytest.mark.parametrize("other", [LIVE, THERE])
def test_nobody_claims_or_rings_for_a_batch_of_another_account(ledger_url: str, other: Account) -> None:
    ours, theirs = ledger_of(ledger_url, HERE), ledger_of(ledger_url, other)
    batch = running_batch(ours, 3)
    foreign = running_batch(theirs, [new_row(n, customer=f"foreign_{n}") for n in (1, 2)])
    assert theirs.leases.claim(whole(batch), new_worker(theirs).number) == []
    assert [one.batch_id for one in theirs.dispatch.take_due()] == [foreign]
    assert [one.batch_id for one in ours.dispatch.take_due()] == [batch]
    assert len(ours.leases.claim(whole(batch), new_worker(ours).number)) == 3
    ours.close()
    theirs.close()


def test_a_message_that_reaches_a_stranger_is_due_again_at_once(ledger_url: str) -> None:
    ours, theirs = ledger_of(ledger_url, HERE), ledger_of(ledger_url, LIVE)
    batch = running_batch(ours, 3)
    (rung,) = ours.dispatch.take_due()
    assert ours.dispatch.take_due() == []
    assert theirs.leases.claim(rung, new_worker(theirs).number) == []
    theirs.dispatch.finish(rung)
    assert ours.dispatch.take_due() == [rung] == [Slice(batch, 1, 3)]
    ours.close()
    theirs.close()


def test_the_unread_messages_of_another_account_take_no_room(ledger_url: str) -> None:
    ours, theirs = ledger_of(ledger_url, HERE), ledger_of(ledger_url, LIVE)
    running_batch(theirs, [new_row(n, customer=f"foreign_{n}") for n in range(1, 5)], slice_rows=1)
    assert len(theirs.dispatch.take_due(4)) == 4
    running_batch(ours, 4, slice_rows=1)
    assert len(ours.dispatch.take_due(4)) == 4
    ours.close()
    theirs.close()


def test_a_test_batch_that_was_stopped_is_not_sent_with_the_live_key_of_another_run(
    tmp_path: Path, simulator: Simulator
) -> None:
    simulator.control(live=True)
    test = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND=20)
    made = interrupted(test, simulator)
    live = live_command(tmp_path, simulator)
    said = live.json("run", write_csv(tmp_path / "live.csv", 30, prefix="live_"))
    assert (said["exit"], said["books"]["created"]) == (0, 30)
    sources = simulator.sources()
    assert sum(source["liveMode"] for source in sources) == 30
    assert len(sources) == made + 30
    for words in (["resume", 1], ["approve", 1], ["resolve", 1, 2, "--absent"], ["resolve", 1, 2, "--give-up"]):
        done = live(*words)
        assert done.returncode == 2
        assert "batch 1 belongs to test mode at" in done.stderr
        assert "ELEPAY_MODE" in done.stderr
    assert test.json("run", tmp_path / "stopped.csv")["books"]["created"] == 60
    assert sum(not source["liveMode"] for source in simulator.sources()) == 60


def test_what_was_rehearsed_in_test_mode_is_created_in_live_mode(tmp_path: Path, simulator: Simulator) -> None:
    """On the same ledger: a row that is skipped because a test source exists would be a customer without one."""
    simulator.control(live=True)
    file = write_csv(tmp_path / "a.csv", 10)
    assert Command(tmp_path, simulator).json("run", file)["books"]["created"] == 10
    live = live_command(tmp_path, simulator)
    live.environment["ONBOARD_REFUSE_FINISHED_FILE"] = "1"
    assert live.json("run", file)["books"]["created"] == 10
    assert live("run", file).returncode == 2, "it finished in live mode now"
    assert live.json("run", write_csv(tmp_path / "b.csv", 11))["books"]["skipped"] == 10
    modes = [source["liveMode"] for source in simulator.sources()]
    assert sorted(modes) == [False] * 10 + [True] * 11


def test_a_batch_for_one_address_is_not_sent_to_another(tmp_path: Path, simulator: Simulator) -> None:
    command = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND=20)
    made = interrupted(command, simulator)
    with Simulator() as elsewhere:
        other = Command(tmp_path, elsewhere)
        assert other.json("run", write_csv(tmp_path / "b.csv", 10, prefix="b_"))["books"]["created"] == 10
        assert elsewhere.statistics()["created"] == 10
        assert simulator.statistics()["created"] == made
        done = other("retry", 2)
        assert "has no row that could be tried again" in done.stderr
        done = other("retry", 1)
        assert done.returncode == 2


def test_a_nightly_window_holds_whoever_runs(tmp_path: Path, simulator: Simulator) -> None:
    """A run of another file at noon sends nothing of a batch that is for the night."""
    sooner, opens, closes = hour(2), hour(3), hour(4)
    nightly = Command(tmp_path, simulator, ONBOARD_NOT_BEFORE=opens, ONBOARD_UNTIL=closes)
    run = nightly.start("run", "--json", write_csv(tmp_path / "night.csv", 20))
    ledger: Ledger | None = None

    def accepted() -> bool:
        nonlocal ledger
        ledger = ledger or Ledger.open(nightly.ledger_url) if Path(nightly.home / "ledger.db").exists() else None
        return ledger is not None and batches_that_run(ledger) == [1]

    wait_until(accepted, what="the batch")
    assert ledger is not None
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    at_noon = Command(tmp_path, simulator)
    assert at_noon.json("run", write_csv(tmp_path / "noon.csv", 10, prefix="noon_"))["books"]["created"] == 10
    assert simulator.statistics()["created"] == 10
    assert ledger.batches.get(1).window == f"{opens}:00-{closes}:00 Asia/Tokyo"
    assert at_noon("resume", 1, "--at-any-time", "--until", "05:00").returncode == 2
    assert at_noon("resume", 1, "--not-before", "01:00").returncode == 2
    later = at_noon.start("resume", 1, "--not-before", sooner, "--until", closes)
    wait_until(lambda: batches_that_run(ledger) == [1], what="the batch")
    later.send_signal(signal.SIGINT)
    out, err = later.communicate(timeout=60)
    assert re.search(rf"nothing is sent before ([\d-]+ )?{sooner}", out), err
    assert simulator.statistics()["created"] == 10
    assert at_noon.json("resume", 1, "--at-any-time")["books"]["created"] == 20
    assert "is sent at any time" in [entry["what"] for entry in ledger.history.lines(1, 0)]
    ledger.close()


def test_resume_of_a_canary_says_that_approve_is_the_word(tmp_path: Path, simulator: Simulator) -> None:
    command = Command(tmp_path, simulator)
    assert command.json("run", "--canary", 3, write_csv(tmp_path / "a.csv", 6))["state"] == "paused"
    done = command("resume", 1)
    assert done.returncode == 2
    assert "onboard approve 1" in done.stderr
    assert command.json("approve", 1)["books"]["created"] == 6


@pytest.mark.parametrize("name", ["a?b#c", "per%20cent %d", "顧客 blank"])
def test_a_folder_with_any_name_can_be_home_and_is_named(tmp_path: Path, simulator: Simulator, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    command = Command(folder, simulator)
    said = command("run", write_csv(folder / "a.csv", 2))
    assert said.returncode == 0, said.stderr
    place = f"test mode at {simulator.url}, ledger {folder / 'home' / 'ledger.db'}"
    assert place in said.stdout
    assert place in command("status").stdout
    assert sorted(path.name for path in folder.iterdir()) == ["a.csv", "home"]


def test_live_mode_cannot_be_overlooked(tmp_path: Path, simulator: Simulator) -> None:
    live = live_command(tmp_path, simulator)
    assert "LIVE  mode at" in live("status").stdout


def test_a_live_ledger_is_made_by_a_command_only(tmp_path: Path, simulator: Simulator) -> None:
    """Deleted, emptied, or the test ledger of the same folder: nothing is sent, and the sentence says what to do."""
    simulator.control(live=True)
    live = Command(tmp_path, simulator, ELEPAY_SECRET_KEY=LIVE_KEY, ELEPAY_MODE="live")
    file = write_csv(tmp_path / "a.csv", 5)

    def has_none() -> None:
        for words in (["run", file], ["status"], ["ledger", "upgrade"]):
            done = live(*words)
            assert done.returncode == 2, words
            assert "there is no live ledger at" in done.stderr
            assert "onboard ledger create" in done.stderr

    has_none()
    path = live.home / "ledger.db"
    assert not path.exists(), "asking makes none"
    assert Command(tmp_path, simulator).json("run", file)["books"]["created"] == 5
    has_none()
    assert live.json("ledger", "create")["created"]
    assert not live.json("ledger", "create")["created"]
    assert live.json("run", file)["books"]["created"] == 5
    for lost in (lambda: path.write_bytes(b""), path.unlink):
        lost()
        for name in ("ledger.db-wal", "ledger.db-shm"):
            (live.home / name).unlink(missing_ok=True)
        has_none()
    assert simulator.statistics()["created"] == 10


def test_a_live_ledger_on_postgresql_is_made_by_a_command_only(
    tmp_path: Path, simulator: Simulator, postgres_url: str
) -> None:
    settings = {"ELEPAY_SECRET_KEY": LIVE_KEY, "ELEPAY_MODE": "live", "LEDGER_URL": postgres_url}
    live = Command(tmp_path, simulator, **settings)
    assert "there is no live ledger at" in live("status").stderr
    assert live("ledger", "create").returncode == 0
    assert live("status").returncode == 0
