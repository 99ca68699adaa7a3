"""Uploads that continued after their file was taken: noticed, and returned to the inbox as files of their own.

A watcher takes a file that has not changed for a while. If its upload had only stalled, the uploader still holds it
open, and continues to write to a file that is in `processing/`, in the archive or rejected by then. So claim.json says
what was read, and a file is compared with that when its claim is closed, and for an hour after.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from tasks.files.atomic_write import sync_file, sync_folder
from worker.inboxes.claims import FACTS, has_file, note
from worker.inboxes.dated_folder import DatedFolder
from worker.inboxes.names import name_of_rest
from worker.inboxes.protocol import FILE, Claim

#: A file that changes later than so many seconds after its claim was closed was changed by a person; it is left alone.
AFTER_CLOSING_SECONDS = 3600.0
#: The accepted content, before it takes the place of a file that is returned to the inbox.
_COPYING, _ACCEPTED = ".accepted.part", ".accepted"


def read_version(path: Path) -> dict[str, Any]:
    """Return what claim.json says of a file: `size`, `mtime_ns`, `sha256`. Raises OSError.

    Size and time are taken before the file is read, so that a change meanwhile is noticed afterwards.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}


class LateUploads:
    """The closed claims of a drop folder; remembers from one look to the next what claim.json says."""

    def __init__(self, closed: Sequence[DatedFolder]) -> None:
        self._closed = closed
        self._claims: dict[Path, Claim | None] = {}

    def changed(self) -> Iterator[Claim]:
        """Yield each recently closed claim whose file changed, or was not returned completely. Raises OSError."""
        claims: dict[Path, Claim | None] = {}
        for folder in (folder for closed in self._closed for folder in closed.recent()):
            claim = self._claims[folder] if folder in self._claims else _read_claim(folder)
            claims[folder] = claim
            if claim is not None and (_has_changed(claim) or (folder / _ACCEPTED).exists()):
                yield claim
        self._claims = claims


def _read_claim(folder: Path) -> Claim | None:
    """Return a claim that says what was read; None for anything else."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        facts = orjson.loads((folder / FACTS).read_bytes())
        if isinstance(facts, dict) and {"name", "sha256", "size", "mtime_ns"} <= facts.keys():
            return Claim(folder, facts)
    return None


def _has_changed(claim: Claim) -> bool:
    try:
        status, closed_at = claim.file.lstat(), claim.folder.stat().st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return False
    changed = (status.st_size, status.st_mtime_ns) != (claim.facts["size"], claim.facts["mtime_ns"])
    return changed and stat.S_ISREG(status.st_mode) and status.st_mtime < closed_at + AFTER_CLOSING_SECONDS


def has_other_content(claim: Claim) -> bool:
    """Return whether a closed claim's file differs, by its checksum, from what was read. Raises OSError.

    If only its time has changed, claim.json is updated.
    """
    facts, copy = claim.facts, claim.folder / _ACCEPTED
    if not has_file(claim) and copy.exists():
        return True  # it was returned, but not completely
    if "sha256" not in facts or claim.file.is_symlink() or not claim.file.is_file():
        return False
    now = read_version(claim.file)
    if now["sha256"] != facts["sha256"]:
        return True
    copy.unlink(missing_ok=True)
    if (now["size"], now["mtime_ns"]) != (facts.get("size"), facts.get("mtime_ns")):
        note(claim, **now)
    return False


def return_to_inbox(claim: Claim, accepted: Path | None, inbox: Path) -> str | None:
    """Move a changed file back to the inbox; return its name there, None if it had been moved before. Raises OSError.

    The file itself moves, so that whatever its uploader still writes is included; it is claimed again when it has
    settled. `accepted`, if it is still kept, is what was read: a copy takes the file's place. Can be repeated from the
    start:

    1. copy what was read into the claim's folder
    2. move the file to a new name in the inbox
    3. rename the copy to the file's name
    """
    copy = claim.folder / _ACCEPTED
    if accepted is not None and not copy.exists():
        _copy_accepted(claim, accepted, copy)
    name = None
    if has_file(claim):
        name = name_of_rest(claim.name, secrets.token_hex(4))
        claim.file.rename(inbox / name)
    if copy.exists():
        copy.rename(claim.file)
    for changed in (claim.folder / FILE, claim.folder, inbox):
        sync_folder(changed)
    return name


def _copy_accepted(claim: Claim, accepted: Path, copy: Path) -> None:
    """Copy what was read, with the time that claim.json says, all or nothing."""
    copying = claim.folder / _COPYING
    shutil.copyfile(accepted, copying)
    sync_file(copying)
    if "mtime_ns" in claim.facts:
        os.utime(copying, ns=(claim.facts["mtime_ns"], claim.facts["mtime_ns"]))
    copying.rename(copy)
