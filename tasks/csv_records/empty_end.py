"""The empty records at the end of a file, which spreadsheets write where rows were cleared, by the ten thousand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tasks.csv_records.reading import END_OF_FILE_MARK, blocks, end_of_last_line, is_blank, lines_of
from tasks.csv_records.records import BLANKS, UTF16, FileFormat

#: So much of the end of a file is looked at first; almost every file ends with a record that is not empty.
_LOOKED_AT_BYTES = 4096


def empty_end(path: Path, fmt: FileFormat) -> tuple[int, int]:
    """Return the physical line from which on a file has empty records only, and how many; (0, 0) if it has none there.

    A record is empty if each of its fields is, or holds `BLANKS` only, in quotes or not. Such a line holds an even
    number of quotes, so it is a record of its own and no part of a quoted value: the file would end inside of a quote,
    which `read_records` refuses. The same records are found in the text and in the bytes of a file; in an encoding
    with escape sequences they are not looked for.
    """
    bytewise = fmt.bytewise
    if bytewise is fmt and fmt.encoding not in UTF16.values():
        return 0, 0
    is_empty = _matcher(fmt)
    if not _may_end_empty(path, fmt, is_empty):
        return 0, 0
    line, begins, records, carry = 1, 1, 0, ""
    for block in blocks(path, bytewise):
        text = carry + block
        end = end_of_last_line(text)
        lines, carry = lines_of(text[:end]), text[end:]
        kept = _before_empty(lines, is_empty)
        begins, records = (line + kept, 0) if kept else (begins, records)
        records += _records(lines[kept:], fmt.delimiter)
        line += len(lines)
    lines = lines_of(carry.removesuffix(END_OF_FILE_MARK))
    kept = _before_empty(lines, is_empty)
    begins, records = (line + kept, 0) if kept else (begins, records)
    records += _records(lines[kept:], fmt.delimiter)
    return (begins, records) if records else (0, 0)


def _matcher(fmt: FileFormat) -> Callable[[str], object]:
    """Return what matches an empty line in the text of `fmt.bytewise`."""
    blanks = [blank.encode(fmt.plain_encoding, "ignore").decode(fmt.bytewise.plain_encoding) for blank in BLANKS]
    quoted = "|".join(map(re.escape, filter(None, blanks)))
    bare = "|".join(re.escape(blank) for blank in blanks if blank and blank != fmt.delimiter)
    field = rf'(?:(?:{bare})*|"(?:{quoted})*")'
    return re.compile(rf"{field}(?:{fmt.delimiter}{field})*[\r\n]*").fullmatch


def _may_end_empty(path: Path, fmt: FileFormat, is_empty: Callable[[str], object]) -> bool:
    """Tell whether the last line that is a record is an empty one."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _LOOKED_AT_BYTES, 0) // 2 * 2)
        text = file.read().decode(fmt.bytewise.plain_encoding, "replace")
    lines = text.removesuffix(END_OF_FILE_MARK).splitlines()
    last = next((line for line in reversed(lines) if _is_record(line, fmt.delimiter)), "")
    return len(lines) < 2 or bool(is_empty(last))


def _before_empty(lines: list[str], is_empty: Callable[[str], object]) -> int:
    """Return how many lines stand before the empty ones at the end of some."""
    return next((at for at in range(len(lines), 0, -1) if not is_empty(lines[at - 1])), 0)


def _records(lines: list[str], delimiter: str) -> int:
    return sum(_is_record(line, delimiter) for line in lines)


def _is_record(line: str, delimiter: str) -> bool:
    return delimiter in line or not is_blank(line)
