"""One row and everything that happened to it besides a plain success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.models import ReportRow
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as the reports show it, with its history, oldest first."""

    batch_id: int
    row: ReportRow
    history: tuple[Mapping[str, Any], ...]


def show_row(services: Services, batch_id: int, line: int) -> ShownRow:
    """Return the row on a physical line of a batch's file. Raises LedgerError if no record starts there."""
    record = services.ledger.resolution.record_at(batch_id, line)
    row = services.ledger.queries.report_row(batch_id, record)
    return ShownRow(batch_id, row, tuple(services.ledger.history.lines(batch_id, record)))
