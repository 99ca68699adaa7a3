"""`report.xlsx`: the run for people who work in spreadsheets; every cell is text.

=========  ============================================================================================
Summary    headline, reconciliation, what to do, what goes on by itself, the run
To do      each row that needs somebody, with what to do, by kind of work
Unclear    rows that may or may not have a source, with the reference to look for
Changed    rows that are known with other content
Results    every record with what became of it; more sheets beyond Excel's limit
=========  ============================================================================================

Our columns come first, so that paper and narrow screens have them; the file's own follow. Where customers are masked
the file's own are left out.

Summary and To do are known only after the last row: until then the rows of To do lie in a file, and in memory stands no
more than where each of them starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.exceptions import XlsxWriterException  # type: ignore[import-untyped]

from tasks.models import RowState
from tasks.reason_texts import title
from tasks.reports.aggregates import key_of
from tasks.reports.contents import ReportContents
from tasks.reports.csv_reports import FileColumns
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import by_kind
from tasks.reports.report_data import ReportFacts
from tasks.reports.report_rows import JoinedRow
from tasks.reports.row_texts import BETWEEN
from tasks.reports.text_sheet import MAX_ROWS, TextSheet
from tasks.reports.work_kinds import kind_of
from tasks.reports.xlsx_summary import SummarySheet, of_report
from tasks.reports.xlsx_tables import NARROWEST, WIDEST, Styles, Table, WaitingRows, columns_of, width_of

_SAMPLE = 300  # rows that decide on a column's width
#: Columns of ours on each sheet: key of their title, width. The first ones are printed (`TextSheet.finish`).
_RESULT_COLUMNS = {
    "line": 8,
    "customer": 28,
    "state": 14,
    "source_id": 28,
    "code": 20,
    "message": 46,
    "to_do": 46,
    "method": 15,
    "source_status": 15,
    "column": 16,
    "attempts": 10,
    "record": 10,
    "reference": 30,
    "request_id": 30,
}
_TO_DO_COLUMNS = {
    "line": 8,
    "customer": 28,
    "kind": 16,
    "reason": 24,
    "message": 42,
    "to_do": 46,
    "method": 15,
    "state": 14,
    "reference": 30,
    "request_id": 30,
}
_UNCLEAR_COLUMNS = {
    "line": 8,
    "customer": 28,
    "reference": 28,
    "message": 40,
    "to_do": 46,
    "decided_by": 16,
    "method": 15,
    "attempts": 10,
}
_CHANGED_COLUMNS = {
    "line": 8,
    "customer": 28,
    "method": 15,
    "message": 50,
    "to_do": 50,
    "source_id": 28,
    "reference": 30,
}
_FROZEN_COLUMNS = 2  # line and customer


class WorkbookReport:
    """`report.xlsx` while it is written: `add` every record, then `finish`; `close` in any case."""

    def __init__(
        self, path: Path, workshop: Path, facts: ReportFacts, texts: Texts, *, max_rows: int = MAX_ROWS
    ) -> None:
        """Take `workshop`, a folder for temp files on the same disk; they hold the customers' data.

        A table that is longer than `max_rows`, its header included, goes on on another sheet.
        """
        self._max_rows = max_rows
        self._facts = facts
        self._texts = texts
        of_file = facts.file_format if not facts.mask_customers else None
        self._columns = FileColumns(of_file) if of_file else None
        self._titles = self._columns.titles if self._columns else []
        self._sampled = [columns_of(each) for each in self._titles]
        self._file_widths = [WIDEST] * len(self._titles)
        self._unsampled = _SAMPLE
        self._state_names = {state.value: texts(f"state_{state.value}") for state in RowState}
        self._book = xlsxwriter.Workbook(str(path), {"constant_memory": True, "tmpdir": str(workshop)})
        self._book.use_zip64()
        self._styles = Styles(self._book)
        self._waiting = WaitingRows(workshop / "to-do.rows")
        self._summary = self._sheet("summary")
        self._to_do = self._table("to_do", _TO_DO_COLUMNS)
        self._unclear = self._table("unclear", _UNCLEAR_COLUMNS)
        self._changed = self._table("changed", _CHANGED_COLUMNS)
        self._results = self._table("results", _RESULT_COLUMNS)

    def add(self, joined: JoinedRow) -> None:
        """Write one record."""
        row, said = joined.row, joined.said
        code, column, message, action = said.cells
        if said.reasons and self._texts.mask_customers:
            message = BETWEEN.join(map(self._texts.sentence, said.reasons))
        cells = {
            "line": str(row.line),
            "customer": self._texts.customer(row.customer_id),
            "state": self._state_names[row.state],
            "source_id": row.source_id,
            "code": code,
            "message": message,
            "to_do": action,
            "method": row.payment_method,
            "source_status": row.source_status,
            "column": column,
            "attempts": str(row.attempts),
            "record": str(row.record),
            "reference": self._texts.customer(row.reference),
            "request_id": row.request_id,
        }
        fields = self._fields(joined)
        self._results.add([*cells.values(), *fields])
        if said.reasons:
            self._add_to_others(joined, cells, fields)

    def _add_to_others(self, joined: JoinedRow, cells: dict[str, str], fields: list[str]) -> None:
        """Write a record to the sheets for people on which it stands, too."""
        row, said = joined.row, joined.said
        if said.failure:
            key = key_of(row, said.reasons[0])
            kind = kind_of(key.state, key.code)
            words = cells | {
                "kind": self._texts(f"kind_{kind}"),
                "reason": title(key.code, self._texts.lang),
            }
            self._waiting.add(key, self._to_do.cells_of([*(words[name] for name in _TO_DO_COLUMNS), *fields]))
        if row.state == RowState.UNCLEAR:
            who = "you" if said.failure else "nobody" if said.successor else "look_up"
            words = cells | {"decided_by": self._texts(f"decided_by_{who}")}
            self._unclear.add([*(words[name] for name in _UNCLEAR_COLUMNS), *fields])
        if row.code == "changed":
            self._changed.add([*(cells[name] for name in _CHANGED_COLUMNS), *fields])

    def finish(self, contents: ReportContents) -> None:
        """Write the sheets To do and Summary, and the file itself."""
        keys = [each.task.key for _, advice in by_kind(contents.advice) for each in advice]
        for cells in self._waiting.in_order(keys):
            self._to_do.add_cells(cells)
        SummarySheet(self._summary, self._styles, self._texts).write(contents)
        self._end_sampling()
        for table in self._tables:
            for sheet in table.sheets:
                sheet.finish(table.widths(), self._styles.text_format, frozen_columns=_FROZEN_COLUMNS)
        self._order_sheets()
        self._write_page_lines(contents)
        try:
            self._book.close()
        except XlsxWriterException as error:
            raise OSError(f"report.xlsx could not be written: {error}") from error

    @property
    def _tables(self) -> tuple[Table, ...]:
        return self._to_do, self._unclear, self._changed, self._results

    def _write_page_lines(self, contents: ReportContents) -> None:
        """Give every printed page its file, batch and time at the top, and its number at the bottom."""
        left, right = of_report(contents)
        for sheet in self._book.worksheets():
            sheet.set_header(f"&L&8 {left.replace('&', '&&')}&R&8 {right}")
            sheet.set_footer(f"&C&8 {self._texts('page_of')}")

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
            self._sampled = [max(width, width_of(value)) for width, value in zip(self._sampled, fields, strict=True)]
            if not self._unsampled:
                self._end_sampling()
        return fields

    def _end_sampling(self) -> None:
        """Make the columns of the file as wide as the rows so far ask for."""
        self._unsampled = 0
        self._file_widths = [min(max(width + 2, NARROWEST), WIDEST) for width in self._sampled]

    def _sheet(self, name: str, number: int = 1) -> TextSheet:
        words = self._texts(f"sheet_{name}")
        sheet: TextSheet = self._book.add_worksheet(words if number == 1 else f"{words} {number}", TextSheet)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(left=0.4, right=0.4, top=0.7, bottom=0.6)
        return sheet

    def _order_sheets(self) -> None:
        """Put the parts of a table that takes several sheets side by side; they were made when they were needed."""
        ordered = [self._summary, *(sheet for table in self._tables for sheet in table.sheets)]
        self._book.worksheets_objs[:] = ordered
        for at, sheet in enumerate(ordered):
            sheet.index = at

    def _table(self, name: str, columns: Mapping[str, int]) -> Table:
        styles, words = self._styles, [self._texts(f"column_{key}") for key in columns]
        heads = (styles.head_ours,) * len(words) + (styles.head,) * len(self._titles)
        ours = list(columns.values())
        return Table(
            lambda number: self._sheet(name, number),
            [*words, *self._titles],
            heads,
            styles.cell,
            lambda: ours + self._file_widths,
            self._max_rows,
        )
