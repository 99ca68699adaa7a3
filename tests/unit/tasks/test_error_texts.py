"""The sentences with which the program ends, in both languages."""

from __future__ import annotations

import ast
import contextlib
import errno
import pickle
import re
import sqlite3
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from error_templates import ROOT, bare_texts, templates

from tasks import stop_texts
from tasks.error_texts import Sentence, Words, system_reason
from tasks.errors import BadValue, LedgerError, OnboardingError, Refused, SettingsError, UnusableFile
from tasks.models import Stop, StopCode
from tasks.reason_texts import explain_file
from tasks.settings import load_settings

TEXTS: dict[str, Any] = tomllib.loads((ROOT / "tasks" / "error_texts.toml").read_text("utf-8"))
OF_LIBRARIES = {
    "No closing quotation",
    "No escaped character",
    "attempt to write a readonly database",
    "database disk image is malformed",
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "file is not a database",
    "unable to open database file",
}
ENGLISH_SENTENCE = re.compile(r"(?:\b[a-z]{2,}[,;:.]? ){3,}")


def named(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_every_sentence_has_a_translation_with_its_names() -> None:
    for place, template in templates():
        japanese = TEXTS["sentences"].get(template)
        assert japanese is not None, f"{place}: {template!r} has no translation in tasks/error_texts.toml"
        assert named(japanese) == named(template), f"{place}: {japanese!r} has other names than {template!r}"


def test_no_translation_is_without_its_sentence() -> None:
    assert set(TEXTS["sentences"]) == {template for _, template in templates()}


def test_no_sentence_is_built_where_it_is_raised() -> None:
    assert list(bare_texts()) == []


def test_the_words_that_are_translated_are_in_the_code() -> None:
    constants = OF_LIBRARIES | set(_constants())
    assert set(TEXTS["words"]) - constants == set()


def _constants() -> Iterator[str]:
    for folder in ("tasks", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_the_reasons_of_the_system_that_are_translated_exist() -> None:
    assert set(TEXTS["system"]) - set(errno.errorcode.values()) == set()


@pytest.mark.parametrize("table", ["sentences", "words", "patterns", "pydantic", "system"])
def test_no_translation_holds_an_english_sentence(table: str) -> None:
    for japanese in TEXTS[table].values():
        shown = re.sub(r"`[^`]*`|\(.*?\)|\{[^}]*\}|create database .*", "", japanese)
        assert not ENGLISH_SENTENCE.search(shown), japanese


def test_a_sentence_is_english_text_that_knows_its_japanese() -> None:
    sentence = Sentence("there is no batch {batch} in this ledger; `onboard status` lists those that are", batch=7)
    assert sentence == "there is no batch 7 in this ledger; `onboard status` lists those that are"
    assert sentence.in_language("ja").startswith("この台帳にバッチ 7 はありません。")
    assert sentence.in_language("en") == sentence.in_language("fr") == sentence


def test_sentences_within_a_sentence_are_translated() -> None:
    inner = BadValue("{text!r} is not a time of day such as 01:00", text="25:00")
    error = SettingsError("--not-before and --until: {why}", why=inner)
    assert str(error) == "--not-before and --until: '25:00' is not a time of day such as 01:00"
    assert error.in_language("ja") == "--not-before と --until：'25:00' は 01:00 のような時刻ではありません。"


def test_braces_of_values_mean_nothing() -> None:
    assert str(OnboardingError("{x}")) == "{x}"
    error = SettingsError("{name}: there is no such folder", name="{other}")
    assert str(error) == "{other}: there is no such folder"
    assert error.in_language("ja").startswith("{other}：")


@pytest.mark.parametrize(
    "error",
    [
        LedgerError("the ledger failed: {why}", why=Words("no such file")),
        BadValue("{text!r} is not a time of day such as 01:00", text="x"),
        UnusableFile("empty_file", "The file is empty (0 bytes).", line=3, hint="Export it again."),
        Refused("M003009", request_id="r1", http_status=400),
    ],
)
def test_an_error_goes_whole_from_one_process_to_another(error: Any) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert other.in_language("ja") == error.in_language("ja")
    assert vars(other).keys() == vars(error).keys()


def test_the_system_gives_its_reasons_in_japanese(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "none").open()
    assert system_reason(caught.value) == "No such file or directory"
    assert system_reason(caught.value).in_language("ja") == TEXTS["system"]["ENOENT"]
    assert Words(str(caught.value)).in_language("ja") == TEXTS["system"]["ENOENT"]
    assert Words("Level 2 halted").in_language("ja") == TEXTS["other_system"].format(code="EL2HLT")
    assert system_reason(ValueError("secret")) == "ValueError"


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        ("batch 3", "バッチ 3"),
        ("at least 2,000", "2,000 以上"),
        ("'a' (column 1), 'b' (column 7)", "'a'（1 列目）, 'b'（7 列目）"),
        (
            "port 80 cannot be served, it is in use or not allowed",
            "ポート 80 を使えません（使用中か、許可されていません）。",
        ),
        (
            'connection failed: connection to server at "127.0.0.1", port 9 failed: Connection refused',
            "127.0.0.1 のポート 9 に接続を拒否されました",
        ),
        (
            'connection failed: x failed: FATAL:  password authentication failed for user "y"',
            "ユーザー y のパスワード認証に失敗しました",
        ),
        ('connection failed: x failed: FATAL:  database "z" does not exist', "データベース z がありません"),
        (
            'connection failed: connection to server at "db", port 5 failed: timeout expired',
            "接続が時間切れになりました",
        ),
        ("Invalid value (at line 3, column 5)", "TOML の書き方に誤りがあります（3 行目、5 列目）"),
        ("Expected ']' at the end (at end of document)", "TOML の書き方に誤りがあります（ファイルの末尾）"),
        ("'utf-8' codec can't decode byte 0x83 in position 0: invalid start byte", "utf-8 として読み取れません"),
        (
            "no profile 'x'; there are: clean, storm",
            "'x' というプロファイルはありません。使えるのは clean, storm です。",
        ),
        ("profile a.toml cannot be read: no", "プロファイル a.toml を読み取れません（no）。"),
        ("profile a.toml: unknown knob 'x'", "プロファイル a.toml に誤りがあります（unknown knob 'x'）。"),
        (
            "the simulator serves the loopback only, or 0.0.0.0 inside of a container, not 10.0.0.1",
            "シミュレーターで使えるのはループバックか、コンテナー内の 0.0.0.0 だけです（10.0.0.1 は使えません）。",
        ),
    ],
)
def test_words_with_names_in_them_are_japanese(english: str, japanese: str) -> None:
    assert Words(english).in_language("ja") == japanese
    assert Words(english).in_language("en") == english


