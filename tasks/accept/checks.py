"""Whether the records of a chunk can be sent: vectorised checks over a text DataFrame, all reasons of a row listed.

Columns with few different values (payment method, resource) are checked once per value, long ones by their lengths,
and characters by one search over the raw text of the whole chunk; single rows are looked at only where something is
wrong.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tasks.accept.columns import Column
from tasks.accept.file_warnings import Warnings, shown
from tasks.csv_records import BLANKS, MARK_COLUMN, RecordBatch, still_broken, unguard
from tasks.elepay.catalogue import AUTO, AUTO_RESOURCE, Catalogue
from tasks.models import Reason

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

#: docs/elepay-api.md §2.2, §2.3, §4
CUSTOMER_ID_CHARS = 32
DESCRIPTION_CHARS = 255
REFERENCE_CHARS = 255
VALUE_BYTES = 255
EXTRA_ENTRIES = 20
METADATA_ENTRIES = 19  # elepay takes 20; one is our reference
#: So many reasons are kept of one row; how many more there are is the last one.
MOST_REASONS = 5
#: Of so many different unknown values of a column, in one chunk, the value that is probably meant is looked for.
_MOST_GUESSES = 20
_LONGEST_GUESS = 100  # characters; no value of elepay's is half as long

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # line ends and tabs may stand in a quoted text
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff]"
)
_SCIENTIFIC = re.compile(r"\d(?:\.\d+)?E\+\d+")
_UTF8_BYTES_A_CHAR = 4


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
                code = "too_few_fields" if len(found) < width else "too_many_fields"
                broken[at] = Reason(code, "", str(len(found)), str(width))
            if at in broken:
                fields[at] = [""] * width
    if straightened := _straightened(fields, columns, broken):
        broken |= straightened
        fields = [[""] * width if at in straightened else found for at, found in enumerate(fields)]
    chunk = Chunk(batch, columns, warnings, pd.DataFrame(fields, dtype=object), broken)
    chunk.reasons = {at: [reason] for at, reason in broken.items()}
    chunk.warn(trailing, "trailing_delimiter", "", str(width))
    return chunk


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


def check(chunk: Chunk, catalogue: Catalogue, sendable: frozenset[str] | None) -> None:
    """Fill `chunk.reasons` and its warnings; leaves the keys trimmed and the enum columns normalised in its frame.

    1. records without any value; 2. keys; 3. enum columns and their pairs; 4. characters; 5. lengths and numbers. What
    is wrong with the keys is found first, so that it is always among the reasons that are kept.
    """
    _check_empty(chunk)
    _check_keys(chunk)
    methods = _check_enum(chunk, "payment_method", catalogue.methods | (sendable or frozenset()))
    resources = _check_enum(chunk, "resource", catalogue.resources)
    _check_pairs(chunk, catalogue, sendable, methods, resources)
    _check_characters(chunk)
    _check_sizes(chunk)
    place = {column.name: column.at for column in chunk.columns}
    for reasons in chunk.reasons.values():
        if len(reasons) > 1:
            reasons.sort(key=lambda reason: place.get(reason.column, len(place)))
    for row, number in chunk.more.items():
        chunk.reasons[row].append(Reason("more_reasons", detail=str(number)))


def _check_empty(chunk: Chunk) -> None:
    """Give a record of delimiters and blanks one reason, instead of one for each required column."""
    column = chunk.column("customer_id")
    assert column is not None, "read_columns demands it"
    empty = Reason("empty_record")
    for row, value in enumerate(chunk.frame[column.at].tolist()):
        if value.strip(BLANKS) or row in chunk.broken:
            continue
        if is_empty(chunk.batch.fields[row]):
            chunk.broken[row] = empty
            chunk.reasons[row] = [empty]


def _check_characters(chunk: Chunk) -> None:
    text = "".join(chunk.batch.texts)
    if _CONTROL_IN_TEXT.search(text):
        texts = [column for column in chunk.columns if column.target not in _KEYS_AND_ENUMS]
        for row, record in enumerate(chunk.batch.texts):
            if row in chunk.broken or not _CONTROL_IN_TEXT.search(record):
                continue
            fields = chunk.batch.fields[row]
            for column in texts:
                if (found := _CONTROL_IN_TEXT.search(fields[column.at])) and chunk.has_room(row):
                    chunk.reject((row,), "control_character", column, _name_of(found[0]))
    if "\ufffd" in text:
        rows = [row for row, record in enumerate(chunk.batch.texts) if "\ufffd" in record]
        chunk.warn(rows, "replacement_character", "")


_KEYS_AND_ENUMS = ("customer_id", "payment_method", "resource", "reference")


def _name_of(char: str) -> str:
    return f"U+{ord(char):04X}"


def _check_keys(chunk: Chunk) -> None:
    for target, limit in (("customer_id", CUSTOMER_ID_CHARS), ("reference", REFERENCE_CHARS)):
        column = chunk.column(target)
        if column is None:
            continue
        values = _trimmed(chunk, column)
        if target == "customer_id":
            for wrong, code in (("", "missing_value"), (".", "bad_customer_id"), ("..", "bad_customer_id")):
                if wrong in values:
                    chunk.reject(_rows(chunk.frame[column.at] == wrong), code, column)
        if max(map(len, values)) > limit:
            chunk.reject(_rows(chunk.frame[column.at].str.len() > limit), "value_too_long", column, str(limit))
        _check_key_characters(chunk, column, values)
        if "E+" in "".join(values):
            rows = [row for row, value in enumerate(values) if _SCIENTIFIC.fullmatch(value)]
            chunk.warn(rows, "scientific_notation", column.title)


def _trimmed(chunk: Chunk, column: Column) -> list[str]:
    """Trim a key column in the frame and return its values."""
    values = chunk.frame[column.at]
    text = "".join(values.tolist())
    if any(blank in text for blank in BLANKS):
        trimmed = values.str.strip(BLANKS)
        chunk.warn(_rows(trimmed != values), "trimmed", column.title)
        chunk.frame[column.at] = values = trimmed
    return values.tolist()


def _check_key_characters(chunk: Chunk, column: Column, values: list[str]) -> None:
    text = "".join(values)
    if text.isascii() and not _CONTROL.search(text):
        return
    odd = []
    for row, value in enumerate(values):
        if found := _CONTROL.search(value):
            chunk.reject([row], "control_character", column, _name_of(found[0]))
        elif found := _INVISIBLE.search(value):
            chunk.reject([row], "invisible_character", column, _name_of(found[0]))
        elif not value.isascii():
            odd.append(row)
    if column.target == "customer_id" and odd:
        chunk.warn(odd, "unusual_customer_id", column.title)


def _check_enum(chunk: Chunk, target: str, known: frozenset[str]) -> np.ndarray:
    """Normalise an enum column in the frame and return its values."""
    import numpy as np
    import pandas as pd

    column = chunk.column(target)
    assert column is not None, "read_columns demands it"
    codes, spellings = pd.factorize(chunk.frame[column.at])
    values = []
    guesses, words = 0, sorted(known)
    for spelling, rows in zip(spellings, _groups(codes), strict=True):
        value = unicodedata.normalize("NFKC", spelling).strip(BLANKS)
        values.append(value)
        if value in known:
            if value != spelling:
                chunk.warn(rows, "normalised", column.title)
        elif not value:
            chunk.reject(rows, "missing_value", column)
        elif found := _CONTROL.search(value):
            chunk.reject(rows, "control_character", column, _name_of(found[0]))
        else:
            guesses += 1
            asked = guesses <= _MOST_GUESSES and len(value) <= _LONGEST_GUESS
            close = difflib.get_close_matches(value.casefold(), words, n=1, cutoff=0.7) if asked else []
            chunk.reject(rows, f"unknown_{target}", column, "".join(close))
    normalised = np.array(values, dtype=object)[codes]
    chunk.frame[column.at] = pd.Series(normalised, dtype=object)
    return normalised


def _check_pairs(
    chunk: Chunk, catalogue: Catalogue, sendable: frozenset[str] | None, methods: np.ndarray, resources: np.ndarray
) -> None:
    """Cross-field rules (docs/elepay-api.md §3.3, §3.4, §4), once per pair of method and resource."""
    import numpy as np
    import pandas as pd

    method_column, resource_column = chunk.column("payment_method"), chunk.column("resource")
    assert method_column is not None
    assert resource_column is not None
    allowed = catalogue.source_methods if sendable is None else sendable
    table = pd.DataFrame({"method": methods, "resource": resources}, dtype=object)
    numbers = table.groupby(["method", "resource"], sort=False).ngroup().to_numpy()
    for rows in _groups(numbers):
        method, resource = str(methods[rows[0]]), str(resources[rows[0]])
        if method in catalogue.methods and method not in allowed:
            code = "method_holds_no_source" if sendable is None else "method_not_enabled"
            chunk.reject(rows, code, method_column)
        if method == AUTO and resource != AUTO_RESOURCE:
            chunk.reject(rows, "auto_needs_cpm", resource_column)
        if method not in allowed:
            continue
        if sendable is None and method in catalogue.holds_sources_after_application:
            chunk.warn(rows, "needs_application", method_column.title, method)
        if resource in catalogue.point_of_sale:
            chunk.warn(rows, "point_of_sale_resource", resource_column.title, resource)
        _check_needs(chunk, catalogue, method, resource, np.array(rows))


def _check_needs(chunk: Chunk, catalogue: Catalogue, method: str, resource: str, rows: np.ndarray) -> None:
    for need in catalogue.needs_of(method, resource):
        lacking = rows
        for key, value in need.if_set:
            condition = chunk.column(f"extra.{key}")
            lacking = lacking[(chunk.frame[condition.at].to_numpy()[lacking] == value)] if condition else lacking[:0]
        column = chunk.column(f"extra.{need.key}")
        if column is not None:
            lacking = lacking[(chunk.frame[column.at].to_numpy()[lacking] == "")]
        detail = f"{method}, {resource}"
        if not need.required:
            chunk.warn(lacking, "extra_wanted", f"extra.{need.key}", detail)
            continue
        for row in lacking.tolist():
            reason = Reason("extra_required", f"extra.{need.key}" if column is None else column.name, "", detail)
            chunk.add(row, reason)


def _check_sizes(chunk: Chunk) -> None:
    """Lengths, first of the longest value of a column and only then of each; and the number of entries."""
    import numpy as np

    for column in chunk.columns:
        values = chunk.frame[column.at]
        if column.part not in ("description", "extra", "metadata"):
            continue
        longest = max(map(len, values.tolist()))
        if column.part == "description" and longest > DESCRIPTION_CHARS:
            chunk.reject(_rows(values.str.len() > DESCRIPTION_CHARS), "value_too_long", column, str(DESCRIPTION_CHARS))
        elif column.part != "description" and longest > VALUE_BYTES // _UTF8_BYTES_A_CHAR:
            limit = VALUE_BYTES // _UTF8_BYTES_A_CHAR
            long = ((row, value) for row, value in enumerate(values.tolist()) if len(value) > limit)
            too_long = [row for row, value in long if len(value.encode()) > VALUE_BYTES]
            chunk.reject(too_long, "value_too_many_bytes", column, str(VALUE_BYTES))
    for part, limit in (("extra", EXTRA_ENTRIES), ("metadata", METADATA_ENTRIES)):
        columns = [column.at for column in chunk.columns if column.part == part]
        if len(columns) > limit:
            entries = (chunk.frame[columns] != "").to_numpy().sum(axis=1)
            for row in np.flatnonzero(entries > limit).tolist():
                chunk.add(row, Reason("too_many_entries", part, str(int(entries[row])), str(limit)))


def _groups(numbers: np.ndarray) -> Iterator[list[int]]:
    """Yield the positions of each of the numbers 0, 1, …; however many they are, all are sorted once."""
    import numpy as np

    order = np.argsort(numbers, kind="stable")
    ends = [*(np.flatnonzero(np.diff(numbers[order])) + 1).tolist(), len(order)]
    positions = order.tolist()
    return (positions[begin:end] for begin, end in pairwise((0, *ends)))


def is_empty(fields: Sequence[str]) -> bool:
    """Return True for the fields of a record that holds delimiters and blanks and nothing else."""
    return not "".join(fields).strip(BLANKS)


def _rows(mask: object) -> list[int]:
    """Return the positions where a boolean column is true."""
    import numpy as np

    return list(np.flatnonzero(np.asarray(mask, dtype=bool)).tolist())
