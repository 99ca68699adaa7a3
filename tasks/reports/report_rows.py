"""File and ledger, record by record: joined by the record's number, and nothing is published if they disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from tasks.csv_records import RawRecord, read_raw
from tasks.models import ReportRow
from tasks.reports.report_data import ReconciliationError, ReportFacts
from tasks.reports.row_texts import RowTexts, RowTextWriter


class JoinedRow(NamedTuple):
    """One record with what became of it."""

    raw: RawRecord
    row: ReportRow
    said: RowTexts


def join(facts: ReportFacts, rows: Iterator[ReportRow], explainer: RowTextWriter) -> Iterator[JoinedRow]:
    """Yield every record of the file with its row, in the order of the file.

    Raises `ReconciliationError` as soon as one has no other, or another.
    """
    explain = explainer.explain
    for raw, row in zip_longest(_records(facts), rows):
        if raw is None:
            raise ReconciliationError(f"the ledger has a row for record {row.record}, the file ends before it")
        if row is None:
            raise ReconciliationError(f"record {raw.record} of the file (line {raw.line}) has no row in the ledger")
        if raw.record != row.record or raw.line != row.line:
            raise ReconciliationError(
                f"record {raw.record} (line {raw.line}) of the file met record {row.record} (line {row.line}) of the"
                " ledger"
            )
        yield JoinedRow(raw, row, explain(row))


def _records(facts: ReportFacts) -> Iterator[RawRecord]:
    """Return the records of the accepted copy, once it is seen to be the file that was accepted."""
    if facts.file_path is None or facts.file_format is None:
        return iter(())
    with facts.file_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != facts.batch.sha256:
        raise ReconciliationError(f"the accepted copy of batch {facts.batch.id} is not the file that was accepted")
    return read_raw(facts.file_path, facts.file_format)
