"""The cells of some records of a batch's file, as they were accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tasks.csv_records import FileFormat, records_at
from tasks.errors import UnusableFile
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class RecordCells:
    """Records with the titles of their file."""

    titles: tuple[str, ...]
    cells: Mapping[int, tuple[str, ...]]  #: line on which a record starts -> its cells


def record_cells(services: Services, batch_id: int, lines: Collection[int]) -> RecordCells:
    """Return the cells of records by their lines; none of a file that was dropped or is not on this machine.

    Raises LedgerError if there is no such batch.
    """
    batch = services.ledger.batches.get(batch_id)
    if not lines or services.dropped(batch) is not None:
        return RecordCells((), {})
    try:
        fmt = FileFormat.from_dict(batch.file_format)
        return RecordCells(fmt.header, records_at(services.kept_file(batch), fmt, lines))
    except (OSError, UnusableFile):
        return RecordCells((), {})
