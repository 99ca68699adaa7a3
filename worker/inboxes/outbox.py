"""Copies of reports for the people who dropped the file: a folder for each set, which appears when it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tasks.files.atomic_write import sync_file, sync_folder
from worker.inboxes.claims import note
from worker.inboxes.names import free_names
from worker.inboxes.protocol import Claim

#: In a claim's folder: the copy of its reports before it moves to the outbox.
_OUTGOING = "outgoing"


class Outbox:
    """The folder from which people fetch reports."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_for(self, claim: Claim, name: str) -> Path:
        """Return where a claim's reports are published under `name`: there or, if that is taken, at the next free name.

        The answer is the same every time. A claim may have several: its last reports, and those of nights in which it
        did not end. Raises OSError.
        """
        names = dict(claim.facts.get("outbox", {}))
        if name not in names:
            names[name] = next(free for free in free_names(name) if not os.path.lexists(self._folder / free))
            note(claim, outbox=names)
        return self._folder / str(names[name])

    def publish(self, claim: Claim, name: str) -> Path:
        """Copy a claim's reports here, all or none; a repetition changes nothing. Raises OSError.

        A group that may read the outbox may read what is in it; nobody else but its owner.
        """
        target = self.path_for(claim, name)
        if not target.exists():
            outgoing = _copy_reports(claim)
            _let_group_read(outgoing, self._folder.stat().st_mode)
            outgoing.rename(target)
            sync_folder(self._folder)
        return target


def _copy_reports(claim: Claim) -> Path:
    outgoing = claim.folder / _OUTGOING
    if outgoing.exists():
        shutil.rmtree(outgoing)
    outgoing.mkdir(mode=0o700)
    for report in sorted(claim.reports.iterdir()):
        if report.is_file():
            shutil.copyfile(report, outgoing / report.name)
            sync_file(outgoing / report.name)
    sync_folder(outgoing)
    return outgoing


def _let_group_read(folder: Path, outbox_mode: int) -> None:
    for report in folder.iterdir():
        report.chmod(0o600 | outbox_mode & 0o040)
    folder.chmod(0o700 | outbox_mode & 0o050)
