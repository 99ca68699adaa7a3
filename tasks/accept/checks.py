"""Whether the records of a chunk can be sent: vectorised checks over a text DataFrame, all reasons of a row listed.

Columns with few different values (payment method, resource) are checked once per value, long ones by their lengths,
and characters by one search over the raw text of the whole chunk; single rows are looked at only where something is
wrong.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from tasks.accept.blanks import trim
from tasks.accept.file_warnings import shown
from tasks.accept.footers import is_footer
from tasks.accept.key_checks import check_keys
from tasks.accept.record_chunk import Chunk, positions
from tasks.elepay.catalogue import AUTO, AUTO_RESOURCE, Catalogue
from tasks.models import Reason

if TYPE_CHECKING:
    import numpy as np

#: docs/reference/elepay-api.md §2.2, §2.3, §4
DESCRIPTION_CHARS = 255
VALUE_BYTES = 255
EXTRA_ENTRIES = 20
METADATA_ENTRIES = 19  # elepay takes 20; one is our reference
#: Columns that are sent as they are written. The keys and enum columns have checks of their own; no other is sent.
_TEXTS = ("description", "extra", "metadata")
#: Of so many different unknown values of a column, in one chunk, the value that is probably meant is looked for.
_MOST_GUESSES = 20
_LONGEST_GUESS = 100  # characters; no value of elepay's is half as long

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # line ends and tabs may stand in a quoted text
_UTF8_BYTES_A_CHAR = 4


def check(
    chunk: Chunk,
    catalogue: Catalogue,
    sendable: frozenset[str] | None,
    numbers: Mapping[str, str],
    *,
    send_damaged: bool = False,
) -> None:
    """Fill `chunk.reasons` and its warnings; leaves the keys trimmed and the enum columns normalised in its frame.

    1. records without any value, and totals; 2. keys; 3. enum columns and their pairs; 4. characters; 5. lengths and
    numbers. What is wrong with the keys is found first, so that it is always among the reasons that are kept.
    """
    _check_empty(chunk)
    _check_footers(chunk)
    check_keys(chunk, numbers, send_damaged=send_damaged)
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
    for row, value in enumerate(chunk.frame[column.at].tolist()):
        if trim(value) or row in chunk.broken:
            continue
        if not trim("".join(chunk.batch.fields[row])):
            _set_aside(chunk, row, Reason("empty_record"))


def _check_footers(chunk: Chunk) -> None:
    """Give a line of totals one reason, instead of one for each required column."""
    enums = [column.at for target in ("payment_method", "resource") if (column := chunk.column(target))]
    if not all("" in chunk.frame[at].tolist() for at in enums):
        return
    for row in positions((chunk.frame[enums] == "").all(axis=1)):
        fields = chunk.batch.fields[row]
        if row not in chunk.broken and is_footer(fields):
            _set_aside(chunk, row, Reason("footer", value=shown(next(filter(None, fields)))))


def _set_aside(chunk: Chunk, row: int, reason: Reason) -> None:
    """Give a record that is none this one reason."""
    chunk.broken[row] = reason
    chunk.reasons[row] = [reason]


def _check_characters(chunk: Chunk) -> None:
    text = "".join(chunk.batch.texts)
    if _CONTROL_IN_TEXT.search(text):
        texts = [column for column in chunk.columns if column.part in _TEXTS]
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


def _name_of(char: str) -> str:
    return f"U+{ord(char):04X}"


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
        value = trim(unicodedata.normalize("NFKC", spelling))
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
    """Cross-field rules (docs/reference/elepay-api.md §3.3, §3.4, §4), once per pair of method and resource."""
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
        if column.part not in _TEXTS:
            continue
        longest = max(map(len, values.tolist()))
        if column.part == "description" and longest > DESCRIPTION_CHARS:
            chunk.reject(
                positions(values.str.len() > DESCRIPTION_CHARS), "value_too_long", column, str(DESCRIPTION_CHARS)
            )
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
