"""What is asked of a place for files: put, get, publish a set with its manifest last, list, remove."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

#: Of a published set; written last: whoever finds it finds every file that it names, as it was written.
MANIFEST = "manifest.json"


class FileStore(Protocol):
    """A place for files, with folders in it that are stores, too.

    Files are for their owner only: they hold the customers' data. Names have no folder in them. Every method raises
    OSError if the store cannot do it; several processes may use one store at once.
    """

    @property
    def location(self) -> str:
        """Where people find it: a path or an address."""

    def folder(self, name: str) -> FileStore:
        """Return a folder of this store, which need not exist."""

    def put(self, name: str) -> AbstractContextManager[BufferedRandom]:
        """Write a file: at the end of the block it is there, on the disk and whole; after an error it is as before.

        What was written can be read again inside the block.
        """

    def get(self, name: str) -> Path | None:
        """Return where a file can be read on this machine; None: it is not in the store."""

    def publication(self) -> AbstractContextManager[Publication]:
        """Begin a set of files that becomes this store's, in place of an earlier set; one writer at a time."""

    def list(self) -> list[str]:
        """Return the names of files and folders, in order; nothing if the store itself does not exist yet."""

    def remove(self, name: str) -> bool:
        """Remove a file, or a folder with all that is in it; return whether it was there."""


class Publication(Protocol):
    """A set of files on its way into its store."""

    names: list[str]  #: of the files, in the order in which they were begun
    edited: dict[str, Path]  #: files of the earlier set that somebody has edited, by name: where they are now

    @property
    def workshop(self) -> Path:
        """A folder of this machine for temp files, that is removed with everything in it."""

    def path(self, name: str) -> Path:
        """Return where to write the file `name` until it is published."""

    def publish(self, manifest: Mapping[str, Any], known: Iterable[str]) -> dict[str, Path]:
        """Put every file in its place and the manifest last; return where each can be read.

        1. All are on disk, with their checksums, before any old one is touched.
        2. Files of the earlier set that somebody has edited get another name.
        3. The old manifest goes: from here on the set is incomplete.
        4. The files come; `known` ones of an earlier set that were not written again go.
        5. The manifest comes.

        An error in step 1 leaves the old set, a later one leaves no manifest.
        """


def accepted_name(sha256: str) -> str:
    """Return the name of an accepted file in `Services.files`."""
    return f"{sha256}.csv"
