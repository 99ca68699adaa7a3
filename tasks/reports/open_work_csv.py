"""Open rows of several batches as files that can be corrected and run, in the dialects of the files they came in."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tasks.csv_records import FileFormat, read_raw
from tasks.files.atomic_write import atomic_write
from tasks.models import ReportRow
from tasks.reports.csv_reports import ExactLines, FileColumns
from tasks.reports.report_data import ReportFacts
from tasks.reports.report_rows import JoinedRow
from tasks.reports.row_texts import RowTextWriter


class OpenWorkFiles:
    """Writes rows batch by batch; batches whose files have the same columns and dialect share a file.

    The first file is the one that was named, further ones are numbered behind its name. They are for their owner only,
    and are there at the end of the block: after an error none is.
    """

    def __init__(self, path: Path, lang: str) -> None:
        self._path, self._lang = path, lang
        self._files: dict[tuple[object, ...], tuple[Path, BinaryIO]] = {}
        self.written: dict[Path, int] = {}  #: file -> rows

    def __enter__(self) -> OpenWorkFiles:
        self._stack = ExitStack()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def add(self, facts: ReportFacts, rows: Mapping[int, ReportRow]) -> None:
        """Write some rows of a batch, by their records. Raises OSError, FileExistsError among them."""
        assert facts.file_path is not None
        assert facts.file_format is not None
        lines = ExactLines(FileColumns(facts.file_format), str(facts.batch.id))
        path, file = self._file_of(facts.file_path, facts.file_format, lines)
        explain = RowTextWriter(facts, self._lang).explain
        for raw in read_raw(facts.file_path, facts.file_format):
            if row := rows.get(raw.record):
                file.write(lines.line(JoinedRow(raw, row, explain(row))))
        self.written[path] += len(rows)

    def _file_of(self, original: Path, fmt: FileFormat, lines: ExactLines) -> tuple[Path, BinaryIO]:
        key = (fmt.header_text, fmt.delimiter, fmt.encoding, fmt.newline, fmt.bom, fmt.has_sep_line)
        if key not in self._files:
            number = len(self._files) + 1
            path = self._path if number == 1 else self._path.with_stem(f"{self._path.stem}-{number}")
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            file = self._stack.enter_context(atomic_write(path))
            file.write(lines.header(original))
            self._files[key] = path, file
            self.written[path] = 0
        return self._files[key]
