"""Cells that go out and may come back: the apostrophe of the excel-safe copies, and the mark of a misfit record.

Pure functions on text. Intake calls the second of each pair when a report of ours is dropped again:

::

    prefix    ->  unprefix        only in a file with the column EXCEL_SAFE_COLUMN
    misfit    ->  still_misfit    only for a record whose cell in the column MISFIT_COLUMN is not empty
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

#: Stands in the header of an excel-safe copy and of no other file; its cells are empty.
EXCEL_SAFE_COLUMN = "onboarding_excel_safe"
#: Holds how many fields a record had that did not have as many as the header.
MISFIT_COLUMN = "onboarding_misfit"

#: What a spreadsheet may take for a formula: an operator (full-width ones too, as Excel in Japan reads them), behind
#: blanks or not; a tab or a line break in front hides one from simpler checks.
_FORMULA = r"(?:[\t\r\n]|[ \u00a0\u3000]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
_TO_PREFIX = re.compile(rf"'*{_FORMULA}")
_PREFIXED = re.compile(rf"'+{_FORMULA}")
_WORD = re.compile(r"\d+|[^\W\d_]+")
_MISFIT = re.compile(r"(\d+) of (\d+) fields \[([0-9a-f]{16})\]")


def prefix(value: str) -> str:
    """Return a cell that no spreadsheet executes: with an apostrophe in front if it starts like a formula.

    What would look prefixed already gets one more, so that `unprefix(prefix(value)) == value` for every text.
    """
    return "'" + value if _TO_PREFIX.match(value) else value


def unprefix(value: str) -> str:
    """Return what `prefix` was given.

    The rule: if behind one or more apostrophes the cell starts like a formula, take one apostrophe away.
    """
    return value[1:] if _PREFIXED.match(value) else value


def misfit(width: int, expected: int, fields: Sequence[str], surplus: str) -> str:
    """Return the mark of a record that had `width` fields where `expected` were due.

    `fields` are the record's fields as the report shows them, filled up or cut to the header; `surplus` is the raw text
    of what was cut off. The mark knows the fields, so that it stops counting as soon as somebody mends one of them.
    """
    return f"{width} of {expected} fields [{_digest(fields)}] {surplus}".rstrip(" ")


def still_misfit(mark: str, fields: Sequence[str]) -> tuple[int, int] | None:
    """Return how many fields the record had and how many were due, or None if it was mended since.

    `fields` are the record's fields without the columns that start with `onboarding_`. An emptied mark counts as mended:
    so a person says that the record is right as it stands.
    """
    found = _MISFIT.match(mark)
    if found is None or found[3] != _digest(fields):
        return None
    return int(found[1]), int(found[2])


def _digest(fields: Sequence[str]) -> str:
    """Return the same for fields that a spreadsheet saved again, with other dates and without leading zeros."""
    words = "\x1f".join(" ".join(word.lstrip("0") for word in _WORD.findall(value)) for value in fields)
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
