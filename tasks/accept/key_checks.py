"""What may stand in the keys: customer id and reference."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tasks.accept.blanks import is_blank, is_control, is_invisible, is_trimmed, trim
from tasks.accept.columns import Column
from tasks.accept.damage import damaged
from tasks.accept.record_chunk import Chunk, positions

#: docs/reference/elepay-api.md §2.2, §4
CUSTOMER_ID_CHARS = 32
REFERENCE_CHARS = 255
#: May stand inside a reference, which a person may have written; no customer id has a blank.
_BLANKS_OF_TEXT = " \u3000"
_PLAIN = re.compile("[\x21-\x7e]*")


def check_keys(chunk: Chunk, numbers: Mapping[str, str], *, send_damaged: bool) -> None:
    """Trim the keys in the frame and reject what cannot be one; `numbers` is `OpenedFile.numbers`."""
    for target, limit in (("customer_id", CUSTOMER_ID_CHARS), ("reference", REFERENCE_CHARS)):
        column = chunk.column(target)
        if column is None:
            continue
        values, is_plain = _trimmed(chunk, column)
        if target == "customer_id":
            for wrong, code in (("", "missing_value"), (".", "bad_customer_id"), ("..", "bad_customer_id")):
                if wrong in values:
                    chunk.reject(positions(chunk.frame[column.at] == wrong), code, column)
        if max(map(len, values)) > limit:
            chunk.reject(positions(chunk.frame[column.at].str.len() > limit), "value_too_long", column, str(limit))
        if not is_plain:
            _check_characters(chunk, column, values)
        if rows := damaged(values, numbers.get(target, "")):
            _refuse_damaged(chunk, column, rows, send=send_damaged)


def _trimmed(chunk: Chunk, column: Column) -> tuple[list[str], bool]:
    """Trim a key column in the frame; return its values, and whether all is visible ASCII."""
    values: list[str] = chunk.frame[column.at].tolist()
    text = "".join(values)
    if _PLAIN.fullmatch(text):
        return values, True
    if edges := set(filter(is_trimmed, set(text))):
        trimmed = [trim(each) if each and (each[0] in edges or each[-1] in edges) else each for each in values]
        rows = [at for at, (before, after) in enumerate(zip(values, trimmed, strict=True)) if before != after]
        if rows:
            chunk.warn(rows, "trimmed", column.title)
            chunk.frame[column.at] = values = trimmed
    return values, False


def _check_characters(chunk: Chunk, column: Column, values: list[str]) -> None:
    is_id = column.target == "customer_id"
    allowed = "" if is_id else _BLANKS_OF_TEXT
    odd = {char: code for char in set("".join(values)) if (code := _why_odd(char)) and char not in allowed}
    if not odd and not is_id:
        return
    unusual = []
    for row, value in enumerate(values):
        if odd and (found := next((char for char in value if char in odd), "")):
            chunk.reject([row], odd[found], column, f"U+{ord(found):04X}")
        elif not value.isascii():
            unusual.append(row)
    if is_id and unusual:
        chunk.warn(unusual, "unusual_customer_id", column.title)


def _why_odd(char: str) -> str:
    """Return the reason for which a character must not be inside a key, or ""."""
    if is_control(char):
        return "control_character"
    if is_invisible(char):
        return "invisible_character"
    return "blank_inside" if is_blank(char) else ""


def _refuse_damaged(chunk: Chunk, column: Column, rows: list[int], *, send: bool) -> None:
    if send:
        chunk.warn(rows, "scientific_notation", column.title)
    else:
        chunk.reject(rows, "damaged_key", column)
