"""The rows of a batch that `onboard retry` sends again, as a file of their own."""

from __future__ import annotations

from pathlib import Path

import structlog

from tasks.csv_records import FileFormat, read_raw
from tasks.ledger import Ledger
from tasks.models import RowState

log = structlog.get_logger("onboard")

#: Rows that `onboard retry` brings into a batch of their own.
_RETRIED = frozenset({RowState.REFUSED, RowState.WAITING})


def write_retry_file(ledger: Ledger, batch_id: int, kept: Path, target: Path) -> int:
    """Write those records of a batch's file that elepay refused, or that were never sent, as a file of their own.

    Header and records are the original bytes. Returns how many records it holds.
    """
    fmt = FileFormat.from_dict(ledger.batches.get(batch_id).file_format)
    newline = fmt.encode(fmt.newline)
    wanted = (row.record for row in ledger.queries.report_rows(batch_id) if row.state in _RETRIED)
    following = next(wanted, None)
    count = 0
    with target.open("wb") as file:
        sep_line = fmt.encode(f"sep={fmt.delimiter}{fmt.newline}") if fmt.has_sep_line else b""
        file.write(fmt.bom + sep_line + fmt.encode(fmt.header_text) + newline)
        for raw in read_raw(kept, fmt):
            if raw.record == following:
                file.write(raw.raw + newline)
                count += 1
                following = next(wanted, None)
    return count
