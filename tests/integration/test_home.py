"""One home: whatever folder a command is typed in, it works with the same ledger, or with none."""

from __future__ import annotations

from pathlib import Path

import pytest
from factories import Command, Simulator, write_csv


def without_settings(folder: Path, home: Path, simulator: Simulator | None = None) -> Command:
    """A command typed in `folder` by somebody who has set no folder and whose home directory is `home`."""
    folder.mkdir(exist_ok=True)
    command = Command(folder, simulator)
    for name in ("ONBOARD_HOME", "XDG_STATE_HOME"):
        del command.environment[name]
    command.environment["HOME"] = str(home)
    return command


def test_a_file_in_two_working_directories_makes_one_source_a_row(tmp_path: Path, simulator: Simulator) -> None:
    file = write_csv(tmp_path / "a.csv", 5)
    here = without_settings(tmp_path / "here", tmp_path, simulator).json("run", file)
    there = without_settings(tmp_path / "there", tmp_path, simulator).json("run", file)
    assert (here["books"]["created"], there["books"]["skipped"]) == (5, 5)
    assert simulator.statistics()["created"] == 5
    home = tmp_path / ".local" / "state" / "onboard"
    assert Path(here["reports"]["results"]).parent == home / "reports" / "1"
    assert list((tmp_path / "here").iterdir()) == list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["run", "a.csv"],
        ["watch", "--once"],
        ["worker"],
        ["status"],
        ["doctor"],
        ["retry", 1],
        ["resume", 1],
        ["report", 1],
        ["follow-up"],
        ["ledger", "create"],
        ["ledger", "upgrade"],
        ["ledger", "tidy"],
    ],
    ids=str,
)
def test_a_ledger_at_the_former_default_stops_every_command(
    tmp_path: Path, simulator: Simulator, redis_url: str, words: list[object]
) -> None:
    """Whether or not it is live, has batches, or can be read: only a person knows which of the two counts."""
    command = without_settings(tmp_path / "here", tmp_path, simulator)
    command.environment["ONBOARD_KEEP_DAYS"] = "1"
    if words == ["worker"]:
        command.environment["REDIS_URL"] = redis_url
    write_csv(command.folder / "a.csv", 2)
    old, new = command.folder / "onboarding", tmp_path / ".local" / "state" / "onboard"
    old.mkdir()
    (old / "ledger.db").touch()
    done = command(*words)
    assert done.returncode == 2
    assert f"mv {old} {new}" in done.stderr
    assert f"export ONBOARD_HOME={old}" in done.stderr
    assert not new.exists()
    assert (old / "ledger.db").read_bytes() == b""
    assert simulator.statistics()["created"] == 0


def test_the_commands_that_are_named_settle_it(tmp_path: Path, simulator: Simulator) -> None:
    command = without_settings(tmp_path / "here", tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 3)
    old, new = command.folder / "onboarding", tmp_path / ".local" / "state" / "onboard"
    command.environment["ONBOARD_HOME"] = "onboarding"
    assert command.json("run", file)["books"]["created"] == 3
    del command.environment["ONBOARD_HOME"]
    assert command("run", file).returncode == 2
    new.parent.mkdir(parents=True)
    old.rename(new)
    assert command.json("run", file)["books"]["skipped"] == 3


def test_an_inbox_at_the_former_default_stops_the_watcher(tmp_path: Path, simulator: Simulator) -> None:
    command = without_settings(tmp_path / "here", tmp_path, simulator)
    inbox = command.folder / "drop" / "inbox"
    inbox.mkdir(parents=True)
    write_csv(inbox / "a.csv", 2)
    done = command("watch", "--once")
    assert done.returncode == 2
    assert f"export ONBOARD_DROP_FOLDER={inbox.parent}" in done.stderr
    assert command("watch", "--once", "drop").returncode == 0
    assert simulator.statistics()["created"] == 2


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home, said in ((tmp_path / "file", f"{tmp_path / 'file'}/.local/state/onboard"), (Path(), "HOME is not set")):
        done = without_settings(tmp_path / "here", home)("status")
        assert done.returncode == 2
        assert said in done.stderr
        assert "set ONBOARD_HOME" in done.stderr
        assert "Traceback" not in done.stderr


def test_doctor_begins_with_mode_address_and_ledger(tmp_path: Path, simulator: Simulator) -> None:
    test = Command(tmp_path, simulator)
    place = f"mode at {simulator.url}, ledger {test.home / 'ledger.db'}"
    assert test("doctor").stdout.startswith(f"test {place}\n")
    live = Command(tmp_path, simulator, ELEPAY_MODE="live", ELEPAY_SECRET_KEY="sk_live_0123456789")
    assert live("doctor").stdout.startswith(f" LIVE  {place}\n"), "there is no ledger yet"
    said = live.json("doctor")
    assert (said["mode"], said["address"], said["ledger"]) == ("live", simulator.url, str(test.home / "ledger.db"))
    assert not test.home.joinpath("ledger.db").exists() or said["exit"] == 2


def test_a_relative_ledger_url_is_shown_as_the_file_that_it_is(tmp_path: Path) -> None:
    command = Command(tmp_path, LEDGER_URL="sqlite:///mine.db")
    assert f"ledger {tmp_path / 'mine.db'}" in command("status").stdout
