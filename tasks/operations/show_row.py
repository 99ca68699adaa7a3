"""One row and everything that happened to it besides a plain success."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.ledger import RowTimes
from tasks.models import ReportRow, Successor
from tasks.operations.batch_status import batch_stands
from tasks.operations.find_record import find_record
from tasks.reason_texts import Situation, situation_of
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as the reports show it, with its history, oldest first."""

    batch_id: int
    row: ReportRow
    situation: Situation  #: what a hint about it has to know
    times: RowTimes
    successor: Successor | None  #: what became of it, if it needed a person and needs none here any more
    history: tuple[Mapping[str, Any], ...]

    @property
    def customer_id(self) -> str:
        """Its customer; "" if it has none that can be read, or it was dropped (ONBOARD_KEEP_DAYS)."""
        return self.row.customer_id


def show_row(services: Services, batch_id: int, line: int) -> ShownRow:
    """Return the row on a physical line of a batch's file. Raises LedgerError if no record is there."""
    ledger = services.ledger
    record = find_record(services, batch_id, line).record
    row = ledger.queries.report_row(batch_id, record)
    standing = batch_stands(services, ledger.batches.get(batch_id))
    situation = situation_of(row.state, needs_person=row.needs_person, batch_stands=standing, number=batch_id)
    return ShownRow(
        batch_id,
        row,
        situation,
        ledger.queries.row_times(batch_id, record),
        ledger.open_work.successors(batch_id, record).get(record),
        tuple(ledger.history.lines(batch_id, record)),
    )
