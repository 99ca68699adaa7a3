"""Spellings of one text, made equal: what cp932 and Unicode write in several ways."""

from __future__ import annotations

import unicodedata

#: One byte pair of cp932 is read as either of two characters, depending on the program: wave dash and full-width tilde,
#: minus and full-width minus, double vertical line and parallel to, em dash and horizontal bar. Each pair becomes one
#: character that NFKC leaves as it is.
_CP932_PAIRS = str.maketrans(
    {"\u301c": "~", "\uff5e": "~", "\u2212": "-", "\uff0d": "-", "\u2016": "\u2225", "\u2014": "\u2015"}
)


def fold(text: str) -> str:
    """Return a text so that spellings of the same text are equal: first the pairs of cp932, then Unicode's NFKC.

    Folding twice changes nothing more: NFKC turns other characters (superscripts, vertical forms) into members of the
    pairs, so these are replaced once more. No character becomes a control character.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_CP932_PAIRS)).translate(_CP932_PAIRS)
