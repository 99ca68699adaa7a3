"""`report.xlsx`: the run for people who work in spreadsheets; every cell is text.

=========  ============================================================================================
Summary    headline, reconciliation, what to do, the run
To do      each row that needs somebody, with what to do, the action that fixes most rows first
Unclear    rows that may or may not have a source, with the reference to look for
Results    every record with what became of it; more sheets beyond Excel's limit
=========  ============================================================================================

Summary and To do are known only after the last row: until then the rows of To do lie in a file, and in memory stands no
more than where each of them starts.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.exceptions import XlsxWriterException  # type: ignore[import-untyped]

from tasks import stop_texts
from tasks.models import RowState
from tasks.reason_texts import title
from tasks.reports.aggregates import Aggregates, TaskKey, key_of
from tasks.reports.contents import ReportContents
from tasks.reports.csv_reports import FileColumns
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Recommendations
from tasks.reports.report_data import FileWarning, ReportFacts
from tasks.reports.report_rows import JoinedRow
from tasks.reports.run_facts import run_facts, state_counts, warnings_in_words
from tasks.reports.text_sheet import MAX_ROWS, TextSheet

_FONT = "Arial"
_DARK, _OURS, _LINE = "#1F3A5F", "#0F6B5C", "#D5DBE3"
_SAMPLE = 300  # rows that decide on a column's width
_NARROWEST, _WIDEST = 8, 40
#: Columns of ours behind the file's: key of their title, width.
_RESULT_COLUMNS = {
    "state": 12,
    "source_id": 26,
    "source_status": 12,
    "code": 18,
    "column": 16,
    "message": 50,
    "to_do": 50,
    "attempts": 10,
    "record": 10,
    "line": 10,
    "reference": 30,
    "request_id": 30,
}
#: Columns of ours before the file's on the sheet To do.
_TO_DO_COLUMNS = {"reason": 30, "to_do": 44, "line": 9, "state": 12, "message": 44, "request_id": 30}
#: Columns of ours before the file's on the sheet Unclear.
_UNCLEAR_COLUMNS = {"line": 9, "message": 44, "to_do": 44, "reference": 30, "attempts": 10, "decided_by": 16}
_SUMMARY_WIDTHS = (40, 10, 62, 48, 32)
_LINE_POINTS = 15.0
_NOT_ASCII = re.compile("[^\x00-\x7f]")


class _Styles:
    """The numbers of the formats; a number is all that a row needs."""

    def __init__(self, book: xlsxwriter.Workbook) -> None:
        base = {"num_format": "@", "font_name": _FONT, "font_size": 10, "valign": "top"}
        self.text_format = book.add_format(base)
        self.text = _number(self.text_format)
        self.wrapped = _number(book.add_format({**base, "text_wrap": True}))
        self.strong = _number(book.add_format({**base, "bold": True}))
        self.right = _number(book.add_format({**base, "align": "right"}))
        self.indented = _number(book.add_format({**base, "align": "left", "indent": 1}))
        self.wrapped_indented = _number(book.add_format({**base, "text_wrap": True, "align": "left", "indent": 1}))
        self.strong_right = _number(book.add_format({**base, "bold": True, "align": "right"}))
        self.strong_indented = _number(book.add_format({**base, "bold": True, "align": "left", "indent": 1}))
        self.verdict = _number(book.add_format({**base, "bold": True, "font_size": 16, "font_color": _DARK}))
        self.section = _number(
            book.add_format({**base, "bold": True, "font_size": 12, "font_color": _DARK, "bottom": 1})
        )
        head = {**base, "bold": True, "font_color": "#FFFFFF", "border": 1, "border_color": _LINE}
        self.head = _number(book.add_format({**head, "bg_color": _DARK}))
        self.head_ours = _number(book.add_format({**head, "bg_color": _OURS}))


def _number(style: object) -> int:
    return int(style._get_xf_index())  # type: ignore[attr-defined]  # noqa: SLF001 - what a cell needs of a format


class _Table:
    """One kind of row with its header, on as many sheets as it takes."""

    def __init__(
        self,
        new_sheet: Callable[[int], TextSheet],
        heads: Sequence[str],
        head_styles: tuple[int, ...],
        styles: tuple[int, ...],
        wraps: Mapping[int, int],
        max_rows: int,
    ) -> None:
        self._new_sheet = new_sheet
        self._heads = heads
        self._head_styles = head_styles
        self._styles = styles
        self._wraps = wraps  # column -> width of those whose texts are wrapped
        self._max_rows = max_rows
        self.sheets: list[TextSheet] = []
        self._begin()

    def add(self, values: Sequence[str]) -> None:
        """Write one row."""
        self.add_cells(self.cells_of(values))

    def cells_of(self, values: Sequence[str]) -> str:
        """Return a row for `add_cells`."""
        lines = max((_lines_of(values[at], width) for at, width in self._wraps.items()), default=1)
        return self.sheets[0].cells_of(values, self._styles, lines * _LINE_POINTS if lines > 1 else 0)

    def add_cells(self, cells: str) -> None:
        """Write one row that `cells_of` made."""
        if self.sheets[-1].next_row >= self._max_rows:
            self._begin()
        self.sheets[-1].add_cells(cells)

    def _begin(self) -> None:
        self.sheets.append(self._new_sheet(len(self.sheets) + 1))
        self.sheets[-1].add_texts(self._heads, self._head_styles)


class WorkbookReport:
    """`report.xlsx` while it is written: `add` every record, then `finish`; `close` in any case."""

    def __init__(
        self, path: Path, workshop: Path, facts: ReportFacts, texts: Texts, *, max_rows: int = MAX_ROWS
    ) -> None:
        """Take `workshop`, a folder for temp files on the same disk; they hold the customers' data.

        A table that is longer than `max_rows`, its header included, goes on on another sheet.
        """
        self._max_rows = max_rows
        self._settled = facts.settled
        self._texts = texts
        self._columns = FileColumns(facts.file_format) if facts.file_format else None
        self._titles = self._columns.titles if self._columns else []
        self._widths = [_width_of(each) for each in self._titles]
        self._unsampled = _SAMPLE
        self._state_names = {state.value: texts(f"state_{state.value}") for state in RowState}
        self._book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(workshop)})
        self._book.use_zip64()
        self._styles = _Styles(self._book)
        self._waiting = _WaitingRows(workshop / "to-do.rows")
        self._summary = self._sheet("summary")
        self._to_do = self._table("to_do", _TO_DO_COLUMNS, ours_first=True)
        self._unclear = self._table("unclear", _UNCLEAR_COLUMNS, ours_first=True)
        self._results = self._table("results", _RESULT_COLUMNS, ours_first=False)

    def add(self, joined: JoinedRow) -> None:
        """Write one record."""
        row, said = joined.row, joined.said
        fields = self._fields(joined)
        code, column, message, action = said.cells
        state, line, attempts = self._state_names[row.state], str(row.line), str(row.attempts)
        outcome = (
            state,
            row.source_id,
            row.source_status,
            code,
            column,
            message,
            action,
            attempts,
            str(row.record),
            line,
        )
        self._results.add([*fields, *outcome, row.reference, row.request_id])
        if said.to_do:
            key = key_of(row, said.reasons[0])
            reason = title(key.code, self._texts.lang)
            words = (reason, action, line, state, message, row.request_id)
            self._waiting.add(key, self._to_do.cells_of([*words, *fields]))
        if row.state == RowState.UNCLEAR:
            who = self._texts("decided_by_you" if row.needs_person or self._settled else "decided_by_look_up")
            self._unclear.add([line, message, action, row.reference, attempts, who, *fields])

    def finish(self, contents: ReportContents) -> None:
        """Write the sheets To do and Summary, and the file itself."""
        for cells in self._waiting.in_order([each.task.key for each in contents.advice]):
            self._to_do.add_cells(cells)
        self._write_summary(contents)
        self._summary.finish(_SUMMARY_WIDTHS, self._styles.text_format, table=False)
        file = [min(max(width + 2, _NARROWEST), _WIDEST) for width in self._widths]
        for table, widths in (
            (self._to_do, [*_TO_DO_COLUMNS.values(), *file]),
            (self._unclear, [*_UNCLEAR_COLUMNS.values(), *file]),
            (self._results, [*file, *_RESULT_COLUMNS.values()]),
        ):
            for sheet in table.sheets:
                sheet.finish(widths, self._styles.text_format)
        self._order_sheets()
        try:
            self._book.close()
        except XlsxWriterException as error:
            raise OSError(f"report.xlsx could not be written: {error}") from error

    def close(self) -> None:
        """Let go of the temp files, also when `finish` was not reached."""
        self._waiting.close()
        for sheet in self._book.worksheets():
            sheet.row_data_fh.close()

    def _fields(self, joined: JoinedRow) -> list[str]:
        if self._columns is None:
            return []
        fields = self._columns.parse(self._columns.split(joined.raw)[0])
        if self._unsampled:
            self._unsampled -= 1
            self._widths = [max(width, _width_of(value)) for width, value in zip(self._widths, fields, strict=True)]
        return fields

    def _sheet(self, name: str, number: int = 1) -> TextSheet:
        words = self._texts(f"sheet_{name}")
        sheet: TextSheet = self._book.add_worksheet(words if number == 1 else f"{words} {number}", TextSheet)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        return sheet

    def _order_sheets(self) -> None:
        """Put the parts of a table that takes several sheets side by side; they were made when they were needed."""
        ordered = [self._summary, *self._to_do.sheets, *self._unclear.sheets, *self._results.sheets]
        self._book.worksheets_objs[:] = ordered
        for at, sheet in enumerate(ordered):
            sheet.index = at

    def _table(self, name: str, services: Mapping[str, int], *, ours_first: bool) -> _Table:
        styles, words = self._styles, [self._texts(f"column_{key}") for key in services]
        head_ours, head_file = (styles.head_ours,) * len(words), (styles.head,) * len(self._titles)
        plain = (styles.text,) * len(self._titles)
        if ours_first:
            wraps = {at: width for at, width in enumerate(services.values()) if width >= _WIDEST}
            wrapped = tuple(styles.wrapped if at in wraps else styles.text for at in range(len(words)))
            layout = [*words, *self._titles], head_ours + head_file, wrapped + plain, wraps
        else:
            layout = [*self._titles, *words], head_file + head_ours, plain + (styles.text,) * len(words), {}
        return _Table(lambda number: self._sheet(name, number), *layout, self._max_rows)

    def _write_summary(self, contents: ReportContents) -> None:
        sheet, texts, styles = self._summary, self._texts, self._styles
        sheet.add_texts([contents.verdict.text], styles.verdict, 2 * _LINE_POINTS)
        why = stop_texts.sentence(contents.facts.batch.stop, texts.lang)
        sheet.add_texts([" ".join(filter(None, (contents.verdict.more, why)))], styles.text)
        sheet.skip_row()
        self._write_books(contents.aggregates)
        self._write_advice(contents.advice)
        sheet.add_texts([texts("the_run")], styles.section)
        for label, value in run_facts(contents):
            sheet.add_texts([label, value], styles.text)
        self._write_warnings(contents.facts.warnings)

    def _write_books(self, aggregates: Aggregates) -> None:
        sheet, texts, styles = self._summary, self._texts, self._styles
        sheet.add_texts([texts("books")], styles.section)
        for _, name, count in state_counts(aggregates, texts):
            share = texts.share(count, aggregates.counts.records)
            sheet.add_texts([name, texts.number(count), share], (styles.text, styles.right, styles.indented))
        total = [texts("records"), texts.number(aggregates.counts.records), texts("balanced")]
        sheet.add_texts(total, (styles.strong, styles.right, styles.indented))
        sheet.skip_row()

    def _write_advice(self, advice: list[Recommendations]) -> None:
        if not advice:
            return
        sheet, texts, styles = self._summary, self._texts, self._styles
        sheet.add_texts([texts("what_to_do")], styles.section)
        self._write_list(
            ("column_reason", "column_rows", "column_to_do", "column_command", "column_lines"),
            [
                [each.title, texts.number(each.task.rows), each.action, each.command, texts.lines(each.task)]
                for each in advice
            ],
        )

    def _write_warnings(self, warnings: Sequence[FileWarning]) -> None:
        if not warnings:
            return
        self._summary.skip_row()
        self._summary.add_texts([self._texts("warnings")], self._styles.section)
        self._write_list(
            ("column_reason", "column_rows", "column_message", "column_to_do", "column_first_line"),
            warnings_in_words(warnings, self._texts),
        )

    def _write_list(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write lines of a table whose second column is a number of rows."""
        sheet, styles = self._summary, self._styles
        layout = (styles.wrapped, styles.right, *[styles.wrapped_indented] * (len(heads) - 2))
        sheet.add_texts(
            [self._texts(key) for key in heads],
            (styles.strong, styles.strong_right, *[styles.strong_indented] * (len(heads) - 2)),
        )
        for row in rows:
            lines = max(map(_lines_of, row, _SUMMARY_WIDTHS))
            sheet.add_texts(row, layout, lines * _LINE_POINTS)
        sheet.skip_row()


class _WaitingRows:
    """Rows as text in a file, to be read in another order."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._starts: dict[TaskKey, array[int]] = {}
        self._end = 0

    def add(self, key: TaskKey, cells: str) -> None:
        """Keep one row."""
        self._starts.setdefault(key, array("Q")).append(self._end)
        self._end += self._file.write(cells.encode() + b"\n")

    def in_order(self, keys: Sequence[TaskKey]) -> Iterator[str]:
        """Yield all rows, those of the first key first."""
        for key in keys:
            for start in self._starts.get(key, ()):
                self._file.seek(start)
                yield self._file.readline()[:-1].decode()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _width_of(text: str) -> int:
    """Return how wide the first line of a text is, counting a full-width letter twice."""
    return _columns_of(text.partition("\n")[0][: 2 * _WIDEST])


def _lines_of(text: str, width: int) -> int:
    """Return how many lines a text takes in a column; rather one too many, words are not broken."""
    return sum(1 + (_columns_of(line) + 1) // width for line in text.split("\n"))


@lru_cache(maxsize=4096)
def _columns_of(text: str) -> int:
    if text.isascii():
        return len(text)
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in _NOT_ASCII.findall(text))
