"""Makes batches whose reports are to be looked at: a real file, the real intake, a real ledger, real reports."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from factories import answer, new_worker

from tasks.csv_records import FileFormat, detect_format, read_records
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, LeasedRow, Outcome, RowState, Slice
from tasks.operations import accept_batch, report
from tasks.reports.report_data import ReportFacts
from tasks.reports.writing import write_reports
from tasks.services import Services
from tasks.settings import load_settings

HEADER = "customer_id,payment_method,resource,description\n"
#: Decides what becomes of a row that is sent; None leaves it waiting.
Decide = Callable[[LeasedRow], Outcome | None]


def created(row: LeasedRow) -> Outcome:
    """Every row goes well."""
    return answer(row)


class Reported:
    """An installation in a folder, without workers: what becomes of a row is decided by the test.

    Its ledger is in the folder, or is one that others had before it and that is empty again.
    """

    def __init__(self, folder: Path, ledger: Ledger | None = None, **settings: str) -> None:
        self.folder = folder
        environment = {"ONBOARD_HOME": str(folder / "home"), "ELEPAY_REQUESTS_PER_SECOND": "20", **settings}
        self.ours = Services(load_settings(environment, folder=folder))
        self.ours.settings.home.mkdir(parents=True, exist_ok=True)
        self._is_ours = ledger is None
        if ledger is not None:
            self.ours.ledger = ledger
        self.ledger = self.ours.ledger

    @property
    def ledger_url(self) -> str:
        """Its ledger, as LEDGER_URL takes it."""
        return f"sqlite:///{self.ledger.place}"

    def accept(self, content: bytes | str, name: str = "customers.csv", **rules: Any) -> Batch:
        """Bring a file into the ledger."""
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.accept_path(file, **rules)

    def accept_path(self, file: Path, **rules: Any) -> Batch:
        """Bring a file that exists into the ledger."""
        accept = accept_batch.AcceptRules(
            intake=self.ours.intake_rules(), slice_rows=1_000_000, lease_seconds=60.0, **rules
        )
        return accept_batch.accept_file(file, ledger=self.ledger, files=self.ours.files, rules=accept).batch

    def settle(self, batch: Batch, decide: Decide = created) -> Batch:
        """Send its rows, as it were, and close the batch if none is left."""
        worker = new_worker(self.ledger)
        self.ledger.sampling.end(batch.id)
        rows = self.ledger.leases.claim(Slice(batch.id, 1, 10_000_000), worker.number)
        outcomes = [(row, decide(row)) for row in rows]
        sent = [row for row, outcome in outcomes if outcome]
        worker.mark(sent)
        worker.record(*(decide(row) for row in sent))  # type: ignore[arg-type]
        self.ledger.leases.release(worker.number, [row for row, outcome in outcomes if not outcome], {})
        self.ledger.workers.end(worker.number)
        self.ledger.lifecycle.close(batch.id)
        return self.ledger.batches.get(batch.id)

    def facts(self, of: Batch, /, **changes: Any) -> ReportFacts:
        """What the reports of a batch are made from."""
        return replace(report.gather(self.ours, self.ledger.batches.get(of.id)), **changes)

    def write(self, batch: Batch, folder: Path | None = None, **options: Any) -> dict[str, Path]:
        """Write the reports; the batch's facts may be changed by `facts`."""
        facts = options.pop("facts", None) or self.facts(batch)
        target = LocalFolder(folder) if folder else self.ours.reports.folder(str(batch.id))
        return write_reports(target, facts, lambda: self.ledger.queries.report_rows(batch.id), **options)

    def report(self, content: bytes | str, decide: Decide = created, **options: Any) -> dict[str, Path]:
        """Accept a file, settle it, write its reports."""
        return self.write(self.settle(self.accept(content), decide), **options)

    def close(self) -> None:
        """Let the ledger go, if nobody else has it."""
        if self._is_ours:
            self.ledger.close()


def refused(code: str = "U003005", **more: Any) -> Decide:
    """Every row is refused."""
    return lambda row: answer(row, RowState.REFUSED, code=code, **more)


def unclear(row: LeasedRow) -> Outcome:
    """Every row stays unclear, for a person."""
    return answer(row, RowState.UNCLEAR, code="lost_answer")


def cells(path: Path) -> list[dict[str, str]]:
    """The records of a CSV report by title, read as its own dialect says."""
    fmt = detect_format(path)
    return [dict(zip(fmt.header, record.fields, strict=True)) for record in read_records(path, fmt)]


def format_of(path: Path) -> FileFormat:
    """How a report is written."""
    return detect_format(path)


def rows_of(text: str) -> list[list[str]]:
    """What Python's own reader finds."""
    return list(csv.reader(io.StringIO(text, newline="")))


__all__ = ["HEADER", "BatchState", "Reported", "cells", "created", "format_of", "refused", "rows_of", "unclear"]
