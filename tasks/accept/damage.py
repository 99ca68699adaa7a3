"""Keys that a spreadsheet or a script has surely rewritten, so that nobody can know what they were."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

#: One of these is in every damaged key of which a single one is proof, and one of those at its beginning.
_SIGNS = (*".,=+'#:", "\u2018", "\u2019", "\u066b")
_BEGINNINGS = frozenset("+-='#E\u2018\u2019")
#: What NFKC makes signs of.
_WIDE = "．，＝＋＇＃Ｅｅ："
_PROOF = re.compile(
    r"""
    [+-]?\d+[.,\u066b]\d*E[+-]?\d+              # 1.23457E+11, 1,23457e11
    | [+-]?\d+E\+\d+                            # 9E+15
    | =.+                                       # ="00123", =A1
    | ['\u2018\u2019][=+\-@]?\d[\d.,\ -]*       # '00123
    | (?-i: \#\#\#+ | \#N/A(?:\ N/A)? | \#DIV/0! | \#[A-Z][A-Z0-9_]*[!?] | Err:\d{3} )
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: No proof in one key; where each key of a file is one of the same kind, a program wrote them as numbers.
_NUMBERS = (
    re.compile(r"\d+[.,]0+"),  # 100234.0
    re.compile(r"\d{1,3}(?:,\d{3})+"),  # 1,234,567
)
#: A spreadsheet keeps 15 digits of a number; with so many keys that end in zeros no id is that round by chance.
_CUT = re.compile(r"\d{15}0{2,}")
_LEAST_CUT = 5


def damaged(values: Sequence[str], kind: str) -> list[int]:
    """Return the positions of damaged keys; `kind` is what `kind_of_numbers` said about the column."""
    text = "".join(values)
    if not text.isascii() and any(sign in text for sign in _WIDE):
        values = [unicodedata.normalize("NFKC", value) for value in values]
        text = "".join(values)
    if not kind and not any(sign in text for sign in _SIGNS):
        return []
    number = re.compile(kind or r"(?!)")
    likely = ((at, value) for at, value in enumerate(values) if value[:1].isdigit() or value[:1] in _BEGINNINGS)
    return [at for at, value in likely if _PROOF.fullmatch(value) or number.fullmatch(value)]


def kind_of_numbers(values: Iterable[str]) -> str:
    """Return the pattern of numbers that each of the first keys of a column is written as, or ""."""
    keys = {value for value in values if value}
    kinds = [*_NUMBERS, *([_CUT] if len(keys) >= _LEAST_CUT else [])]
    return next((kind.pattern for kind in kinds if keys and all(map(kind.fullmatch, keys))), "")
