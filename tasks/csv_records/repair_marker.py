"""The mark of a record that was broken and that a report had to straighten.

Without it, a record with too few fields would be a sound one when the report is dropped again, and be sent. `mark` goes
into the report; `still_broken` reads it from a record whose cell in `MARK_COLUMN` is not empty.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from tasks.models import Reason

#: Says what was wrong with a record that a report had to straighten.
MARK_COLUMN = "onboarding_straightened"

_MARK = re.compile(r"([a-z_]+) (\d+)/(\d+) \[([0-9a-f]{16})\]")
_WORD = re.compile(r"\d+|[^\W\d_]+")


def mark(reason: Reason, width: int, expected: int, fields: Sequence[str], surplus: str = "") -> str:
    """Return the mark of a record that was broken for `reason` and now looks sound.

    It had `width` fields where `expected` were due. `fields` are what the report shows, filled up or cut to the header;
    `surplus` is the raw text of what was cut off. The mark knows the fields, so that it stops counting when somebody
    fixes one of them.
    """
    return f"{reason.code} {width}/{expected} [{_digest(fields)}] {surplus}".rstrip(" ")


def still_broken(cell: str, fields: Sequence[str]) -> Reason | None:
    """Return why a marked record must not be sent, or None if it was fixed since.

    `fields` are its fields without the columns that start with `onboarding_`. An emptied mark counts as fixed: so a
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
