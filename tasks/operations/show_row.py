"""One row and everything that happened to it besides a plain success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.models import ReportRow
from tasks.operations.batch_status import batch_stands
from tasks.operations.find_record import find_record
from tasks.reason_texts import Situation, situation_of
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as the reports show it, with its history, oldest first."""

    batch_id: int
    customer_id: str  #: "": it was dropped (ONBOARD_KEEP_DAYS), or the row has none that can be read
    row: ReportRow
    situation: Situation  #: what a hint about it has to know
    history: tuple[Mapping[str, Any], ...]


def show_row(services: Services, batch_id: int, line: int) -> ShownRow:
    """Return the row on a physical line of a batch's file. Raises LedgerError if no record is there."""
    ledger = services.ledger
    record = find_record(services, batch_id, line).record
    row, customer_id = ledger.queries.report_row(batch_id, record), ledger.resolution.customer_of(batch_id, record)
    standing = batch_stands(services, ledger.batches.get(batch_id))
    situation = situation_of(row.state, needs_person=row.needs_person, batch_stands=standing, number=batch_id)
    return ShownRow(batch_id, customer_id, row, situation, tuple(ledger.history.lines(batch_id, record)))
