"""What intake finds wrong or odd: reasons a row, warnings a file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from tasks.models import Reason

_SHOWN_CHARS = 80
_LEAST_CARD_DIGITS = 13
_CARD = re.compile(r"(?<!\d)\d(?:[ .\-\u2010\u2212\u3000]?\d){12,18}(?!\d)")


@dataclass(slots=True)
class Warned:
    """One kind of oddity that does not keep rows from being sent."""

    code: str
    column: str
    detail: str
    count: int
    first_record: int
    first_line: int

    @property
    def reason(self) -> Reason:
        """What `reasons.sentence` wants."""
        return Reason(self.code, self.column, "", self.detail)


@dataclass(slots=True)
class Warnings:
    """The oddities of a file, counted; complete once all of its rows were read."""

    found: dict[tuple[str, str, str], Warned] = field(default_factory=dict)

    def add(self, code: str, column: str, detail: str, count: int, first: tuple[int, int]) -> None:
        """Count `count` more rows; `first` is record and line of the first of them."""
        if not count:
            return
        known = self.found.get((code, column, detail))
        if known:
            known.count += count
        else:
            self.found[code, column, detail] = Warned(code, column, detail, count, *first)

    def __iter__(self) -> Iterator[Warned]:
        return iter(self.found.values())


@lru_cache(maxsize=1024)
def shown(value: str) -> str:
    """Return a rejected value as it may be repeated: shortened, one line, and masked where it may be a card number."""
    text = value[: 4 * _SHOWN_CHARS]
    if len(text) >= _LEAST_CARD_DIGITS:
        text = _masked(text)
    if not text.isprintable():
        text = "".join(char if char.isprintable() or char == "\u3000" else f"\\u{ord(char):04x}" for char in text)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def _masked(text: str) -> str:
    """Replace all but the last four digits of whatever looks like a card number, full-width digits too."""
    narrow = text if text.isascii() else "".join(str(unicodedata.digit(char, char)) for char in text)
    masked = list(text)
    for found in _CARD.finditer(narrow):
        digits = [at for at in range(*found.span()) if narrow[at].isdigit()]
        for at in digits[:-4]:
            masked[at] = "*"
    return "".join(masked)
