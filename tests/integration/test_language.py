"""Every command in Japanese: real commands, of whose output no sentence is English; scripts find the same keys."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import Command, Simulator, write_csv

JAPANESE = re.compile("[぀-ヿ㐀-鿿]")
#: What stays as it is in Japanese: commands, options, settings, paths, addresses, and what elepay and files are called.
_NO_SENTENCE = re.compile(
    r"`[^`]*`|onboard( [a-z-]+)+|--[a-z-]+( [A-Za-z_]+)?|\S*[./_=]\S*|[A-Z_]{3,}|make [a-z]+|Ctrl-C", re.ASCII
)
_ENGLISH = re.compile(r"\b[A-Za-z]{2,} [a-z]{2,}")


def english_in(said: str) -> list[str]:
    """Return the lines of what a command printed in which two English words stand side by side; logs stay English."""
    shown = [line for line in said.splitlines() if not line.startswith("{")]
    return [line for line in shown if _ENGLISH.search(_NO_SENTENCE.sub("", line))]


def test_english_would_be_found() -> None:
    assert english_in("nobody is at work for it now: start `onboard worker`")
    assert english_in("状態：nothing to do")
    assert not english_in(
        "バッチ 1 を一時停止しました。onboard resume 1 で再開します。（/srv/drop/inbox、ONBOARD_LANG）"
    )


@pytest.fixture(scope="module")
def onboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A folder whose first batch has a row of every kind, one of them unclear for a person to settle."""
    folder = tmp_path_factory.mktemp("ja")
    with (folder / "night.csv").open("w", newline="", encoding="utf-8") as opened:
        rows = csv.writer(opened)
        rows.writerow(["customer_id", "payment_method", "resource", "description"])
        rows.writerows([f"cus_{at}", "creditcard", "ios", "Ginza"] for at in range(20))
        rows.writerows([["cus_0", "creditcard", "ios", "other"], ["cus_1", "nonsense", "ios", ""], ["cus_9"]])
    with Simulator() as simulator:
        command = Command(folder, simulator, ONBOARD_LANG="ja", ONBOARD_TIME_ZONE="Asia/Tokyo")
        simulator.control(refuse={"M003009": 0.2})
        command("run", "night.csv")
        simulator.control(refuse={})
        yield command


#: In this order: the later ones change what the earlier ones show.
COMMANDS = [
    "doctor",
    "status",
    "status 1",
    "report 1",
    "report follow-up --days 0",
    "follow-up",
    "audit 1",
    "show 1 2",
    "show 1 23",
    "resolve",
    "retry 1",
    "run night.csv",
    "rehearse --profile clean night.csv",
    "watch --once drop",
    "ledger create",
    "ledger upgrade",
    "ledger accept",
]


@pytest.mark.parametrize("words", COMMANDS)
def test_what_a_command_prints_is_japanese(onboard: Command, words: str) -> None:
    if words.startswith("watch"):
        (onboard.folder / "drop" / "inbox").mkdir(parents=True)
        write_csv(onboard.folder / "drop" / "inbox" / "b.csv", 3)
    done = onboard(*words.split())
    assert done.returncode in (0, 1), done.stderr
    assert JAPANESE.search(done.stdout), done.stderr
    assert english_in(done.stdout + done.stderr) == []


@pytest.mark.parametrize("words", ["status 1", "report 1", "doctor", "audit 1", "show 1 2", "resolve"])
def test_json_follows_the_language_and_keeps_its_keys_and_codes(onboard: Command, words: str) -> None:
    japanese = onboard.json(*words.split())
    onboard.environment["ONBOARD_LANG"] = "en"
    try:
        english = onboard.json(*words.split())
    finally:
        onboard.environment["ONBOARD_LANG"] = "ja"
    assert japanese.keys() == english.keys()
    for key in ("state", "books", "exit", "batch", "ok", "differences", "row", "unclear"):
        assert japanese.get(key) == english.get(key)
    if "verdict" in japanese:
        assert JAPANESE.search(japanese["verdict"])
        assert not JAPANESE.search(english["verdict"])
    for one, other in zip(japanese.get("findings", []), english.get("findings", []), strict=True):
        assert one["subject"] == other["subject"]
        assert one["says"] == other["says"] or JAPANESE.search(one["says"])


def test_a_decision_is_said_in_japanese(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LANG="ja")
    stopped = onboard("run", "--canary", "2", write_csv(tmp_path / "a.csv", 6))
    assert stopped.returncode == 3
    said = [stopped, onboard("status", 1), onboard("approve", 1), onboard("status")]
    canary = onboard.json("run", "--canary", "2", write_csv(tmp_path / "b.csv", 5, prefix="other_"))
    assert "先行送信分" in canary["state_reason"]
    said += [onboard("cancel", canary["batch"]), onboard("status", canary["batch"])]
    assert english_in("".join(one.stdout + one.stderr for one in said)) == []
    assert "バッチ 1 の続行を承認しました。" in said[2].stdout


def test_a_person_settles_rows_in_japanese(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LANG="ja", ONBOARD_LOOK_UPS="1")
    simulator.control(drop_before_commit=1.0, list_500=1.0, max_faults_per_key=1000)
    onboard("run", write_csv(tmp_path / "a.csv", 2))
    simulator.control(drop_before_commit=0.0, list_500=0.0)
    said = [onboard("resolve"), onboard("show", 1, 2), onboard("resolve", 1, 2, "--give-up")]
    said += [onboard("resolve", 1, 3, "--absent"), onboard("show", 1, 2), onboard("show", 1, 3)]
    assert english_in("".join(one.stdout + one.stderr for one in said)) == []
    assert "確認を打ち切りました。" in said[2].stdout
