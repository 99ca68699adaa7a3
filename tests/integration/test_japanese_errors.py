"""What commands say in Japanese when they cannot do what they were asked: real commands, wrong input of every kind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from factories import Command

#: What may stay as it is within a Japanese sentence: names of settings, options, files, commands and codes.
NAMES = re.compile(r"`[^`]*`|'[^']*'|[\w./-]*[./_-][\w./-]*|\b[A-Z]\w*\b")
ENGLISH = re.compile(r"[a-z]{2,} [a-z]{2,}")
CLOSED = "http://127.0.0.1:9"
CASES: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "a file that is not there": (("run", "none.csv"), {}, "ファイルがありません"),
    "a folder in place of a file": (("check", "."), {}, "フォルダーです"),
    "a file without titles": (("check", "--offline", "untitled.csv"), {}, "1 行目の見出しに"),
    "a file that is no CSV": (("check", "--offline", "picture.csv"), {}, "CSV ファイルではありません"),
    "a batch that does not exist": (("status", "99"), {}, "バッチ 99 はありません"),
    "a malformed number": (("run", "good.csv"), {"ONBOARD_WORKERS": "many"}, "整数を設定してください"),
    "an unknown setting": (("run", "good.csv"), {"ONBOARD_WORKER": "1"}, "不明な設定"),
    "two settings at once": (("status",), {"ELEPAY_MODE": "x", "ONBOARD_UNTIL": "06:00"}, "いずれかを設定してください"),
    "a key of the other mode": (("run", "good.csv"), {"ELEPAY_SECRET_KEY": "sk_live_x"}, "どちらかを変更してください"),
    "an address that is none": (("run", "good.csv"), {"REDIS_URL": "http://x"}, "で始まるアドレスを設定してください"),
    "a ledger that cannot be kept": (("status",), {"ONBOARD_HOME": "/proc/x"}, "に置けません"),
    "a live ledger that is not there": (
        ("run", "good.csv"),
        {"ELEPAY_MODE": "live", "ELEPAY_SECRET_KEY": "sk_live_x", "ELEPAY_BASE_URL": "https://127.0.0.1:9"},
        "本番モードの台帳がありません",
    ),
    "an option that excludes another": (("run", "--no-workers", "good.csv"), {}, "共有のワーカーが必要です"),
    "a time that is none": (("run", "--until", "25:99", "good.csv"), {}, "時刻ではありません"),
    "no file": (("run",), {}, "を指定してください"),
    "an option that does not exist": (("run", "--nope", "good.csv"), {}, "というオプションはありません"),
    "an option that is not a number": (("run", "--workers", "x", "good.csv"), {}, "整数を指定してください"),
    "an option that is too small": (("run", "--workers", "0", "good.csv"), {}, "1 以上の値を指定してください"),
    "a language that is not spoken": (("run", "--lang", "fr", "good.csv"), {}, "en または ja"),
    "a mapping file that is no TOML": (("check", "--mapping", "good.csv", "good.csv"), {}, "TOML の書き方"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.csv").write_text("customer_id,payment_method,resource\ncus_1,creditcard,ios\n", "utf-8")
    (tmp_path / "untitled.csv").write_text("cus_1,creditcard,ios\n", "utf-8")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path


def failed(folder: Path, lang: str, words: tuple[str, ...], settings: dict[str, str]) -> tuple[Any, dict[str, Any]]:
    onboard = Command(folder, **{"ELEPAY_BASE_URL": CLOSED, "ONBOARD_LANG": lang, **settings})
    done = onboard(words[0], "--json", *words[1:])
    return done, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_explained_in_the_language_of_the_reader(case: str, folder: Path) -> None:
    words, settings, sentence = CASES[case]
    english, said_in_english = failed(folder, "en", words, settings)
    japanese, said = failed(folder, "ja", words, settings)
    assert japanese.returncode == english.returncode == 2
    assert said["error"]["code"] == said_in_english["error"]["code"]
    message = said["error"]["message"]
    assert sentence in message
    for text in (message, said["error"]["hint"]):
        assert not ENGLISH.search(NAMES.sub("", text)), text
    assert ENGLISH.search(said_in_english["error"]["message"])
    assert "onboard: " + message in japanese.stderr or "╭" in japanese.stderr  # the frame of typer breaks its lines


@pytest.mark.parametrize("case", ["no file", "an option that does not exist", "a language that is not spoken"])
def test_a_command_line_that_is_wrong_gives_an_object_of_its_own(case: str, folder: Path) -> None:
    words, settings, _ = CASES[case]
    done, said = failed(folder, "en", words, settings)
    assert said["verdict"] == "unusable"
    assert said["error"]["code"] == "usage"
    assert len(done.stdout.splitlines()) == 1
    assert "Usage: onboard run" in done.stderr


def test_an_option_decides_before_the_setting(folder: Path) -> None:
    onboard = Command(folder, ELEPAY_BASE_URL=CLOSED, ONBOARD_LANG="en", ONBOARD_WORKERS="many")
    assert "整数を設定してください" in onboard("check", "--lang", "ja", "good.csv").stderr
    assert "整数を設定してください" not in onboard("check", "good.csv").stderr


def test_a_file_of_settings_says_the_language_though_another_line_is_wrong(folder: Path) -> None:
    (folder / ".env").write_text("ONBOARD_LANG=ja\nONBOARD_WORKER=1\n", "utf-8")
    done = Command(folder, ELEPAY_BASE_URL=CLOSED)("check", "good.csv")
    assert done.returncode == 2
    assert "不明な設定" in done.stderr


def test_help_is_given_in_the_language_of_the_reader(folder: Path) -> None:
    assert "レポートを作成します。" in Command(folder, ONBOARD_LANG="ja")("run", "--help").stdout
    assert "レポートを作成します。" in Command(folder)("run", "--lang", "ja", "--help").stdout
    assert "Create one source per row" in Command(folder)("run", "--help").stdout


def test_the_line_of_a_file_is_named_in_japanese(folder: Path) -> None:
    (folder / "joined.csv").write_bytes(b"customer_id,payment_method,resource\n\x81\xff,x,y\n")
    done = Command(folder, ELEPAY_BASE_URL=CLOSED, ONBOARD_LANG="ja")("check", "--offline", "joined.csv")
    assert done.returncode == 2
    assert re.match(r"onboard: .*2 行目", done.stderr)


def test_too_little_memory_is_explained_in_japanese(folder: Path) -> None:
    onboard = Command(folder, ONBOARD_LANG="ja")
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 250000; exec {sys.executable} -m worker.cli status"],
        env={**onboard.environment, "PYTHONPATH": str(onboard.source)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 70
    assert done.stderr.startswith("onboard: メモリーが足りません。")
