"""What is dropped of batches that ended long ago: files, reports, personal data; what exactly-once needs stays."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from tasks.ledger import Ledger

log = structlog.get_logger("onboard")


@dataclass(slots=True)
class Tidied:
    """What was dropped."""

    batches: int = 0  #: whose file, reports or personal data went
    rows: int = 0  #: whose personal data went
    files: int = 0
    folders: int = 0  #: of reports


def tidy(ledger: Ledger, files: Path, reports: Path, keep_days: float) -> Tidied:
    """Drop what belongs to batches that ended more than `keep_days` ago; 0 days: nothing.

    The ledger comes first: once a batch is marked as dropped, nothing asks for its file any more. Files and folders of
    this machine only; a file that a younger batch was made from stays. May be repeated, and run twice at once.
    """
    said = Tidied()
    if not keep_days:
        return said
    before = ledger.now() - keep_days * 86400
    old = ledger.retention.batches_ended_before(before)
    in_use = ledger.retention.files_in_use(before) if old else set()
    for batch in old:
        rows = ledger.retention.drop_personal_data(batch.id)
        folder, file = reports / str(batch.id), files / f"{batch.sha256}.csv"
        has_folder, has_file = folder.is_dir(), file.is_file() and batch.sha256 not in in_use
        if has_folder:
            with contextlib.suppress(FileNotFoundError):  # another one is at it
                shutil.rmtree(folder)
        if has_file:
            file.unlink(missing_ok=True)
        said.rows, said.folders, said.files = said.rows + rows, said.folders + has_folder, said.files + has_file
        if rows or has_folder or has_file:
            said.batches += 1
            log.info("old batch tidied", batch=batch.id, rows=rows)
    return said
