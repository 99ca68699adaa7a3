"""The same facts as CSV, JSON, HTML and XLSX: one writer a file.

::

    write_reports    all reports of a batch into a folder: complete, or without a manifest
    write_notice     what became of a dropped file that has no reports

=============  =======================================================================
facts          what the reports are made from
joined         file and ledger, record by record
explained      what is said about one row
tally          rows counted while they stream by; checks the books
advice         the verdict, and what to do
csv_files      `results.csv`, `failures.csv` and their excel-safe copies
summary_json   `summary.json`
lists          `follow-up.csv`, `audit.csv`: no reports of one file
folder         temp files, fsync, rename, the manifest last
notice         a few lines about a file that was rejected, or onboarded before
=============  =======================================================================

The file and the rows are read once, side by side, and every writer takes its share; memory does not grow with them.
"""

from __future__ import annotations

from tasks.reports.facts import BooksError, Commands, FileWarning, ReportFacts, TimelinePoint
from tasks.reports.notice import NOTICES, Notice, write_notice
from tasks.reports.writing import ALL, FILES, write_reports

__all__ = [
    "ALL",
    "FILES",
    "NOTICES",
    "BooksError",
    "Commands",
    "FileWarning",
    "Notice",
    "ReportFacts",
    "TimelinePoint",
    "write_notice",
    "write_reports",
]
