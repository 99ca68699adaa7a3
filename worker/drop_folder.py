"""The drop folder: what is complete in `inbox/`, whose it is in `processing/`, and every move to where it ends.

::

    inbox/        files that people, SFTP or a share put there
    processing/   TIME-RANDOM@WATCHER/: a file that a watcher has claimed, with claim.json and what is made of it
    archive/      DATE/BATCH/: the file and its reports
    rejected/     DATE/TIME-RANDOM-NAME/: a file that cannot be used, and why
    outbox/       BATCH-NAME/: the reports

Whatever moves is renamed, a whole folder at a time and into a name that is free, so that nothing is ever half there and
nothing is overwritten; all five are on one file system. The owner of a claim stands in its folder's name, so that
claiming, and taking over what a dead watcher left, are one rename each: of two watchers one succeeds. No ledger here.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from tasks import process_identity
from tasks.files.atomic_write import atomic_write, sync_file, sync_folder
from worker.dropped_names import COMPANIONS, NameKind, companions_of, kind_of, safe_name

#: Of each watcher, in `processing/`: who it is; touched while it lives.
WATCHERS = ".watchers"
CLAIM = "claim.json"
#: What a claim's folder holds besides `CLAIM`: the dropped file, its reports, and their copy on its way to the outbox.
DROPPED, REPORTS, OUTGOING = "file", "reports", "outgoing"
#: Failures that are not one file's: nothing at all can be taken before they are over.
_OF_THE_FOLDER = (errno.EXDEV, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOTDIR)


class Dropped(NamedTuple):
    """A file in the inbox that may be taken."""

    name: str
    companions: tuple[str, ...] = ()
    changed_at: float = 0.0


class _Seen(NamedTuple):
    version: tuple[int, int, int]
    since: float  #: by the monotonic clock


class Inbox:
    """Tells which files are complete: from one look to the next it remembers what it saw."""

    def __init__(self, folder: Path, settle_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._settle_seconds = settle_seconds
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self.settling = 0  #: how many files stood there at the last look and were not complete yet
        self.unseen: dict[str, OSError] = {}  #: names that the last look could not look at, and why

    def look(self) -> list[Dropped]:
        """Return what is complete now, oldest first: a companion says so, or it stayed as it was for long enough.

        A symbolic link is returned at once (to be rejected). Folders, special files, and names that are no file's
        (`dropped_names.RULES`) are passed over. Raises OSError.
        """
        files, companions = {}, {}
        for name, one in self._stats():
            kind = kind_of(name)
            if kind in COMPANIONS and stat.S_ISREG(one.st_mode):
                companions[name] = one
            elif kind is NameKind.FILE and (stat.S_ISREG(one.st_mode) or stat.S_ISLNK(one.st_mode)):
                files[name] = one
        owned = companions_of(files, companions)
        complete, seen = [], {}
        for name, one in files.items():
            mine = owned.get(name, [])
            told = any(
                kind_of(each) is NameKind.COMPLETE and companions[each].st_ctime_ns >= one.st_ctime_ns for each in mine
            )
            version = (one.st_ino, one.st_size, one.st_mtime_ns)
            before = self._seen.get(name)
            since = before.since if before is not None and before.version == version else self._now()
            seen[name] = _Seen(version, since)
            if told or stat.S_ISLNK(one.st_mode) or self._now() - since >= self._settle_seconds:
                complete.append(Dropped(name, tuple(mine), one.st_mtime))
        self._seen, self.settling = seen, len(seen) - len(complete)
        return sorted(complete, key=lambda each: (each.changed_at, each.name))

    def _stats(self) -> Iterator[tuple[str, os.stat_result]]:
        self.unseen = {}
        with os.scandir(self._folder) as found:
            for entry in found:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # somebody else was quicker
                    continue
                except OSError as error:
                    self.unseen[entry.name] = error


@dataclass
class Claim:
    """A file that this watcher has taken."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)  #: what stands in claim.json

    @property
    def id(self) -> str:
        """Its name in logs and reports: when it was taken, and a random part."""
        return str(self.facts.get("claim") or self.folder.name.partition("@")[0])

    @property
    def name(self) -> str:
        """The file's name, made safe."""
        return safe_name(str(self.facts["name"]))

    @property
    def file(self) -> Path:
        """Where the file is."""
        return self.folder / DROPPED / self.name

    @property
    def is_here(self) -> bool:
        """False once another watcher has taken it over; of a share that is away, True."""
        try:
            self.file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def note(self, **facts: Any) -> None:
        """Add to what is written down about it, on the disk before this returns."""
        self.facts.update(facts)
        with atomic_write(self.folder / CLAIM) as file:
            file.write(orjson.dumps(self.facts, option=orjson.OPT_INDENT_2))


