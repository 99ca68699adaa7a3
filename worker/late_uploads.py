"""Uploads that went on after their file was taken: noticed, and given back to the inbox as files of their own.

A watcher takes a file that rested for a while. If its upload had only stalled, the uploader still holds it open, and
writes on into a file that is in `processing/`, in the archive or rejected by then. So claim.json says what was read,
and a file is compared with that when it has come to its end, and for an hour after.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tasks.files.atomic_write import sync_file, sync_folder
from worker.drop_folder import CLAIM, DROPPED, Claim, DropFolder
from worker.dropped_names import name_of_rest

#: A file that changes later than so many seconds after its end was changed by a person, and is left alone.
AFTER_THE_END_SECONDS = 3600.0
#: The accepted content, on its way to the place of a file that is given back.
_COPYING, _ACCEPTED = ".accepted.part", ".accepted"


def read_version(path: Path) -> dict[str, Any]:
    """Return what claim.json says of a file: `size`, `mtime_ns`, `sha256`. Raises OSError.

    Size and time are of before the reading, so that a change during it is seen afterwards.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}


class LookBack:
    """Tells which files have changed since they were put away; from one look to the next it remembers claim.json."""

    def __init__(self, folder: DropFolder) -> None:
        self._folder = folder
        self._known: dict[Path, Claim | None] = {}

    def changed(self) -> Iterator[Claim]:
        """Yield each claim of today and yesterday whose file went on, or was not quite given back. Raises OSError."""
        known: dict[Path, Claim | None] = {}
        for folder in self._folder.put_away_lately():
            claim = self._known[folder] if folder in self._known else _read_claim(folder)
            known[folder] = claim
            if claim is not None and (_has_gone_on(claim) or (folder / _ACCEPTED).exists()):
                yield claim
        self._known = known


def _read_claim(folder: Path) -> Claim | None:
    """Return a claim that says what was read; None for anything else."""
    with contextlib.suppress(OSError, orjson.JSONDecodeError):
        facts = orjson.loads((folder / CLAIM).read_bytes())
        if isinstance(facts, dict) and {"name", "sha256", "size", "mtime_ns"} <= facts.keys():
            return Claim(folder, facts)
    return None


def _has_gone_on(claim: Claim) -> bool:
    try:
        status, ended_at = claim.file.lstat(), claim.folder.stat().st_ctime
    except (FileNotFoundError, NotADirectoryError):
        return False
    changed = (status.st_size, status.st_mtime_ns) != (claim.facts["size"], claim.facts["mtime_ns"])
    return changed and stat.S_ISREG(status.st_mode) and status.st_mtime < ended_at + AFTER_THE_END_SECONDS


def has_other_content(claim: Claim) -> bool:
    """Tell whether a file that has come to its end is another one than was read, by its checksum. Raises OSError.

    If only its time has changed, claim.json is brought up to date.
    """
    facts, copy = claim.facts, claim.folder / _ACCEPTED
    if not claim.is_here and copy.exists():
        return True  # it was given back, and not quite to the end
    if "sha256" not in facts or claim.file.is_symlink() or not claim.file.is_file():
        return False
    now = read_version(claim.file)
    if now["sha256"] != facts["sha256"]:
        return True
    copy.unlink(missing_ok=True)
    if (now["size"], now["mtime_ns"]) != (facts.get("size"), facts.get("mtime_ns")):
        claim.note(**now)
    return False


def give_back(claim: Claim, accepted: Path | None, inbox: Path) -> str | None:
    """Move a file that went on back to the inbox; return its name there, None if it had left already. Raises OSError.

    It is the file itself that moves, so that whatever its uploader still writes comes along; it is taken again when it
    rests. `accepted`, if it is still kept, is what was read: a copy takes the file's place. May be done again from the
    start:

    1. copy what was read beside the file
    2. move the file to a new name in the inbox
    3. give the copy its name
    """
    folder = claim.folder
    copy = folder / _ACCEPTED
    if accepted and not copy.exists():
        shutil.copyfile(accepted, folder / _COPYING)
        sync_file(folder / _COPYING)
        if "mtime_ns" in claim.facts:
            os.utime(folder / _COPYING, ns=(claim.facts["mtime_ns"], claim.facts["mtime_ns"]))
        (folder / _COPYING).rename(copy)
    name = None
    if claim.is_here:
        name = name_of_rest(claim.name, secrets.token_hex(4))
        claim.file.rename(inbox / name)
    if copy.exists():
        copy.rename(claim.file)
    for changed in (folder / DROPPED, folder, inbox):
        sync_folder(changed)
    return name
