"""`results.csv` and `failures.csv`: every record as it came, then what became of it, in the file's own dialect.

The first columns are the file's own, byte for byte; ours start with `onboarding_` and stand behind them. Columns of an
earlier report (the file is a corrected `failures.csv`) give way to the new ones. Lines end as the header's line ends;
blank lines are left out.

A record with too few or too many fields is straightened, so that our columns stand under their titles: it is filled up
with empty fields, or what is too much moves into `onboarding_straightened`. That mark also shows intake, when the file
is dropped again, that nobody has fixed the record yet (`csv_records.still_broken`). A record with misplaced quotes
stays as it stands.

The exact files are for machines: a spreadsheet that opens them may execute a cell such as `=cmd|...`. The excel-safe
copies quote every cell and put an apostrophe before such ones; intake reads them back unchanged (`csv_records.guard`).
"""

from __future__ import annotations

import contextlib
import csv
import re
import unicodedata
from itertools import groupby
from pathlib import Path
from typing import Protocol

from tasks.csv_records import (
    MARK_COLUMN,
    FileFormat,
    RawRecord,
    encode_fields,
    fit,
    format_fields,
    guard,
    mark,
    still_broken,
    unguard,
)
from tasks.models import ReportRow, counted_as
from tasks.reports.report_rows import JoinedRow
from tasks.reports.row_texts import RowTexts

