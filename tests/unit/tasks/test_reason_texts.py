from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

from tasks.elepay.codes import ACTIONS
from tasks.errors import UnusableFile
from tasks.models import Reason
from tasks.reason_texts import CODES, LANGUAGES, explain_file, hint, sentence, title

TASKS = Path(__file__).parents[3] / "tasks"
ALL = pytest.mark.parametrize("code", CODES)
JAPANESE = re.compile("[ぁ-んァ-ヶ一-龠]")


@ALL
def test_every_code_is_explained_in_both_languages(code: str) -> None:
    reason = Reason(code, "COLUMN", "VALUE", "DETAIL")
    english, japanese = ([title(code, lang), sentence(reason, lang), hint(code, lang)] for lang in LANGUAGES)
    assert all(english)
    assert not any(JAPANESE.search(text) for text in english)
    assert all(JAPANESE.search(text) for text in japanese)
    assert len(title(code)) <= 50
    assert all(text.isprintable() for text in [*english, *japanese])


@ALL
def test_both_languages_say_the_same_things(code: str) -> None:
    told = CODES[code]
    if told.kind in ("file", "elepay"):
        return  # the English detail of a file's error is not repeated in Japanese
    for texts in (told.text, told.more):
        english, japanese = ({name for _, name, _, _ in string.Formatter().parse(text) if name} for text in texts)
        assert english == japanese


def test_every_code_of_elepay_is_explained() -> None:
    assert {code for code, told in CODES.items() if told.kind == "elepay"} >= set(ACTIONS)


def test_every_code_of_the_rooms_of_files_is_explained() -> None:
    source = "".join(
        path.read_text("utf-8") for room in ("csv_records", "accept") for path in (TASKS / room).glob("*.py")
    )
    codes = set(
        re.findall(r'(?:UnusableFile\(|Reason\(|chunk\.warn\([^"]*?|chunk\.reject\([^"]*?)\s*"([a-z_]+)"', source)
    )
    assert len(codes) > 25
    assert codes <= CODES.keys()


def test_a_sentence_names_the_column_and_the_value_and_a_guess() -> None:
    reason = Reason("unknown_payment_method", "決済方法", "creditcart", "creditcard")
    assert sentence(reason) == "決済方法 is not a payment method of elepay: creditcart; is creditcard meant?"
    assert sentence(reason._replace(detail="")) == "決済方法 is not a payment method of elepay: creditcart"
    assert sentence(reason, "ja") == (
        "「決済方法」は elepay の決済方法ではありません：creditcart（creditcard の誤りではありませんか）"
    )


def test_an_answer_of_elepay_names_its_code_and_the_field() -> None:
    assert sentence(Reason("M002002", "extra.openid")) == (
        "elepay answered: A value is not accepted (M002002). It names the field extra.openid."
    )
    assert "M002002" in sentence(Reason("M002002"), "ja")


@pytest.mark.parametrize("code", ["M999999", "teapot", "{}", "%s", ""])
def test_a_code_that_nobody_knows_is_named(code: str) -> None:
    for lang in LANGUAGES:
        assert code in sentence(Reason(code), lang)
        assert code in title(code, lang)
        assert hint(code, lang)


def test_braces_in_a_value_stay_what_they_are() -> None:
    assert sentence(Reason("value_too_long", "{x}", "{column} {0}", "32")).endswith(
        "{x} is longer than 32 characters: {column} {0}"
    )


def test_an_unknown_language_is_answered_in_english() -> None:
    assert title("missing_value", "fr") == title("missing_value")


def test_a_file_is_explained_in_both_languages() -> None:
    error = UnusableFile("unclosed_quote", "A quote is open.", line=7, hint="Close it.")
    assert explain_file(error) == ("A quote is open.", "Close it.")
    text, advice = explain_file(error, "ja")
    assert "7 行目" in text
    assert advice == hint("unclosed_quote", "ja")
    assert explain_file(UnusableFile("empty_file", "Empty."))[1] == hint("empty_file")


def test_an_answer_without_a_code_is_explained_by_its_http_status() -> None:
    said = "Something answered http_403 without elepay's own error; the source may exist."
    assert sentence(Reason("http_403")) == said
    assert "too long" in sentence(Reason("http_413"))
    assert "may exist" in sentence(Reason("http_502"))
    assert hint("http_502") == hint("server_error")


def test_every_code_that_this_program_gives_a_row_is_explained() -> None:
    source = "".join(path.read_text("utf-8") for path in TASKS.rglob("*.py"))
    raised = re.findall(r'(?:Unclear|Refused|NotSent|Halted|Maintenance|AlreadyThere)\(\s*"([a-z_]+)"', source)
    given = re.findall(
        r'(?<!ListedSources\()\bcode="([a-z_]+)"|outcome\.code(?:, outcome\.what)? = "([a-z_]+)"', source
    )
    codes = {*raised, *(code for pair in given for code in pair if code)}
    assert len(codes) > 12
    assert codes <= CODES.keys()