def test_a_stop_within_an_error_is_translated() -> None:
    stop = Stop(
        StopCode.UNUSABLE, {"message": "x", "code": "unreadable_file", "line": None, "detail": "it is a folder"}
    )
    why = stop_texts.StopSentence(stop)
    error = LedgerError("batch {batch} has no reports, its file was unusable: {why}", batch=3, why=why)
    assert error.in_language("ja").endswith("ファイルを開けません：フォルダーです。")
    assert pickle.loads(pickle.dumps(why)).in_language("ja") == why.in_language("ja")


@pytest.mark.parametrize("detail", ["no such file or directory", "permission denied", "it is a folder", "link"])
def test_the_detail_of_a_file_that_cannot_be_opened_is_japanese(detail: str) -> None:
    sentence, hint = explain_file(UnusableFile("unreadable_file", "x", detail=detail), "ja")
    assert not re.search("[a-z]", sentence)
    assert not re.search("[a-z]", hint)


@pytest.mark.parametrize("content", [b"no database at all, but text " * 40, None])
def test_what_sqlite_answers_is_japanese(content: bytes | None, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "ledger").mkdir()
    else:
        (tmp_path / "ledger").write_bytes(content)
    with pytest.raises(sqlite3.DatabaseError) as caught, contextlib.closing(sqlite3.connect(tmp_path / "ledger")) as it:
        it.execute("select * from sqlite_master")
    assert "データベースのファイル" in Words(str(caught.value)).in_language("ja")


@pytest.mark.parametrize(
    ("settings", "japanese"),
    [
        ({"ONBOARD_WORKERS": "many"}, "ONBOARD_WORKERS：整数を設定してください。"),
        ({"ONBOARD_WORKERS": "1.5"}, "ONBOARD_WORKERS：整数を設定してください。"),
        ({"ONBOARD_WORKERS": "-1"}, "ONBOARD_WORKERS：0 以上の値を設定してください。"),
        ({"ONBOARD_WORKERS": "65"}, "ONBOARD_WORKERS：64 以下の値を設定してください。"),
        ({"ONBOARD_WORKERS": "9" * 5000}, "ONBOARD_WORKERS：桁数が多すぎます。"),
        ({"ONBOARD_SETTLE_SECONDS": "0"}, "ONBOARD_SETTLE_SECONDS：0 より大きい値を設定してください。"),
        ({"ONBOARD_SETTLE_SECONDS": "soon"}, "ONBOARD_SETTLE_SECONDS：数値を設定してください。"),
        ({"ONBOARD_TRUST_ENV": "perhaps"}, "ONBOARD_TRUST_ENV：true または false を設定してください。"),
        ({"ONBOARD_LANG": "fr"}, "ONBOARD_LANG：'en'、'ja' のいずれかを設定してください。"),
        ({"ONBOARD_FOLLOW_UP_HOURS": "1,x"}, "ONBOARD_FOLLOW_UP_HOURS：数値を設定してください。"),
        ({"ONBOARD_NOTIFY_COMMAND": "a 'b"}, "コマンドの区切りを判別できません：閉じる引用符がありません。"),
        ({"ONBOARD_TIME_ZONE": "Tokyo/Mars"}, "この値は Asia/Tokyo のような"),
        ({"ONBOARD_NOT_BEFORE": "01:00"}, "ONBOARD_NOT_BEFORE と ONBOARD_UNTIL：送信時間帯には"),
        ({"ONBOARD_WORKER": "2"}, "不明な設定があります：ONBOARD_WORKER（ONBOARD_WORKERS のことではありませんか？）。"),
        (
            {"ONBOARD_WORKERS": "many", "ELEPAY_MODE": "x"},
            "ELEPAY_MODE：'test'、'live' のいずれかを設定してください。ONBOARD_WORKERS：整数を設定してください。",
        ),
    ],
)
def test_a_malformed_setting_is_explained_in_japanese(settings: dict[str, str], japanese: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"HOME": "/home/x", **settings}, folder=tmp_path)
    assert japanese in caught.value.in_language("ja")
