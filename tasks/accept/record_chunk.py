"""Records under examination: a chunk of a file as a text DataFrame, and what was found about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.accept.columns import Column
from tasks.accept.file_warnings import Warnings, shown
from tasks.accept.footers import is_footer
from tasks.csv_records import MARK_COLUMN, RecordBatch, still_broken, unguard
from tasks.models import Reason

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: So many reasons are kept of one row; how many more there are is the last one.
MOST_REASONS = 5
_NUL = "\x00"


@dataclass(slots=True)
class Chunk:
    """Records under examination."""

    batch: RecordBatch
    columns: tuple[Column, ...]
    warnings: Warnings
    frame: pd.DataFrame  #: the fields as text; a broken record is a row of empty ones
    broken: dict[int, Reason] = field(default_factory=dict)  #: position -> why its fields cannot be trusted
    reasons: dict[int, list[Reason]] = field(default_factory=dict)  #: position -> the first `MOST_REASONS`
    more: dict[int, int] = field(default_factory=dict)  #: position -> how many reasons are not kept

    def column(self, target: str) -> Column | None:
        """Return the column of a target, if the file has it."""
        return next((column for column in self.columns if column.target == target), None)

    def reject(self, rows: Iterable[int], code: str, column: Column, detail: str = "") -> None:
        """Note a reason at each of `rows`, with the value that the file has there."""
        at, name, fields = column.at, column.name, self.batch.fields
        for row in rows:
            if row not in self.broken and self.has_room(row):
                self.reasons.setdefault(row, []).append(Reason(code, name, shown(fields[row][at]), detail))

    def add(self, row: int, reason: Reason) -> None:
        """Note a reason that is not about the value of one column."""
        if self.has_room(row):
            self.reasons.setdefault(row, []).append(reason)

    def has_room(self, row: int) -> bool:
        """Return whether one more reason of a row is kept; if not, count it."""
        if len(self.reasons.get(row, ())) < MOST_REASONS:
            return True
        self.more[row] = self.more.get(row, 0) + 1
        return False

    def warn(self, rows: Sequence[int] | np.ndarray, code: str, column: str, detail: str = "") -> None:
        """Count `rows` under a warning."""
        kept = [int(row) for row in rows if int(row) not in self.broken] if self.broken else rows
        if len(kept):
            first = int(kept[0])
            place = (self.batch.first_record + first, self.batch.lines[first])
            self.warnings.add(code, column, detail, len(kept), place)


def new_chunk(batch: RecordBatch, columns: tuple[Column, ...], warnings: Warnings, *, guarded: bool = False) -> Chunk:
    """Return the records as a DataFrame of as many columns as the header has.

    Done here and not by pandas, which shifts or drops fields of records with too many or too few. `guarded`: take off
    what `csv_records.guard` put on.
    """
    import pandas as pd

    if guarded:
        batch.fields = [[unguard(value) for value in fields] for fields in batch.fields]
    width = len(columns)
    needed = 1 + max((column.at for column in columns if column.title), default=0)
    broken = {at: Reason(code) for at, code in batch.errors.items()}
    trailing = []
    fields = batch.fields
    if set(map(len, fields)) != {width} or broken:
        fields = list(fields)
        for at, found in enumerate(fields):
            if at not in broken and len(found) != width:
                if needed <= len(found) and not any(found[width:]):
                    trailing.append(at)
                    fields[at] = batch.fields[at] = (found + [""] * width)[:width]
                    continue
                broken[at] = _why_broken(found, batch.texts[at], width)
            if at in broken:
                fields[at] = [""] * width
    if straightened := _straightened(fields, columns, broken):
        broken |= straightened
        fields = [[""] * width if at in straightened else found for at, found in enumerate(fields)]
    chunk = Chunk(batch, columns, warnings, pd.DataFrame(fields, dtype=object), broken)
    chunk.reasons = {at: [reason] for at, reason in broken.items()}
    chunk.warn(trailing, "trailing_delimiter", "", str(width))
    return chunk


def _why_broken(fields: Sequence[str], text: str, width: int) -> Reason:
    """Return why a record of another width than the header cannot be read."""
    if len(fields) < width and _NUL in text:
        return Reason("cut_off", detail=str(text.count(_NUL)))
    if is_footer(fields):
        return Reason("footer", value=shown(fields[0]))
    code = "too_few_fields" if len(fields) < width else "too_many_fields"
    return Reason(code, "", str(len(fields)), str(width))


def _straightened(
    fields: Sequence[Sequence[str]], columns: Sequence[Column], broken: Mapping[int, Reason]
) -> dict[int, Reason]:
    """Return the records of a dropped report that look sound only because the report had to straighten them."""
    at_mark = next((column.at for column in columns if column.title.casefold() == MARK_COLUMN), None)
    if at_mark is None:
        return {}
    theirs = [column.at for column in columns if column.target != "own"]
    marked = ((at, found) for at, found in enumerate(fields) if at not in broken and found[at_mark])
    reasons = ((at, still_broken(found[at_mark], [found[each] for each in theirs])) for at, found in marked)
    return {at: reason for at, reason in reasons if reason is not None}


def positions(mask: object) -> list[int]:
    """Return the positions where a boolean column is true."""
    import numpy as np

    return list(np.flatnonzero(np.asarray(mask, dtype=bool)).tolist())
