"""How long whoever failed to sign in has to wait, by name and by address.

Counted in a file beside the passwords: for every console of this home together, and also after a start.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

FILE_NAME = "console-attempts"
#: So many failures of a name, and of an address, cost nothing; several people may share an address.
FREE_OF_NAME, FREE_OF_ADDRESS = 4, 20
LONGEST_WAIT_SECONDS = 300.0
#: After so long without an attempt the count begins anew; who waits for that makes no more guesses than who goes on.
FORGOTTEN_AFTER_SECONDS = 3600.0
#: Names and addresses that are remembered; the one that was used longest ago is forgotten first.
MOST_KEYS = 10_000
_TABLE = "create table if not exists failures (key blob primary key, count integer, free_at real, used_at real)"
_TOO_MANY = "delete from failures where key in (select key from failures order by used_at desc limit -1 offset ?)"
_INDEX = "create index if not exists failures_used_at on failures (used_at)"


class Attempts:
    """Counts failures; safe to share between threads and processes. A name that nobody has waits like any other."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock

    def seconds_to_wait(self, name: str, address: str) -> float:
        """Return for how long no attempt with this name, or from this address, is looked at; 0: try.

        An attempt that may be tried counts as failed until `succeeded`: a thousand at once are no thousand tries.
        """
        now = self._clock()
        with self._file() as file:
            counts, wait = {}, 0.0
            for key, free in ((_name(name), FREE_OF_NAME), (_address(address), FREE_OF_ADDRESS)):
                count, free_at = _failures(file, key, now)
                counts[key] = count + 1, free
                wait = max(wait, min(free_at - now, LONGEST_WAIT_SECONDS))
            if wait > 0:
                return wait
            for key, (count, free) in counts.items():
                longer = min(2.0 ** min(count - free, 30), LONGEST_WAIT_SECONDS) if count > free else 0.0
                file.execute("insert or replace into failures values (?, ?, ?, ?)", (key, count, now + longer, now))
            _forget(file, now)
        return 0.0

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name, and one of its address."""
        with self._file() as file:
            file.execute("delete from failures where key = ?", (_name(name),))
            file.execute("update failures set count = count - 1, free_at = 0 where key = ?", (_address(address),))

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """Open the file for this thread alone, one after the other."""
        with closing(sqlite3.connect(self._path, timeout=10, isolation_level=None)) as file:
            file.execute("pragma synchronous = off")  # what a power cut takes are guesses of the last second
            file.execute("begin immediate")
            file.execute(_TABLE)
            file.execute(_INDEX)
            yield file
            file.execute("commit")


def _failures(file: sqlite3.Connection, key: bytes, now: float) -> tuple[int, float]:
    since = now - FORGOTTEN_AFTER_SECONDS
    found = file.execute("select count, free_at from failures where key = ? and used_at > ?", (key, since)).fetchone()
    return found or (0, 0.0)


def _forget(file: sqlite3.Connection, now: float) -> None:
    file.execute("delete from failures where used_at <= ?", (now - FORGOTTEN_AFTER_SECONDS,))
    file.execute(_TOO_MANY, (MOST_KEYS,))


def _name(name: str) -> bytes:
    return _digest(f"name {name}")  # somebody may have typed a password there


def _address(address: str) -> bytes:
    return _digest(f"address {address}")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
