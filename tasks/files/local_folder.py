"""A folder of this machine as a store: temp files, fsync, rename, the manifest last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedRandom
from pathlib import Path
from typing import Any

import orjson

from tasks.files.atomic_write import UNFINISHED, atomic_write, sync_file, sync_folder
from tasks.files.file_store import MANIFEST

_WRITING = ".writing-"
#: While the files of a set are exchanged: the manifest of the earlier set, and of the one to come.
_BEFORE, _NEXT = f"{_WRITING}manifest-before.json", f"{_WRITING}manifest-next.json"


class LocalFolder:
    """A folder of this machine; a `FileStore`.

    A new folder is for its owner only, and so is every file. The mode of a folder that exists is left alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def location(self) -> str:
        """Its path, as it was given."""
        return str(self.path)

    def folder(self, name: str) -> LocalFolder:
        """Return a folder in this one, which need not exist."""
        return LocalFolder(self.path / name)

    @contextlib.contextmanager
    def put(self, name: str) -> Iterator[BufferedRandom]:
        """Write a file: at the end of the block it is there, on the disk and whole; after an error it is as before."""
        self._make()
        with atomic_write(self.path / name) as target:
            yield target

    def get(self, name: str) -> Path | None:
        """Return the path of a file; None: there is none."""
        path = self.path / name
        return path if path.is_file() else None

    @contextlib.contextmanager
    def publication(self) -> Iterator[FolderPublication]:
        """Prepare the folder for a set, one writer at a time; remove what a crashed one left behind."""
        self._make()
        with _locked(self.path):
            for left in self.path.glob(f"{_WRITING}*"):
                shutil.rmtree(left, ignore_errors=True)
            workshop = Path(tempfile.mkdtemp(prefix=_WRITING, dir=self.path))
            try:
                yield FolderPublication(self.path, workshop)
            finally:
                shutil.rmtree(workshop, ignore_errors=True)

    def list(self) -> list[str]:
        """Return the names of its files and folders, in order, without those that are still being written."""
        try:
            names = sorted(path.name for path in self.path.iterdir())
        except FileNotFoundError:
            return []
        return [name for name in names if not name.startswith(_WRITING) and not name.endswith(UNFINISHED)]

    def remove(self, name: str) -> bool:
        """Remove a file, or a folder with all that is in it; return whether it was there."""
        path = self.path / name
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:  # or another one is at it
            return False
        return True

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)


class FolderPublication:
    """A set of files on its way into its folder; a `Publication`."""

    def __init__(self, folder: Path, workshop: Path) -> None:
        self._folder = folder
        self._workshop = workshop
        self.names: list[str] = []  #: of the files, in the order in which they were begun
        self.edited: dict[str, Path] = {}

    @property
    def workshop(self) -> Path:
        """A folder for temp files, on the same disk, that is removed with everything in it."""
        return self._workshop

    def path(self, name: str) -> Path:
        """Return where to write the file `name` until it is published."""
        self.names.append(name)
        return self._workshop / name

    def publish(self, manifest: Mapping[str, Any], known: Iterable[str]) -> dict[str, Path]:
        """Rename every file into its place and the manifest last; return their paths (`file_store.Publication`)."""
        files = {name: _seal(self._workshop / name) for name in self.names}
        text = orjson.dumps({**manifest, "files": files}, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (self._workshop / MANIFEST).write_bytes(text)
        sync_file(self._workshop / MANIFEST)
        self._keep_edited({*known, *self.names})
        (self._workshop / MANIFEST).replace(self._folder / _NEXT)
        with contextlib.suppress(FileNotFoundError):
            (self._folder / MANIFEST).rename(self._folder / _BEFORE)
        sync_folder(self._folder)
        for name in self.names:
            (self._workshop / name).replace(self._folder / name)
        for name in set(known) - set(self.names):
            (self._folder / name).unlink(missing_ok=True)
        sync_folder(self._folder)
        (self._folder / _NEXT).replace(self._folder / MANIFEST)
        (self._folder / _BEFORE).unlink(missing_ok=True)
        sync_folder(self._folder)
        return {name: self._folder / name for name in (*self.names, MANIFEST)}

    def _keep_edited(self, names: Iterable[str]) -> None:
        """Rename files that are as no publication has written them: somebody has edited them."""
        published = _published(self._folder)
        for name in sorted(names):
            path = self._folder / name
            if path.is_file() and (name, _digest(path)) not in published:
                path.rename(kept := _free(path.with_stem(f"{path.stem}-edited")))
                self.edited[name] = kept


def _published(folder: Path) -> set[tuple[str, str]]:
    """Return names and checksums of what is or was published, by publications that were cut off as well."""
    found: set[tuple[str, str]] = set()
    for manifest in (MANIFEST, _BEFORE, _NEXT):
        with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
            files = orjson.loads((folder / manifest).read_bytes())["files"]
            found.update((name, file["sha256"]) for name, file in files.items())
    return found


def _free(path: Path) -> Path:
    """Return a path at which nothing is, numbered if need be."""
    others = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], others) if not each.exists())


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
    sync_file(path)
    return {"bytes": path.stat().st_size, "sha256": _digest(path)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
