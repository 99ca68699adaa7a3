"""The cells of some records of a batch's file, as they were accepted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.csv_records import FileFormat, read_batches
from tasks.errors import UnusableFile
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class RecordCells:
    """Records with the titles of their file."""

    titles: tuple[str, ...]
    cells: Mapping[int, tuple[str, ...]]  #: record -> its cells


def record_cells(services: Services, batch_id: int, records: Collection[int]) -> RecordCells:
    """Return the cells of some records; none of a file that was dropped or is not on this machine.

    The file is read up to the last of them. Raises LedgerError if there is no such batch.
    """
    batch = services.ledger.batches.get(batch_id)
    if not records or services.dropped(batch) is not None:
        return RecordCells((), {})
    try:
        fmt = FileFormat.from_dict(batch.file_format)
        return RecordCells(fmt.header, cells_of(services.kept_file(batch), fmt, records))
    except (OSError, UnusableFile):
        return RecordCells((), {})


def cells_of(file: Path, fmt: FileFormat, records: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Return record -> cells of some records of a file. Raises UnusableFile; OSError."""
    wanted, last = set(records), max(records, default=0)
    found: dict[int, tuple[str, ...]] = {}
    for batch in read_batches(file, fmt):
        for record in [each for each in wanted if batch.first_record <= each < batch.first_record + len(batch)]:
            found[record] = tuple(batch.fields[record - batch.first_record])
        if batch.first_record + len(batch) > last:
            break
    return found
