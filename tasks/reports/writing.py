"""All reports of one batch, in one pass over its file and its rows."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any, Protocol

from tasks.files.file_store import MANIFEST, FileStore, Publication
from tasks.gc_tuning import collector_at_rest
from tasks.models import ReportRow
from tasks.reports.aggregates import Aggregates
from tasks.reports.contents import ReportContents
from tasks.reports.csv_reports import CsvReports, ExactLines, FileColumns, Lines, SafeLines
from tasks.reports.html_report import render
from tasks.reports.i18n import Texts
from tasks.reports.report_data import ReportFacts
from tasks.reports.report_rows import JoinedRow, join
from tasks.reports.row_texts import RowTextWriter
from tasks.reports.summary_json import counts_of, summarise
from tasks.reports.text_sheet import MAX_ROWS
from tasks.reports.xlsx_report import WorkbookReport

#: What can be written.
ALL = frozenset({"csv", "json", "html", "xlsx"})
#: Report -> its file.
FILES = {
    "results": "results.csv",
    "failures": "failures.csv",
    "results_excel_safe": "results.excel-safe.csv",
    "failures_excel_safe": "failures.excel-safe.csv",
    "summary": "summary.json",
    "html": "report.html",
    "xlsx": "report.xlsx",
}


class Sink(Protocol):
    """A report that takes every record."""

    def add(self, joined: JoinedRow) -> None:
        """Take one record."""

    def close(self) -> None:
        """Have everything written."""


def write_reports(
    target: FileStore,
    facts: ReportFacts,
    rows: Callable[[], Iterator[ReportRow]],
    *,
    lang: str = "en",
    excel_safe: bool = False,
    formats: Set[str] = ALL,
    max_sheet_rows: int = MAX_ROWS,
    now: Callable[[], float] = time.time,
) -> dict[str, Path]:
    """Write the reports of a batch into `target`, in place of earlier ones; return report -> path.

    A report that somebody has edited since stays beside, as `REPORT_edited` of what is returned.

    `rows` gives every row in the order of records. Without a readable file there are no CSV reports. Raises
    `ReconciliationError` if file, rows and counts disagree, `OSError` if the disk does not take the reports;
    `file_store.Publication.publish` says what is left then.
    """
    texts = Texts(lang, facts.time_zone, of_check=facts.check is not None, mask_customers=facts.mask_customers)
    aggregates = Aggregates()
    with target.publication() as reports, collector_at_rest():
        with contextlib.ExitStack() as closing:
            sinks: list[Sink] = _csv_sinks(facts, reports, excel_safe=excel_safe) if "csv" in formats else []
            workbook = None
            if "xlsx" in formats:
                workbook = WorkbookReport(
                    reports.path(FILES["xlsx"]), reports.workshop, facts, texts, max_rows=max_sheet_rows
                )
                sinks.append(workbook)
            for sink in sinks:
                closing.callback(sink.close)
            adders = [sink.add for sink in sinks]
            for joined in join(facts, rows(), RowTextWriter(facts, texts.lang)):
                aggregates.add(joined)
                for add in adders:
                    add(joined)
            aggregates.check(facts)
            contents = ReportContents.of(facts, aggregates, texts, now())
            if workbook:
                workbook.finish(contents)
        _write_pages(contents, reports, formats)
        paths = reports.publish(_manifest(facts, aggregates), FILES.values())
    written = {key: paths[name] for key, name in FILES.items() if name in paths}
    edited = {f"{key}_edited": reports.edited[name] for key, name in FILES.items() if name in reports.edited}
    return {**written, "manifest": paths[MANIFEST], **edited}


def _csv_sinks(facts: ReportFacts, reports: Publication, *, excel_safe: bool) -> list[Sink]:
    if facts.file_path is None or facts.file_format is None:
        return []
    columns = FileColumns(facts.file_format)
    batch = "" if facts.check else str(facts.batch.id)
    writers: list[tuple[str, Lines]] = [("", ExactLines(columns, batch))]
    if excel_safe:
        writers.append(("_excel_safe", SafeLines(columns, batch)))
    return [
        CsvReports(
            reports.path(FILES[f"results{kind}"]), reports.path(FILES[f"failures{kind}"]), lines, facts.file_path
        )
        for kind, lines in writers
    ]


def _write_pages(contents: ReportContents, reports: Publication, formats: Set[str]) -> None:
    """Write the reports that name the others."""
    pages = {key: reports.path(FILES[key]) for key, form in (("summary", "json"), ("html", "html")) if form in formats}
    names = {key: name for key, name in FILES.items() if name in reports.names}
    if "summary" in pages:
        pages["summary"].write_bytes(summarise(contents, names))
    if "html" in pages:
        pages["html"].write_text(render(contents, names), "utf-8")


def _manifest(facts: ReportFacts, aggregates: Aggregates) -> dict[str, Any]:
    return {
        "format": 1,
        "check": facts.check is not None,
        "batch": None if facts.check else facts.batch.id,
        "file": {"name": facts.batch.name, "sha256": facts.batch.sha256},
        "books": counts_of(aggregates),
    }