#: What we add to each record, in this order.
OWN_COLUMNS = (
    "onboarding_state",
    "onboarding_source_id",
    "onboarding_source_status",
    "onboarding_code",
    "onboarding_column",
    "onboarding_message",
    "onboarding_hint",
    "onboarding_attempts",
    "onboarding_record",
    "onboarding_line",
    "onboarding_ref",
    "onboarding_batch",
    "onboarding_request_id",
    MARK_COLUMN,
)
#: Stands in the header of an excel-safe copy and of no other file; its cells are empty.
EXCEL_SAFE_COLUMN = "onboarding_excel_safe"
#: Titles that start so are ours and give way.
OWN_PREFIX = "onboarding_"
_WRONG_WIDTH = frozenset({"too_few_fields", "too_many_fields"})
_WRONG_QUOTES = frozenset({"malformed_quotes"})
_LINE = re.compile(rb"[^\r\n]*(?:\r\n|\n|\r|$)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_MOST_HEADER_BYTES = 8 * 1024 * 1024
_BUFFER_BYTES = 1024 * 1024
_KEPT = 1_000  # formatted explanations in memory


class FileColumns:
    """The columns of a file without those of an earlier report."""

    def __init__(self, fmt: FileFormat) -> None:
        self.fmt = fmt
        #: The file is an excel-safe copy of ours: its cells carry apostrophes.
        self.guarded = any(title.strip().casefold() == EXCEL_SAFE_COLUMN for title in fmt.header)
        titles = [title for title in fmt.header if not _is_own(title)]
        self.titles = [unguard(title) for title in titles] if self.guarded else titles
        self._width = len(fmt.header)
        self._delimiter = fmt.encode(fmt.delimiter)
        self._runs = [(services, len(list(run))) for services, run in groupby(map(_is_own, fmt.header))]
        marks = (at for at, title in enumerate(fmt.header) if title.strip().casefold() == MARK_COLUMN)
        self._mark_at = next(marks, None)

    def split(self, raw: RawRecord) -> tuple[bytes, bytes]:
        """Return a record's own fields as they stand, filled up or cut to the header, and what was cut off."""
        body, surplus = fit(raw, self.fmt, self._width)
        if len(self._runs) == 1:
            return body, surplus
        kept = []
        left = self._width
        for services, length in self._runs:
            run, body = fit(RawRecord(0, 0, body, left), self.fmt, length)
            left -= length
            if not services:
                kept.append(run)
        return self._delimiter.join(kept), surplus

    def parse(self, kept: bytes) -> list[str]:
        """Return the values of what `split` kept, leniently where quotes are misplaced, without our apostrophes."""
        fields = self._parse(kept)
        return [unguard(value) for value in fields] if self.guarded else fields

    def mark(self, joined: JoinedRow, kept: bytes, surplus: bytes, codes: frozenset[str] = _WRONG_WIDTH) -> str:
        """Return what `onboarding_straightened` says about a record that is broken in one of these ways."""
        raw = joined.raw
        if self._mark_at is not None and raw.width == self._width:
            earlier = self._parse(raw.raw)[self._mark_at]
            if earlier and still_broken(earlier, self.parse(kept)):
                return earlier  # straightened in an earlier report, not fixed since
        for reason in joined.said.reasons:
            if reason.code not in codes:
                continue
            cut = surplus.decode(self.fmt.plain_encoding)
            return mark(reason, raw.width, self._width, self.parse(kept), cut)
        return ""

    def header(self, path: Path) -> tuple[bytes, bytes]:
        """Return what stands before the header (BOM and `sep=` line) and the file's own titles, as they stand."""
        sep_line, titles = _first_lines(path, self.fmt)
        return self.fmt.bom + sep_line, self.split(RawRecord(0, 0, titles, self._width))[0]

    def _parse(self, raw: bytes) -> list[str]:
        text = raw.decode(self.fmt.plain_encoding)
        return next(csv.reader([text], delimiter=self.fmt.delimiter), [])


def _is_own(title: str) -> bool:
    return unicodedata.normalize("NFKC", title).strip().casefold().startswith(OWN_PREFIX)


def _first_lines(path: Path, fmt: FileFormat) -> tuple[bytes, bytes]:
    """Return the `sep=` line with its end, if there is one, and the header without."""
    if fmt.encode("a") != b"a":  # UTF-16, where encoding gives the same bytes again
        sep = f"sep={fmt.delimiter}{fmt.newline}" if fmt.has_sep_line else ""
        return fmt.encode(sep), fmt.encode(fmt.header_text)
    with path.open("rb") as file:
        lines = _LINE.findall(file.read(_MOST_HEADER_BYTES).removeprefix(fmt.bom))
    at = fmt.header_line - 1
    end = fmt.header_line + len(_LINE_END.findall(fmt.header_text))
    before = [line for line in lines[:at] if line.strip()] if fmt.has_sep_line else []
    return b"".join(before), b"".join(lines[at:end]).rstrip(b"\r\n")


class Lines(Protocol):
    """How records are written."""

    def header(self, path: Path) -> bytes:
        """Return the first line (and a `sep=` line before it)."""

    def line(self, joined: JoinedRow) -> bytes:
        """Return one record with its line ending."""


class ExactLines:
    """Records as they came, with our columns behind them."""

    def __init__(self, columns: FileColumns, batch: str) -> None:
        fmt = columns.fmt
        self._columns = columns
        self._fmt = fmt
        self._batch = batch
        self._end = fmt.newline if not columns.guarded else fmt.delimiter + fmt.newline
        self._encoding = fmt.plain_encoding
        self._needs_care = re.compile(rf'[\r\n"{fmt.delimiter}]|[^\x00-\x7f]').search
        self._formatted: dict[tuple[str, ...], str] = {}

    def header(self, path: Path) -> bytes:
        """Return the first line (and a `sep=` line before it)."""
        start, titles = self._columns.header(path)
        own = (*OWN_COLUMNS, EXCEL_SAFE_COLUMN) if self._columns.guarded else OWN_COLUMNS
        return start + titles + encode_fields(("", *own), self._fmt) + self._fmt.encode(self._fmt.newline)

    def line(self, joined: JoinedRow) -> bytes:
        """Return one record with its line ending."""
        raw, row, said = joined
        kept, surplus = self._columns.split(raw)
        state, source, status, ref, request = (
            counted_as(row.state),
            row.source_id,
            row.source_status,
            row.reference,
            row.request_id,
        )
        if self._needs_care(source + status + ref + request):
            source, status, ref, request = (
                format_fields((each,), self._fmt) for each in (source, status, ref, request)
            )
        words = self._words(said)
        straightened = format_fields((self._columns.mark(joined, kept, surplus),), self._fmt) if said.reasons else ""
        d = self._fmt.delimiter
        text = (
            f"{d}{state}{d}{source}{d}{status}{d}{words}{d}{row.attempts}{d}{row.record}{d}{row.line}{d}{ref}"
            f"{d}{self._batch}{d}{request}{d}{straightened}{self._end}"
        )
        return kept + text.encode(self._encoding, "backslashreplace")

    def _words(self, said: RowTexts) -> str:
        words = self._formatted.get(said.cells)
        if words is None:
            if len(self._formatted) >= _KEPT:
                self._formatted.clear()
            words = self._formatted[said.cells] = format_fields(_writable(said, self._fmt), self._fmt)
        return words


class SafeLines:
    """Records that a spreadsheet may open: every cell quoted, none taken for a formula."""

    def __init__(self, columns: FileColumns, batch: str) -> None:
        self._columns = columns
        self._fmt = columns.fmt
        self._batch = batch

    def header(self, path: Path) -> bytes:
        """Return the first line (and a `sep=` line before it)."""
        start, _ = self._columns.header(path)
        return start + self._encode([*self._columns.titles, *OWN_COLUMNS, EXCEL_SAFE_COLUMN])

    def line(self, joined: JoinedRow) -> bytes:
        """Return one record with its line ending."""
        kept, surplus = self._columns.split(joined.raw)
        broken = _WRONG_WIDTH | _WRONG_QUOTES  # quoting every cell straightens misplaced quotes as well
        straightened = self._columns.mark(joined, kept, surplus, broken) if joined.said.reasons else ""
        own = own_cells(joined.row, _writable(joined.said, self._fmt), self._batch, straightened)
        return self._encode([*self._columns.parse(kept), *own, ""])

    def _encode(self, values: list[str]) -> bytes:
        between = f'"{self._fmt.delimiter}"'
        cells = between.join([guard(value).replace('"', '""') if value else "" for value in values])
        return self._fmt.encode(f'"{cells}"{self._fmt.newline}')


class CsvReports:
    """`results.csv` and `failures.csv` while they are written."""

    def __init__(self, results: Path, failures: Path, lines: Lines, original: Path) -> None:
        self._lines = lines
        self._files = contextlib.ExitStack()
        self._results = self._files.enter_context(results.open("wb", buffering=_BUFFER_BYTES))
        self._failures = self._files.enter_context(failures.open("wb", buffering=_BUFFER_BYTES))
        header = lines.header(original)
        self._results.write(header)
        self._failures.write(header)

    def add(self, joined: JoinedRow) -> None:
        """Write one record."""
        line = self._lines.line(joined)
        self._results.write(line)
        if joined.said.failure:
            self._failures.write(line)

    def close(self) -> None:
        """Write what is left in the buffers."""
        self._files.close()


def _writable(said: RowTexts, fmt: FileFormat) -> tuple[str, str, str, str]:
    """Return code, column, message and hint, in English if the file's encoding lacks other letters."""
    try:
        "".join(said.cells).encode(fmt.plain_encoding)
    except UnicodeEncodeError:
        return said.cells_in("en")
    return said.cells


def own_cells(row: ReportRow, cells: tuple[str, ...], batch: str, straightened: str) -> tuple[str, ...]:
    """Return our cells of a record, in the order of `OWN_COLUMNS`."""
    return (
        counted_as(row.state),
        row.source_id,
        row.source_status,
        *cells,
        str(row.attempts),
        str(row.record),
        str(row.line),
        row.reference,
        batch,
        row.request_id,
        straightened,
    )
