"""Single records of a large file, by the physical line on which each starts, without reading all that stands before.

Where every 4,096th line starts is found once a file, at the speed of counting bytes, and kept.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Collection
from functools import lru_cache
from itertools import chain
from pathlib import Path

from tasks.csv_records.reading import read_records
from tasks.csv_records.records import MAX_RECORD_CHARS, FileFormat

_EVERY_LINES = 4_096
_BLOCK_BYTES = 1 << 20
_FILES_KEPT = 32


def records_at(path: Path, fmt: FileFormat, lines: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Return line -> fields of the records that start there; malformed quotes are read leniently.

    Raises OSError; UnusableFile if the file has to be read from its beginning and has changed.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_CHARS))
    starts = None if fmt.bytewise is fmt else _line_starts(path, path.stat().st_size)
    if starts is None:
        return _read_through(path, fmt, lines)
    return {line: _record_at(path, fmt, starts, line) for line in lines}


def _read_through(path: Path, fmt: FileFormat, lines: Collection[int]) -> dict[int, tuple[str, ...]]:
    wanted, found = set(lines), {}
    for record in read_records(path, fmt):
        if record.line in wanted:
            found[record.line] = tuple(record.fields)
            if len(found) == len(wanted):
                break
    return found


def _record_at(path: Path, fmt: FileFormat, starts: array[int], line: int) -> tuple[str, ...]:
    with path.open("rb") as file:
        file.seek(starts[min((line - 1) // _EVERY_LINES, len(starts) - 1)])
        for _ in range((line - 1) % _EVERY_LINES):
            file.readline()
        first = file.readline().decode(fmt.plain_encoding, "replace")
        following = (raw.decode(fmt.plain_encoding, "replace") for raw in file)
        try:
            return tuple(next(csv.reader(chain([first], following), delimiter=fmt.delimiter, strict=True)))
        except (csv.Error, StopIteration):
            return tuple(next(csv.reader([first.rstrip("\r\n")], delimiter=fmt.delimiter), ()))


@lru_cache(maxsize=_FILES_KEPT)
def _line_starts(path: Path, _size: int) -> array[int] | None:
    r"""Return where every 4,096th line starts; None if some line ends with a bare `\r`, as none but old Macs write."""
    starts, lines, before = array("Q", [0]), 0, 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if block.endswith(b"\r"):
                block += file.read(1)
            if block.count(b"\r") != block.count(b"\r\n"):
                return None
            ends = block.count(b"\n")
            at = -1
            seen = lines
            while len(starts) * _EVERY_LINES <= lines + ends:
                while seen < len(starts) * _EVERY_LINES:
                    at = block.index(b"\n", at + 1)
                    seen += 1
                starts.append(before + at + 1)
            lines += ends
            before += len(block)
    return starts
