"""Whether the records of a chunk can be sent: vectorised checks over a text DataFrame, all reasons of a row listed.

Columns with few different values (payment method, resource) are checked once per value, long ones by their lengths,
and characters by one search over the raw text of the whole chunk; single rows are looked at only where something is
wrong.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.catalogue import AUTO, AUTO_RESOURCE, Catalogue
from tasks.csv_records import MARK_COLUMN, RecordBatch, still_broken, unguard
from tasks.intake.columns import REQUIRED, Column
from tasks.intake.findings import Warnings, shown
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

#: Trimmed from the keys: blank, tab, no-break space, full-width blank, a stray byte order mark.
BLANKS = " \t\u00a0\u3000\ufeff"
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
    reasons: dict[int, list[Reason]] = field(default_factory=dict)

    def column(self, target: str) -> Column | None:
        """Return the column of a target, if the file has it."""
        return next((column for column in self.columns if column.target == target), None)

    def reject(self, rows: Iterable[int], code: str, column: Column, detail: str = "") -> None:
        """Note a reason at each of `rows`, with the value that the file has there."""
        for row in rows:
            if row not in self.broken:
                value = shown(self.batch.fields[row][column.at])
                self.reasons.setdefault(row, []).append(Reason(code, column.title, value, detail))

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

    1. characters; 2. keys; 3. enum columns and their pairs; 4. lengths and numbers; 5. records without any value.
    """
    _check_characters(chunk)
    _check_keys(chunk)
    methods = _check_enum(chunk, "payment_method", catalogue.methods | (sendable or frozenset()))
    resources = _check_enum(chunk, "resource", catalogue.resources)
    _check_pairs(chunk, catalogue, sendable, methods, resources)
    _check_sizes(chunk)
    _merge_empty(chunk)
    place = {column.title: column.at for column in chunk.columns}
    for reasons in chunk.reasons.values():
        if len(reasons) > 1:
            reasons.sort(key=lambda reason: place.get(reason.column, len(place)))


def _merge_empty(chunk: Chunk) -> None:
    """Give a record of delimiters and blanks only one reason instead of one for each required column."""
    for row, reasons in chunk.reasons.items():
        missing = [reason for reason in reasons if reason.code == "missing_value"]
        if len(missing) == len(REQUIRED) and not any(value.strip(BLANKS) for value in chunk.batch.fields[row]):
            chunk.broken[row] = Reason("empty_record")
            chunk.reasons[row] = [chunk.broken[row]]


def _check_characters(chunk: Chunk) -> None:
    text = "".join(chunk.batch.texts)
    if _CONTROL_IN_TEXT.search(text):
        strict = {column.at for column in chunk.columns if column.target in _KEYS_AND_ENUMS}
        for row, record in enumerate(chunk.batch.texts):
            if row not in chunk.broken and _CONTROL_IN_TEXT.search(record):
                for column in chunk.columns:
                    found = _CONTROL_IN_TEXT.search(chunk.batch.fields[row][column.at])
                    if found and column.at not in strict:
                        chunk.reject([row], "control_character", column, _name_of(found[0]))
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
    for number, spelling in enumerate(spellings):
        value = unicodedata.normalize("NFKC", spelling).strip(BLANKS)
        values.append(value)
        if value in known:
            if value != spelling:
                chunk.warn(_rows(codes == number), "normalised", column.title)
        elif not value:
            chunk.reject(_rows(codes == number), "missing_value", column)
        elif found := _CONTROL.search(value):
            chunk.reject(_rows(codes == number), "control_character", column, _name_of(found[0]))
        else:
            close = difflib.get_close_matches(value.casefold(), sorted(known), n=1, cutoff=0.7)
            chunk.reject(_rows(codes == number), f"unknown_{target}", column, "".join(close))
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
    for rows in (np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)):
        method, resource = str(methods[rows[0]]), str(resources[rows[0]])
        if method in catalogue.methods and method not in allowed:
            code = "method_holds_no_source" if sendable is None else "method_not_enabled"
            chunk.reject(rows.tolist(), code, method_column)
        if method == AUTO and resource != AUTO_RESOURCE:
            chunk.reject(rows.tolist(), "auto_needs_cpm", resource_column)
        if method not in allowed:
            continue
        if sendable is None and method in catalogue.holds_sources_after_application:
            chunk.warn(rows, "needs_application", method_column.title, method)
        if resource in catalogue.point_of_sale:
            chunk.warn(rows, "point_of_sale_resource", resource_column.title, resource)
        _check_needs(chunk, catalogue, method, resource, rows)


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
            reason = Reason("extra_required", f"extra.{need.key}" if column is None else column.title, "", detail)
            chunk.reasons.setdefault(row, []).append(reason)


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
            for row in _rows(values.str.len() > VALUE_BYTES // _UTF8_BYTES_A_CHAR):
                if len(str(values.iat[row]).encode()) > VALUE_BYTES:
                    chunk.reject([row], "value_too_many_bytes", column, str(VALUE_BYTES))
    for part, limit in (("extra", EXTRA_ENTRIES), ("metadata", METADATA_ENTRIES)):
        columns = [column.at for column in chunk.columns if column.part == part]
        if len(columns) > limit:
            entries = (chunk.frame[columns] != "").to_numpy().sum(axis=1)
            for row in np.flatnonzero(entries > limit).tolist():
                chunk.reasons.setdefault(row, []).append(
                    Reason("too_many_entries", part, str(int(entries[row])), str(limit))
                )


def _rows(mask: object) -> list[int]:
    """Return the positions where a boolean column is true."""
    import numpy as np

    return list(np.flatnonzero(np.asarray(mask, dtype=bool)).tolist())
