"""Fields as text and bytes in the dialect of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.csv_records.records import FileFormat, RawRecord


def format_fields(fields: Sequence[str], fmt: FileFormat) -> str:
    """Return fields as a record's text in the file's dialect, quoted only where that is needed.

    A character that the file's encoding lacks becomes its escape, so that the text can always be written.
    """
    return fmt.delimiter.join([_format_field(value, fmt) for value in fields])


def encode_fields(fields: Sequence[str], fmt: FileFormat) -> bytes:
    """Return fields as a record's bytes, without a line ending; see `format_fields`."""
    return fmt.encode(format_fields(fields, fmt))


def _format_field(value: str, fmt: FileFormat) -> str:
    if not value.isascii():
        value = fmt.encode(value).decode(fmt.plain_encoding)
    if fmt.delimiter in value or '"' in value or "\n" in value or "\r" in value:
        return '"' + value.replace('"', '""') + '"'
    return value


#: A spreadsheet takes a value that starts with one of these for a formula (or strips it).
_FORMULA_STARTS = tuple("=+-@＝＋－＠\t\r")
_GUARDED_STARTS = (*_FORMULA_STARTS, "'")


def guard(value: str) -> str:
    """Return a value that no spreadsheet takes for a formula; `unguard` returns it as it was."""
    return "'" + value if value.startswith(_GUARDED_STARTS) else value


def unguard(value: str) -> str:
    """Return what `guard` was given; a lone apostrophe that somebody typed stays."""
    return value[1:] if value.startswith("'") and value[1:].startswith(_GUARDED_STARTS) else value


def fit(raw: RawRecord, fmt: FileFormat, width: int) -> tuple[bytes, bytes]:
    """Return the first `width` fields of a record as they stand, filled up with empty ones, and what is left over.

    So that columns appended to a record with too few or too many fields stand under their titles.
    """
    if raw.width == width:
        return raw.raw, b""
    delimiter = fmt.encode(fmt.delimiter)
    if raw.width < width:
        return raw.raw + delimiter * (width - raw.width), b""
    encoding = fmt.bytewise.plain_encoding
    parts = _raw_fields(raw.raw.decode(encoding), fmt.delimiter)
    first, rest = parts[:width], parts[width:]
    return fmt.delimiter.join(first).encode(encoding), fmt.delimiter.join(rest).encode(encoding)


def _raw_fields(text: str, delimiter: str) -> list[str]:
    """Split a record's text at its delimiters, quotes left on."""
    if '"' not in text:
        return text.split(delimiter)
    pattern = re.compile(rf'(?:"(?:[^"]|"")*"?)?[^{delimiter}]*')
    parts, at = [], 0
    while True:
        found = pattern.match(text, at)
        end = found.end() if found else at
        parts.append(text[at:end])
        if end >= len(text):
            return parts
        at = end + 1
