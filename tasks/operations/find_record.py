"""The record on a line that a person has typed: the one that starts there, or that goes over it."""

from __future__ import annotations

import io
from typing import NamedTuple

from tasks.csv_records import FileFormat, read_records
from tasks.errors import LedgerError, UnusableFile
from tasks.services import Services


class FoundRecord(NamedTuple):
    """A record of a batch, and the line on which it starts."""

    record: int
    line: int


def find_record(services: Services, batch_id: int, line: int) -> FoundRecord:
    """Return the record on a physical line of a batch's file.

    Which further lines a record has is known from the accepted file only. Raises LedgerError if no record is there.
    """
    found = services.ledger.resolution.record_before(batch_id, line)
    if found is not None:
        record, first_line = found
        if first_line == line or line <= _last_line(services, batch_id, record):
            return FoundRecord(record, first_line)
    services.ledger.batches.get(batch_id)
    raise LedgerError("no record of batch {batch} is on line {line}", batch=batch_id, line=line)


def _last_line(services: Services, batch_id: int, number: int) -> int:
    """Return the last line of a record; 0 if the file was dropped."""
    batch = services.ledger.batches.get(batch_id)
    try:
        kept = services.kept_file(batch)
        for record in read_records(kept, FileFormat.from_dict(batch.file_format)):
            if record.record == number:
                return record.line + len(io.StringIO(record.text, newline="").readlines()) - 1
    except (OSError, UnusableFile):
        return 0
    return 0
