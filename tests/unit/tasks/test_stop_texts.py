"""Why a batch does not go on: a code with values is stored, the sentence is made where it is shown."""

from __future__ import annotations

import re
import string
import tomllib
from pathlib import Path

import pytest

from tasks import stop_texts
from tasks.errors import Halted, Maintenance, NotSent, Throttled, UnusableFile
from tasks.ledger.schema import batches
from tasks.models import Stop, StopCode
from tasks.send.outcomes import halting

TEXTS = tomllib.loads(Path(stop_texts.__file__).with_suffix(".toml").read_text("utf-8"))
JAPANESE = re.compile("[぀-ヿ㐀-鿿]")


def names_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_code_has_a_sentence_and_the_other_way_round() -> None:
    assert set(TEXTS["stop"]) == set(StopCode)


def test_every_code_fits_into_its_column() -> None:
    assert max(map(len, StopCode)) <= batches.c.stop_code.type.length


@pytest.mark.parametrize("code", [code for code in StopCode if code is not StopCode.UNUSABLE])
def test_both_languages_say_the_same(code: StopCode) -> None:
    english, japanese = TEXTS["stop"][code]
    assert names_in(english) == names_in(japanese)
    assert set(re.findall(r"onboard [a-z]+|--[a-z-]+|[A-Z]+_[A-Z_]+", english)) == set(
        re.findall(r"onboard [a-z]+|--[a-z-]+|[A-Z]+_[A-Z_]+", japanese)
    )
    assert not JAPANESE.search(english)
    assert JAPANESE.search(japanese)
    assert japanese.endswith("。")


@pytest.mark.parametrize(
    ("stop", "english", "japanese"),
    [
        (
            Stop(StopCode.PERSON, {"who": "sato@bastion", "batch": 12}),
            "paused by sato@bastion; onboard resume 12 goes on",
            "sato@bastion が一時停止しました。onboard resume 12 で再開します。",
        ),
        (
            halting(Halted("M004001", request_id="req_1", http_status=400)),
            (
                "the secret key is not valid: check ELEPAY_SECRET_KEY"
                " (elepay answered M004001, request req_1), then resume"
            ),
            (
                "秘密鍵が無効です（elepay の応答：M004001、リクエスト ID req_1）。"
                "ELEPAY_SECRET_KEY を確認してから再開してください。"
            ),
        ),
        (
            halting(NotSent("connection_refused")),
            "elepay could not be reached (connection_refused): check network, DNS and ELEPAY_BASE_URL, then resume",
            (
                "elepay に接続できませんでした（connection_refused）。"
                "ネットワーク、DNS、ELEPAY_BASE_URL を確認してから再開してください。"
            ),
        ),
        (
            halting(Throttled("M005000")),
            "elepay kept throttling (elepay answered M005000): lower ELEPAY_REQUESTS_PER_SECOND, then resume",
            (
                "elepay のレート制限が続いています（elepay の応答：M005000）。"
                "ELEPAY_REQUESTS_PER_SECOND を下げてから再開してください。"
            ),
        ),
    ],
)
def test_a_sentence_is_made_of_code_and_values(stop: Stop, english: str, japanese: str) -> None:
    assert (stop_texts.sentence(stop), stop_texts.sentence(stop, "ja")) == (english, japanese)


def test_what_nobody_stopped_has_no_sentence() -> None:
    assert stop_texts.sentence(None) == ""


@pytest.mark.parametrize("error", [Maintenance("S002000"), Halted("http_302"), Halted("http_403")])
def test_a_stop_is_the_same_after_it_was_carried_by_a_notification(error: Halted) -> None:
    stop = halting(error)
    assert Stop.decode(stop.encode()) == stop
    assert Stop.decode("") is None


def test_a_file_that_cannot_be_used_says_so_in_the_language_of_the_reader() -> None:
    stop = stop_texts.stop_of_file(UnusableFile("empty_file", "The file is empty (0 bytes).", line=1))
    assert stop_texts.sentence(stop) == "The file is empty (0 bytes)."
    assert stop_texts.sentence(stop, "ja") == "ファイルが空です。"
