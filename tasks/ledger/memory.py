"""Whether this is the ledger that was worked with before, and as new as it was then.

The ledger has a random id and a counter that grows while it is written to.

1. a process lets the counter grow at most once a second, with or just after what it has written
2. only after that commit the counter is copied to a small file in the home, whole or not at all: whatever is killed,
   and whenever, the copy is never ahead of its ledger
3. before rows are claimed or marked, ledger, copy and what the process has seen are compared, about once a second

A copy that is missing (a new container) or cannot be read is written anew, and one that is behind is normal: each home
has its own. The copy is not flushed to the disk: after a power cut an older one is there, or none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson
import structlog
from sqlalchemy import URL, Connection, insert, select, update

from tasks.error_texts import Sentence
from tasks.errors import LedgerReplaced
from tasks.ledger.schema import ledger_identity

log = structlog.get_logger("onboard")

#: How often, in seconds, a process lets the counter grow at most, and how often it compares before it sends.
ONCE_SECONDS = 1.0
#: By so much the counter of an accepted ledger goes ahead of all that was ever seen, here or in another home.
ACCEPTED_AHEAD = 10**12
_CHOICE = Sentence(
    "Nothing is sent. Stop everything and restore the newest backup; or go on with this one: `onboard ledger accept`"
    " lets every row be looked up at elepay before it is sent (docs/3am/lost.md)"
)


class Seen(NamedTuple):
    """Which ledger was seen, and how far its counter had come."""

    ledger_id: str
    counter: int


class Memory:
    """What this process, and its home, know of the ledger at one place; safe to share between threads.

    `copy` is the file in the home (None: there is no home), `files` those of a SQLite ledger.
    """

    def __init__(
        self,
        place: str,
        copy: Path | None,
        files: Sequence[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._copy, self._files, self._clock = place, copy, files, clock
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._inodes: dict[Path, tuple[int, int]] = {}
        self._changed = False  # something was committed since the counter last grew
        self._look_at = self._grow_at = float("-inf")
        self._said = False

    # ---------------------------------------------------------------------------------------------------- comparing

    @property
    def is_look_due(self) -> bool:
        """True if the last comparison was too long ago."""
        return self._clock() >= self._look_at

    def look_again(self) -> None:
        """Compare at the next opportunity: there is a new connection, perhaps to another ledger."""
        self._look_at = float("-inf")

    def look(self, connection: Connection) -> None:
        """Raise LedgerReplaced if the ledger is another one, or older, than was seen before; once a second.

        What was seen before is read first: the ledger behind a copy can be newer than it, never older.
        """
        if not self.is_look_due:
            return
        started = self._clock()
        before = [seen for seen in (self._seen, self.copied()) if seen is not None]
        found = _read(connection)
        if found is None:
            raise LedgerReplaced("the ledger at {place} has lost its id. {choice}", place=self._place, choice=_CHOICE)
        if why := self._exchanged() or _differs(found, before):
            raise LedgerReplaced("the ledger at {place} {why}. {choice}", place=self._place, why=why, choice=_CHOICE)
        self._note(found)
        self._look_at = started + ONCE_SECONDS
        if len(before) < 2 and self._copy is not None and not self._copy.exists():
            self._write_copy(found)

    def require_new_place(self, copied: Seen | None) -> None:
        """Raise LedgerReplaced if this home has worked with a ledger here; the caller has seen that there is none.

        `copied` is what `copied` returned before the caller looked: another process may make the ledger, and its copy,
        at this moment.
        """
        if copied is not None:
            raise LedgerReplaced(
                "there is no ledger at {place} any more. Nothing is sent. Restore its newest backup; or begin"
                " with an empty one: `onboard ledger create`, and then let the files come again with --verify-first"
                " (docs/3am/lost.md)",
                place=self._place,
            )

    def _exchanged(self) -> Sentence | None:
        """Say whether a file of the ledger is no longer the one that this process has open."""
        for path in self._files:
            try:
                status = path.stat()
            except FileNotFoundError:
                if path in self._inodes:
                    return Sentence("was deleted while this program ran ({name})", name=path.name)
                continue
            inode = status.st_dev, status.st_ino
            if self._inodes.setdefault(path, inode) != inode:
                return Sentence("was exchanged while this program ran ({name})", name=path.name)
        return None

    # ------------------------------------------------------------------------------------------------------ growing

    def changed(self) -> None:
        """Note that something was committed that must not be forgotten."""
        self._changed = True

    def is_growth_due(self, *, at_once: bool = False) -> bool:
        """True if the counter is to grow: something was committed, and the last time was too long ago."""
        return self._changed and (at_once or self._clock() >= self._grow_at)

    def grow(self, connection: Connection) -> Seen | None:
        """Let the counter grow; what is returned is for `keep` after the commit.

        None: this is not the ledger that was seen before; the next look says so.
        """
        self._changed = False
        more = update(ledger_identity).values(change_counter=ledger_identity.c.change_counter + 1)
        row = connection.execute(
            more.returning(ledger_identity.c.ledger_id, ledger_identity.c.change_counter)
        ).one_or_none()
        seen = self._seen
        if row is None or (seen is not None and _differs(Seen(*row), [seen])):
            self.look_again()
            return None
        return Seen(*row)

    def keep(self, seen: Seen) -> None:
        """Copy a counter whose growth is committed to the home."""
        self._grow_at = self._clock() + ONCE_SECONDS
        self._note(seen)
        self._write_copy(seen)

    def adopt(self, seen: Seen) -> None:
        """Know this ledger, and no other, from now on: somebody has said so. Its id and counter are committed."""
        with self._lock:
            self._seen = seen
        self._write_copy(seen, whatever_was_there=True)
        self.look_again()

    def _note(self, seen: Seen) -> None:
        with self._lock:
            if self._seen is None or seen.counter > self._seen.counter:
                self._seen = seen

    # ----------------------------------------------------------------------------------------------------- the copy

    def copied(self) -> Seen | None:
        """Return what the home's copy says; None if there is none that can be read."""
        if self._copy is None:
            return None
        try:
            fields = orjson.loads(self._copy.read_bytes())
            return Seen(str(fields["ledger_id"]), int(fields["counter"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _write_copy(self, seen: Seen, *, whatever_was_there: bool = False) -> None:
        """Write the copy, unless there is a newer one, or one of another ledger; a home may not be writable."""
        if self._copy is None:
            return
        try:
            self._copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._copy.with_suffix(".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                there = self.copied()
                newer = there is None or (there.ledger_id == seen.ledger_id and there.counter < seen.counter)
                if newer or whatever_was_there:
                    part = self._copy.with_suffix(".part")
                    part.write_bytes(orjson.dumps({"ledger": self._place, **seen._asdict()}) + b"\n")
                    part.replace(self._copy)
        except OSError as error:
            if not self._said:
                self._said = True
                log.info("the ledger's counter cannot be copied to ONBOARD_HOME", why=error.strerror)


def copy_of(home: Path, url: URL) -> Path:
    """Return where a home keeps the copy of the counter of the ledger at a URL, whoever its user is.

    A SQLite ledger in the home is known by its place there: it stays the same when the home is moved.
    """
    if url.get_backend_name() == "sqlite":
        path, folder = Path(os.path.realpath(str(url.database))), Path(os.path.realpath(home))
        place = str(path.relative_to(folder) if path.is_relative_to(folder) else path)
    else:
        query = [f"{name}={url.query[name]}" for name in ("host", "port", "service") if name in url.query]
        place = " ".join([f"{url.host or ''}:{url.port or ''}/{url.database}", *query])
    return home / f"ledger-seen-{hashlib.sha256(place.encode()).hexdigest()[:8]}.json"


def name_ledger(connection: Connection) -> Seen:
    """Return a ledger's id and counter; one that has no id yet is given one. The caller keeps others out meanwhile."""
    found = _read(connection)
    if found is None:
        found = Seen(secrets.token_hex(16), 0)
        connection.execute(insert(ledger_identity).values(ledger_id=found.ledger_id, change_counter=found.counter))
    return found


def _read(connection: Connection) -> Seen | None:
    row = connection.execute(select(ledger_identity.c.ledger_id, ledger_identity.c.change_counter)).one_or_none()
    return None if row is None else Seen(*row)


def _differs(found: Seen, before: Sequence[Seen]) -> Sentence | None:
    """Say how a ledger differs from what was seen before; one that has only grown does not."""
    for seen in before:
        if seen.ledger_id != found.ledger_id:
            return Sentence("is another one than was worked with before")
        if seen.counter > found.counter:
            return Sentence(
                "is older than it was (its counter is {now:,} and was {before:,})",
                now=found.counter,
                before=seen.counter,
            )
    return None
