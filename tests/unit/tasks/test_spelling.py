"""One text in several spellings is one identity; what tells the spellings apart, and what folding must never do."""

from __future__ import annotations

import hashlib
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.identities import identity_of, own_identity_of, spelling_of
from tasks.spelling import fold

#: Characters in which spellings differ, and a few that do not fold.
ODD = (
    "\u301c\uff5e~\u2212\uff0d-\u207b\u2016\u2225\u2014\u2015\ufe31\u0338"
    "\u30ac\u30ab\u3099\uff76\uff9e\uff144 e\u0301\xe9\xa8"
)
texts = st.text(st.sampled_from(ODD), max_size=6) | st.text(max_size=6)
fields = st.tuples(texts, texts, texts, texts)


@pytest.mark.parametrize(
    "spellings",
    [
        "\u301c\uff5e~",
        "\u2212\uff0d-\u207b",
        "\u2016\u2225",
        "\u2014\u2015\ufe31",
        ["\u30ac\u30b9", "\u30ab\u3099\u30b9", "\uff76\uff9e\uff7d"],
        ["caf\u00e9", "cafe\u0301"],
        ["A-4", "\uff21\uff0d\uff14"],
        ["\u682a\u5f0f\u4f1a\u793e", "\u337f"],
    ],
)
def test_spellings_of_one_text_are_one_identity_and_are_told_apart(spellings: list[str] | str) -> None:
    rows = [("cus_1", "creditcard", "web", f"x{spelling}y") for spelling in spellings]
    assert len({identity_of(*row) for row in rows}) == 1
    assert len({spelling_of(*row) for row in rows}) == len(rows)
    assert [spelling_of(*row) for row in rows if fold(row[3]) == row[3]] in ([], [None])


def test_case_letters_and_order_are_no_spelling() -> None:
    texts = ["gas", "Gas", "\u30ac\u30b9", "\u304c\u3059", "\u30ab\u30b9", "a-b", "b-a", "a\u2015b", "a-b ", ""]
    assert len({identity_of("cus_1", "creditcard", "web", text) for text in texts}) == len(texts)


def test_a_customer_id_is_folded_as_a_reference_is() -> None:
    assert identity_of("c\uff11", "paypay", "web", "") == identity_of("c1", "paypay", "web", "")
    assert spelling_of("c\uff11", "paypay", "web", "") != spelling_of("c1", "paypay", "web", "")


@pytest.mark.parametrize(("live", "mode"), [(False, b"test"), (True, b"live")])
def test_the_identity_of_plain_ascii_is_the_hash_of_its_fields(live: bool, mode: bytes) -> None:
    plain = hashlib.blake2b(mode + b"\x1fcus_1\x1fpaypay\x1fweb\x1fa~b-c", digest_size=16).digest()
    assert identity_of("cus_1", "paypay", "web", "a~b-c", live) == plain
    assert identity_of("cus_1", "paypay", "web", "a\u301cb\uff0dc", live) == plain
    assert spelling_of("cus_1", "paypay", "web", "a~b-c") is None


def test_folding_a_character_twice_changes_nothing_and_makes_no_separator() -> None:
    """Else a spelling could be another identity's folded form, or a field could move into the next one."""
    for character in (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000):
        folded = fold(character)
        assert fold(folded) == folded, f"U+{ord(character):04X}"
        assert fold(unicodedata.normalize("NFKC", character)) == folded, f"U+{ord(character):04X}"
        assert folded, f"U+{ord(character):04X}"
        if unicodedata.category(character) != "Cc":
            assert not any(unicodedata.category(one) == "Cc" for one in folded), f"U+{ord(character):04X}"


@given(texts)
@example("\u2016\u0338")
@example("\u207b\u2212\uff0d")
def test_folding_a_text_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(fields, fields)
@example(("a", "b", "c", "\u0301d"), ("a", "b", "c\u0301", "d"))
def test_identities_are_equal_if_each_folded_field_is(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    if any("\x1f" in field for field in one + other):  # intake lets no such field in
        return
    folded = [tuple(map(fold, each)) for each in (one, other)]
    assert (identity_of(*one) == identity_of(*other)) == (folded[0] == folded[1])
    assert (spelling_of(*one) is None) == (folded[0] == one)
    if folded[0] == folded[1]:
        assert (spelling_of(*one) == spelling_of(*other)) == (one == other)


@given(fields, fields)
def test_the_own_identity_of_a_spelling_is_no_folded_one(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    identity = identity_of(*one)
    own = {own_identity_of(identity, spelling) for spelling in (None, spelling_of(*one), spelling_of(*other))}
    assert not own & {identity, identity_of(*other)}
    assert len(own) == len({None, spelling_of(*one), spelling_of(*other)})