class DropFolder:
    """The five folders, as one watcher sees them."""

    def __init__(
        self,
        root: Path,
        *,
        time_zone: str,
        settle_seconds: float,
        silent_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.inbox, self.processing, self.archive, self.rejected, self.outbox = (
            root / name for name in ("inbox", "processing", "archive", "rejected", "outbox")
        )
        self.watcher = secrets.token_hex(4)
        self._zone = ZoneInfo(time_zone)
        self._inbox = Inbox(self.inbox, settle_seconds, now)
        self._silent_seconds = silent_seconds
        self._now = now
        self._beats: dict[str, tuple[int, float]] = {}  # watcher -> its last sign of life, and when that was seen

    # ------------------------------------------------------------------------------------------------ being there

    def make(self) -> None:
        """Make the folders that are missing, for their owner only. Raises OSError."""
        watchers = self.processing / WATCHERS
        for folder in (self.root, self.inbox, self.processing, watchers, self.archive, self.rejected, self.outbox):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def beat(self) -> None:
        """Give a sign of life. Raises OSError."""
        mine = self._about(self.watcher)
        try:
            os.utime(mine)
        except FileNotFoundError:
            pid = os.getpid()
            about = {"host": process_identity.host(), "pid": pid, "process_started": process_identity.started(pid)}
            with atomic_write(mine) as file:
                file.write(orjson.dumps(about))

    def leave(self) -> None:
        """Say that this watcher has ended: what it still has claimed is anybody's at once."""
        with contextlib.suppress(OSError):
            self._about(self.watcher).unlink(missing_ok=True)

    def _about(self, watcher: str) -> Path:
        return self.processing / WATCHERS / f"{watcher}.json"

    def _is_dead(self, watcher: str) -> bool:
        """Tell whether a watcher is gone: by its process on this machine, elsewhere by its silence."""
        path = self._about(watcher)
        try:
            about = orjson.loads(path.read_bytes())
            beaten = path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        except orjson.JSONDecodeError:
            about, beaten = {}, 0
        if about.get("host") == process_identity.host():
            return process_identity.is_dead(int(about["pid"]), str(about["process_started"]))
        last, seen_at = self._beats.get(watcher, (None, 0.0))
        if beaten != last:
            self._beats[watcher] = beaten, self._now()
            return False
        return self._now() - seen_at > self._silent_seconds

    # --------------------------------------------------------------------------------------------------- claiming

    @property
    def settling(self) -> int:
        """How many files of the inbox were not complete at the last look."""
        return self._inbox.settling

    @property
    def unseen(self) -> dict[str, OSError]:
        """What the last look could not look at, and why."""
        return self._inbox.unseen

    def complete(self) -> list[Dropped]:
        """Return what may be taken from the inbox, oldest first. Raises OSError."""
        return self._inbox.look()

    def claim(self, dropped: Dropped) -> Claim | None:
        """Take a file out of the inbox; None if somebody else was quicker, or if it is a folder by now.

        Raises OSError, and leaves nothing behind then: of this file only, unless `is_shut` says that it is of all. A
        file that cannot be read stays where it is, so that people can fix it there. Once the file has moved nothing
        more is raised: what could not be written down is written with the next note.
        """
        source, taken_at = self.inbox / dropped.name, datetime.now(UTC)
        claim_id = f"{taken_at:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"
        facts = {"name": safe_name(dropped.name), "claim": claim_id, "claimed_at": taken_at.timestamp()}
        claim = Claim(self.processing / f"{claim_id}@{self.watcher}", facts)
        try:
            if not _is_to_be_taken(source):
                return None
            claim.folder.mkdir(mode=0o700)
            (claim.folder / DROPPED).mkdir(mode=0o700)
            source.rename(claim.file)
        except OSError as error:
            shutil.rmtree(claim.folder, ignore_errors=True)
            if isinstance(error, FileNotFoundError) and not os.path.lexists(source):
                return None
            if error.errno == errno.EXDEV:
                why = "it is on another file system than processing/, and both must be on one"
                raise OSError(errno.EXDEV, why, str(self.inbox)) from error
            raise
        with contextlib.suppress(OSError):
            claim.note()
        for companion in dropped.companions:
            with contextlib.suppress(OSError):
                (self.inbox / companion).rename(claim.folder / DROPPED / safe_name(companion))
        with contextlib.suppress(OSError):
            for folder in (claim.folder / DROPPED, claim.folder, self.processing, self.inbox):
                sync_folder(folder)
        return claim

    def is_shut(self, error: OSError) -> bool:
        """Tell whether a failure to take a file hits every other file as well."""
        open_ = all(os.access(folder, os.W_OK | os.X_OK) for folder in (self.inbox, self.processing))
        return error.errno in _OF_THE_FOLDER or not open_

    def take_over(self, failed: Callable[[str, OSError], None]) -> list[Claim]:
        """Take what dead watchers have left, oldest first, and clear away their traces. Raises OSError.

        One that cannot be taken over does not keep the others: `failed` is told its name, and it is tried again.
        """
        taken, living, left = [], {self.watcher}, set()
        for folder in sorted(self.processing.glob("*@*")):
            name, _, watcher = folder.name.rpartition("@")
            try:
                if watcher in living or not self._is_dead(watcher):
                    living.add(watcher)
                    continue
                claim = self._take_over(folder, folder.with_name(f"{name}@{self.watcher}"))
            except OSError as error:
                left.add(watcher)
                failed(name, error)
                continue
            if claim is not None:
                taken.append(claim)
        for path in (self.processing / WATCHERS).glob("*.json"):
            if path.stem not in living | left and self._is_dead(path.stem):
                path.unlink(missing_ok=True)
        return taken

    def _take_over(self, folder: Path, mine: Path) -> Claim | None:
        try:
            folder.rename(mine)
        except FileNotFoundError:  # somebody else was quicker
            return None
        claim = _found(mine)
        if claim is None:  # its watcher died before it had the file
            shutil.rmtree(mine, ignore_errors=True)
        return claim

    def is_held(self, batch_id: int, *, but: Claim) -> bool:
        """Tell whether another claim, of whatever watcher, is about this batch."""
        for folder in self.processing.glob("*@*"):
            with contextlib.suppress(OSError, orjson.JSONDecodeError):
                if folder != but.folder and orjson.loads((folder / CLAIM).read_bytes()).get("batch") == batch_id:
                    return True
        return False

    # ----------------------------------------------------------------------------------------------------- ending

    def name_in_outbox(self, claim: Claim, name: str) -> str:
        """Return `name`, or the next free one, for a claim's reports; the same again for the same claim.

        A batch may have several: its last reports, and those of nights that it did not end in. Raises OSError.
        """
        names = dict(claim.facts.get("outbox", {}))
        if name not in names:
            names[name] = next(each for each in _free_names(name) if not os.path.lexists(self.outbox / each))
            claim.note(outbox=names)
        return str(names[name])

    def hand_out(self, claim: Claim, name: str) -> Path:
        """Put a copy of a claim's reports into the outbox, whole or not at all; done again it changes nothing.

        Raises OSError.
        """
        target = self.outbox / self.name_in_outbox(claim, name)
        if target.exists():
            return target
        outgoing = claim.folder / OUTGOING
        if outgoing.exists():
            shutil.rmtree(outgoing)
        outgoing.mkdir(mode=0o700)
        for report in sorted((claim.folder / REPORTS).iterdir()):
            if report.is_file():
                shutil.copyfile(report, outgoing / report.name)
                sync_file(outgoing / report.name)
        sync_folder(outgoing)
        outgoing.rename(target)
        sync_folder(self.outbox)
        return target

    def put_away(self, claim: Claim, where: Path, name: str) -> Path:
        """Move a claim's folder to where it ends: `where`/DATE/`name`, or the next free name. Raises OSError."""
        day = where / self._day(0)
        day.mkdir(mode=0o700, exist_ok=True)
        for free in _free_names(name):
            target = day / free
            try:
                if os.path.lexists(target):
                    continue
                claim.folder.rename(target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # taken since
                    continue
                raise
            break
        for folder in (day, where, self.processing):
            sync_folder(folder)
        return target

    def put_away_lately(self) -> list[Path]:
        """Return the folders of what came to its end today and yesterday. Raises OSError."""
        days = [where / self._day(ago) for where in (self.archive, self.rejected) for ago in (1, 0)]
        return [folder for day in days if day.is_dir() for folder in sorted(day.iterdir())]

    def _day(self, ago: int) -> str:
        return f"{datetime.now(self._zone) - timedelta(days=ago):%Y-%m-%d}"

    def arrived_since(self, at: float) -> bool:
        """Tell whether any watcher has taken a file since then, wherever that file is by now."""
        kept = [self.processing.glob("*@*"), self.archive.glob("*/*"), self.rejected.glob("*/*")]
        for folder in (folder for folders in kept for folder in folders):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime >= at and _claimed_at(folder) >= at:
                    return True
        return False


def _free_names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _is_to_be_taken(path: Path) -> bool:
    """Tell whether something is a file (or a link, to be rejected) that can be read. Raises OSError."""
    mode = path.lstat().st_mode
    if stat.S_ISREG(mode):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    return not stat.S_ISDIR(mode)


def _found(folder: Path) -> Claim | None:
    """Return the claim that a folder holds; None if there is no file in it. What claim.json lacks is found anew."""
    claim = Claim(folder)
    with contextlib.suppress(FileNotFoundError, orjson.JSONDecodeError):
        facts = orjson.loads((folder / CLAIM).read_bytes())
        claim.facts = facts if isinstance(facts, dict) else {}
    if "name" not in claim.facts:
        left = [each.name for each in (folder / DROPPED).glob("*") if kind_of(each.name) not in COMPANIONS]
        claim.facts["name"] = min(left, default="")
    if not isinstance(claim.facts.get("claimed_at"), float):
        taken_at = folder.name.partition("-")[0]
        with contextlib.suppress(ValueError):
            at = datetime.strptime(taken_at, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
            claim.facts["claimed_at"] = at.timestamp()
        claim.facts.setdefault("claimed_at", time.time())
    return claim if claim.facts["name"] and claim.is_here else None


def _claimed_at(folder: Path) -> float:
    try:
        facts: Mapping[str, Any] = orjson.loads((folder / CLAIM).read_bytes())
    except orjson.JSONDecodeError:
        return 0.0
    return float(facts.get("claimed_at", 0.0))
