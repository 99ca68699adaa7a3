"""A folder of reports that is complete or says so: temp files, fsync, rename, the manifest last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

#: Written last: whoever finds it finds every file that it names, as it was written.
MANIFEST = "manifest.json"
_WRITING = ".writing-"


class Publication:
    """Reports on their way into their folder."""

    def __init__(self, folder: Path, workshop: Path) -> None:
        self._folder = folder
        self._workshop = workshop
        self.names: list[str] = []  #: of the reports, in the order in which they were begun

    @property
    def workshop(self) -> Path:
        """A folder for temp files, on the same disk, that is removed with everything in it."""
        return self._workshop

    def path(self, name: str) -> Path:
        """Return where to write the report `name` until it is published."""
        self.names.append(name)
        return self._workshop / name

    def publish(self, manifest: Mapping[str, Any], known: Iterable[str]) -> dict[str, Path]:
        """Put every report in its place and the manifest last; return their paths.

        1. All are on disk, with their checksums, before any old one is touched.
        2. The old manifest goes: from here on the folder is incomplete.
        3. The reports are renamed into place; `known` ones of an earlier set that were not written again go.
        4. The manifest comes.

        An error in step 1 leaves the old set, a later one leaves no manifest.
        """
        files = {name: _seal(self._workshop / name) for name in self.names}
        text = orjson.dumps({**manifest, "files": files}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (self._workshop / MANIFEST).write_bytes(text)
        _seal(self._workshop / MANIFEST)
        (self._folder / MANIFEST).unlink(missing_ok=True)
        _sync(self._folder)
        for name in self.names:
            (self._workshop / name).replace(self._folder / name)
        for name in set(known) - set(self.names):
            (self._folder / name).unlink(missing_ok=True)
        _sync(self._folder)
        (self._workshop / MANIFEST).replace(self._folder / MANIFEST)
        _sync(self._folder)
        return {name: self._folder / name for name in (*self.names, MANIFEST)}


@contextlib.contextmanager
def publication(folder: Path) -> Iterator[Publication]:
    """Prepare a folder for reports, one writer at a time; remove what a crashed one left behind.

    A new folder is for its owner only, and so is every file: they hold the customers' data. The mode of a folder that
    exists is left alone.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        for left in folder.glob(f"{_WRITING}*"):
            shutil.rmtree(left, ignore_errors=True)
        workshop = Path(tempfile.mkdtemp(prefix=_WRITING, dir=folder))
        try:
            yield Publication(folder, workshop)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # let go by the system if this process dies
        yield
    finally:
        os.close(handle)


def _seal(path: Path) -> dict[str, Any]:
    """Bring a file to the disk; return its size and checksum."""
    path.chmod(0o600)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
