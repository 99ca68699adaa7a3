"""Writes a file whole or not at all, and on the disk."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path

#: How the name of a file that is still being written ends.
UNFINISHED = ".part"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BufferedRandom]:
    """Write a file for its owner only; at the end of the block it is in its place, and on the disk.

    After an error, or if this process is killed, what was there before still is. What was written can be read again
    inside the block. Raises OSError.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=UNFINISHED)
    try:
        with os.fdopen(handle, "w+b") as target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Have a file's content on the disk, for its owner only. Raises OSError."""
    with path.open("rb+") as file:
        os.fchmod(file.fileno(), 0o600)
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
