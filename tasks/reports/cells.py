"""Cells that go out and may come back: the apostrophe of the excel-safe copies, and the mark of a broken record.

Pure functions on text. Intake calls the second of each pair when a report of ours is dropped again:

::

    prefix    ->  unprefix       every cell, but only in a file with the column EXCEL_SAFE_COLUMN
    mark      ->  still_broken   only a record whose cell in MARK_COLUMN is not empty
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tasks.models import Reason

#: Stands in the header of an excel-safe copy and of no other file; its cells are empty.
EXCEL_SAFE_COLUMN = "onboarding_excel_safe"
#: Says what was wrong with a record that a report had to straighten.
MARK_COLUMN = "onboarding_straightened"

#: What a spreadsheet may take for a formula: an operator (full-width ones too, as Excel in Japan reads them), behind
#: blanks or not; a tab or a line break in front hides one from simpler checks.
_FORMULA = r"(?:[\t\r\n]|[ \u00a0\u3000]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
_TO_PREFIX = re.compile(rf"'*{_FORMULA}")
_PREFIXED = re.compile(rf"'+{_FORMULA}")
_MARK = re.compile(r"([a-z_]+) (\d+)/(\d+) \[([0-9a-f]{16})\]")
_WORD = re.compile(r"\d+|[^\W\d_]+")


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


def mark(reason: Reason, width: int, expected: int, fields: Sequence[str], surplus: str = "") -> str:
    """Return the mark of a record that was broken for `reason` and now looks sound.

    It had `width` fields where `expected` were due. `fields` are what the report shows, filled up or cut to the header;
    `surplus` is the raw text of what was cut off. The mark knows the fields, so that it stops counting when somebody
    mends one of them.
    """
    return f"{reason.code} {width}/{expected} [{_digest(fields)}] {surplus}".rstrip(" ")


def still_broken(cell: str, fields: Sequence[str]) -> Reason | None:
    """Return why a marked record must not be sent, or None if it was mended since.

    `fields` are its fields without the columns that start with `onboarding_`. An emptied mark counts as mended: so a
    person says that the record is right as it stands.
    """
    found = _MARK.match(cell)
    if found is None or found[4] != _digest(fields):
        return None
    return Reason(found[1], value=found[2], detail=found[3])


def _digest(fields: Sequence[str]) -> str:
    """Return the same for fields that a spreadsheet saved again, with other dates and without leading zeros."""
    words = "\x1f".join(" ".join(word.lstrip("0") for word in _WORD.findall(value)) for value in fields)
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
