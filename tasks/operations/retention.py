"""What is dropped of batches that ended long ago: files, reports, personal data; what exactly-once needs stays."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from tasks.errors import SettingsError
from tasks.ledger import Ledger
from tasks.services import Services

log = structlog.get_logger("onboard")


@dataclass(frozen=True, slots=True)
class Tidied:
    """What was dropped."""

    batches: int = 0  #: whose file, reports or personal data went
    rows: int = 0  #: whose personal data went
    files: int = 0
    folders: int = 0  #: of reports


def tidy(services: Services) -> Tidied:
    """Drop what belongs to batches that ended more than ONBOARD_KEEP_DAYS ago. Raises SettingsError if that is 0."""
    days = services.settings.keep_days
    if not days:
        raise SettingsError("ONBOARD_KEEP_DAYS is 0: everything is kept for ever")
    return drop_old_batches(services.ledger, services.files, services.reports, days)


def drop_old_batches(ledger: Ledger, files: Path, reports: Path, keep_days: float) -> Tidied:
    """Drop what belongs to batches that ended more than `keep_days` ago; 0 days: nothing.

    The ledger comes first: once a batch is marked as dropped, nothing asks for its file any more. Files and folders of
    this machine only; a file that a younger batch was made from stays. May be repeated, and run twice at once.
    """
    if not keep_days:
        return Tidied()
    before = ledger.now() - keep_days * 86400
    old = ledger.batches_ended_before(before)
    in_use = ledger.files_in_use(before) if old else set()
    tidied = Tidied()
    for batch in old:
        dropped = _drop(ledger, batch.id, reports / str(batch.id), _file(files, batch.sha256, in_use))
        if dropped != Tidied():
            tidied = Tidied(
                tidied.batches + 1,
                tidied.rows + dropped.rows,
                tidied.files + dropped.files,
                tidied.folders + dropped.folders,
            )
            log.info("old batch tidied", batch=batch.id, rows=dropped.rows)
    return tidied


def _file(files: Path, sha256: str, in_use: set[str]) -> Path | None:
    """Return the accepted copy of a batch's file, if it is here and no younger batch needs it."""
    file = files / f"{sha256}.csv"
    return file if sha256 not in in_use and file.is_file() else None


def _drop(ledger: Ledger, batch_id: int, folder: Path, file: Path | None) -> Tidied:
    """Drop a batch's personal data, then its folder of reports and its file."""
    rows = ledger.drop_personal_data(batch_id)
    has_folder = folder.is_dir()
    if has_folder:
        with contextlib.suppress(FileNotFoundError):  # another process drops it, too
            shutil.rmtree(folder)
    if file is not None:
        file.unlink(missing_ok=True)
    return Tidied(rows=rows, files=int(file is not None), folders=int(has_folder))
