"""Files that watchers have taken, in `processing/`: each in a folder that is named after the claim and its watcher.

To claim a file, and to take over the claim of a dead watcher, are one rename each, so of two watchers one succeeds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from tasks.files.atomic_write import atomic_write, sync_folder
from worker.inboxes.heartbeats import Heartbeats
from worker.inboxes.names import COMPANIONS, kind_of, safe_name
from worker.inboxes.protocol import FILE, Claim, CompleteFile

#: What is known of a claim, in its folder.
FACTS = "claim.json"
_TIME = "%Y%m%dT%H%M%S.%fZ"
#: Failures that concern every file: nothing can be claimed before they are over.
_OF_EVERY_FILE = (errno.EXDEV, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOTDIR)


def note(claim: Claim, **facts: Any) -> None:
    """Add facts to a claim, and flush them to the disk. Raises OSError."""
    claim.facts.update(facts)
    with atomic_write(claim.folder / FACTS) as file:
        file.write(orjson.dumps(claim.facts, option=orjson.OPT_INDENT_2))


def has_file(claim: Claim) -> bool:
    """Return False if the claim's file is not there any more; True if a share that is away cannot say."""
    try:
        claim.file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


class Claims:
    """The claims of all watchers, as one of them sees them."""

    def __init__(self, inbox: Path, processing: Path, heartbeats: Heartbeats) -> None:
        self._inbox, self._processing = inbox, processing
        self._heartbeats = heartbeats

    def claim(self, file: CompleteFile) -> Claim | None:
        """Move a file out of the inbox; None if another watcher was faster, or if it is a folder by now.

        Raises OSError, and leaves nothing behind then: a file that cannot be read stays where it is, so that people can
        fix it there. Once the file has moved nothing more is raised: what could not be written is written with the next
        note.
        """
        source, claim = self._inbox / file.name, self._new_claim(file.name)
        try:
            if not _can_be_claimed(source):
                return None
            for folder in (claim.folder, claim.folder / FILE):
                folder.mkdir(mode=0o700)
            source.rename(claim.file)
        except OSError as error:
            shutil.rmtree(claim.folder, ignore_errors=True)
            if isinstance(error, FileNotFoundError) and not os.path.lexists(source):
                return None
            if error.errno == errno.EXDEV:
                raise self._on_another_file_system() from error
            raise
        self._complete(claim, file.companions)
        return claim

    def _new_claim(self, name: str) -> Claim:
        now = datetime.now(UTC)
        claim_id = f"{now:{_TIME}}-{secrets.token_hex(4)}"
        facts = {"name": safe_name(name), "claim": claim_id, "claimed_at": now.timestamp()}
        return Claim(self._processing / f"{claim_id}@{self._heartbeats.watcher}", facts)

    def _on_another_file_system(self) -> OSError:
        why = "it is on another file system than processing/, and both must be on one"
        return OSError(errno.EXDEV, why, str(self._inbox))

    def _complete(self, claim: Claim, companions: Iterable[str]) -> None:
        """Write a new claim down, fetch the companions, and flush all names to the disk, as far as that is possible."""
        with contextlib.suppress(OSError):
            note(claim)
        for companion in companions:
            with contextlib.suppress(OSError):
                (self._inbox / companion).rename(claim.folder / FILE / safe_name(companion))
        with contextlib.suppress(OSError):
            for folder in (claim.folder / FILE, claim.folder, self._processing, self._inbox):
                sync_folder(folder)

    def blocks_every_file(self, error: OSError) -> bool:
        """Return whether a failure to claim a file concerns all other files, too."""
        writable = all(os.access(folder, os.W_OK | os.X_OK) for folder in (self._inbox, self._processing))
        return error.errno in _OF_EVERY_FILE or not writable

    def take_over(self, on_failure: Callable[[str, OSError], None]) -> list[Claim]:
        """Take over the claims of dead watchers, oldest first, and remove their heartbeats. Raises OSError.

        A claim that cannot be taken over does not block the others: `on_failure` receives its id, and the next call
        tries again.
        """
        taken, alive, failed = [], {self._heartbeats.watcher}, set()
        for folder in self._folders():
            claim_id, _, watcher = folder.name.rpartition("@")
            try:
                if watcher in alive or not self._heartbeats.is_dead(watcher):
                    alive.add(watcher)
                elif claim := self._take_over(folder, claim_id):
                    taken.append(claim)
            except OSError as error:
                failed.add(watcher)
                on_failure(claim_id, error)
        self._heartbeats.remove_dead(but=alive | failed)
        return taken

    def _take_over(self, folder: Path, claim_id: str) -> Claim | None:
        target = folder.with_name(f"{claim_id}@{self._heartbeats.watcher}")
        try:
            folder.rename(target)
        except FileNotFoundError:  # another watcher was faster
            return None
        claim = recover(target)
        if claim is None:  # its watcher died before it had the file
            shutil.rmtree(target, ignore_errors=True)
        return claim

    def others_claim(self, batch_id: int, claim: Claim) -> bool:
        """Return whether another claim, of whatever watcher, belongs to this batch."""
        for folder in self._folders():
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                if folder != claim.folder and orjson.loads((folder / FACTS).read_bytes()).get("batch") == batch_id:
                    return True
        return False

    def _folders(self) -> Iterator[Path]:
        """Yield the folders of all claims, oldest first."""
        yield from sorted(self._processing.glob("*@*"))


def _can_be_claimed(path: Path) -> bool:
    """Return whether a path is a file that can be read, or a link (to be rejected). Raises OSError."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    return not stat.S_ISDIR(mode)


def recover(folder: Path) -> Claim | None:
    """Return the claim in a folder, whatever is left of claim.json; None if there is no file. Raises OSError."""
    claim = Claim(folder)
    with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
        facts = orjson.loads((folder / FACTS).read_bytes())
        claim.facts = facts if isinstance(facts, dict) else {}
    if "name" not in claim.facts:
        names = [path.name for path in (folder / FILE).glob("*") if kind_of(path.name) not in COMPANIONS]
        claim.facts["name"] = min(names, default="")
    if not isinstance(claim.facts.get("claimed_at"), float):
        claim.facts["claimed_at"] = _time_in_name(folder.name) or claim.facts.get("claimed_at", time.time())
    return claim if claim.facts["name"] and has_file(claim) else None


def _time_in_name(name: str) -> float | None:
    try:
        return datetime.strptime(name.partition("-")[0], _TIME).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def claimed_at(folder: Path) -> float:
    """Return when the claim in a folder was made, in epoch seconds; 0 if claim.json is damaged. Raises OSError."""
    try:
        return float(orjson.loads((folder / FACTS).read_bytes()).get("claimed_at", 0.0))
    except orjson.JSONDecodeError:
        return 0.0
