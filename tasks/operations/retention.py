"""What is dropped of batches that ended long ago: files, reports, personal data; what exactly-once needs stays."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from tasks.errors import SettingsError
from tasks.files.file_store import FileStore, accepted_name
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


def drop_old_batches(ledger: Ledger, files: FileStore, reports: FileStore, keep_days: float) -> Tidied:
    """Drop what belongs to batches that ended more than `keep_days` ago; 0 days: nothing.

    The ledger comes first: once a batch is marked as dropped, nothing asks for its file any more. Files and folders of
    this machine only; a file that a younger batch was made from stays. May be repeated, and run twice at once.
    """
    if not keep_days:
        return Tidied()
    before = ledger.now() - keep_days * 86400
    old = ledger.retention.batches_ended_before(before)
    in_use = ledger.retention.files_in_use(before) if old else set()
    tidied = Tidied()
    for batch in old:
        rows = ledger.retention.drop_personal_data(batch.id)
        has_folder = reports.remove(str(batch.id))
        has_file = batch.sha256 not in in_use and files.remove(accepted_name(batch.sha256))
        dropped = Tidied(rows=rows, files=int(has_file), folders=int(has_folder))
        if dropped != Tidied():
            tidied = Tidied(
                tidied.batches + 1,
                tidied.rows + dropped.rows,
                tidied.files + dropped.files,
                tidied.folders + dropped.folders,
            )
            log.info("old batch tidied", batch=batch.id, rows=dropped.rows)
    return tidied
