"""The drop folder: an inbox in a folder of this machine, or on a share that is mounted.

::

    inbox/        files that people, SFTP or a share put there
    processing/   TIME-RANDOM@WATCHER/: a file that a watcher has claimed, with claim.json and what is made of it
    archive/      DATE/BATCH/: the file and its reports
    rejected/     DATE/TIME-RANDOM-NAME/: a file that cannot be used, and why
    outbox/       BATCH-NAME/: the reports

Whatever moves is renamed, a whole folder at a time and to a name that is free, so that nothing is ever half there and
nothing is overwritten; all five are on one file system.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from worker.inboxes import claims, late_uploads
from worker.inboxes.claims import Claims
from worker.inboxes.dated_folder import DatedFolder
from worker.inboxes.file_events import events_in
from worker.inboxes.heartbeats import Heartbeats
from worker.inboxes.late_uploads import LateUploads
from worker.inboxes.outbox import Outbox
from worker.inboxes.protocol import Claim, CompleteFile
from worker.inboxes.settling import SettlingFiles


class Paths(NamedTuple):
    """The folders of a drop folder."""

    root: Path
    inbox: Path
    processing: Path
    watchers: Path
    archive: Path
    rejected: Path
    outbox: Path

    @classmethod
    def below(cls, root: Path) -> Paths:
        """Return the folders below a root."""
        processing = root / "processing"
        return cls(
            root,
            inbox=root / "inbox",
            processing=processing,
            watchers=processing / ".watchers",
            archive=root / "archive",
            rejected=root / "rejected",
            outbox=root / "outbox",
        )


class LocalFolder:
    """A drop folder, as one watcher sees it; implements `protocol.Inbox`."""

    def __init__(
        self,
        root: Path,
        *,
        time_zone: str,
        settle_seconds: float,
        silent_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.paths = Paths.below(root)
        self._heartbeats = Heartbeats(self.paths.watchers, silent_seconds, now)
        self._files = SettlingFiles(self.paths.inbox, settle_seconds, now)
        self._claims = Claims(self.paths.inbox, self.paths.processing, self._heartbeats)
        self._outbox = Outbox(self.paths.outbox)
        self._archive = DatedFolder(self.paths.archive, time_zone)
        self._rejected = DatedFolder(self.paths.rejected, time_zone)
        self._late_uploads = LateUploads([self._archive, self._rejected])

    @property
    def location(self) -> str:
        """The path of the drop folder."""
        return str(self.paths.root)

    @property
    def incoming(self) -> str:
        """The path of `inbox/`."""
        return str(self.paths.inbox)

    @property
    def settling(self) -> int:
        """How many files were not complete yet at the last `complete_files`."""
        return self._files.settling

    @property
    def unreadable(self) -> Mapping[str, OSError]:
        """The names that the last `complete_files` could not examine, and why."""
        return self._files.unreadable

    def prepare(self) -> None:
        """Make the folders that are missing, for their owner only. Raises OSError."""
        for folder in self.paths:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def send_heartbeat(self) -> None:
        """Show the other watchers that this one is alive. Raises OSError."""
        self._heartbeats.send()

    def leave(self) -> None:
        """Release this watcher's claims to the others at once."""
        self._heartbeats.end()

    def changes(self) -> Iterator[object]:
        """Yield soon after something changed in `inbox/`. May raise any exception, e.g. on network shares."""
        yield from events_in(self.paths.inbox)

    def complete_files(self) -> list[CompleteFile]:
        """Return the files that may be claimed now, oldest first. Raises OSError."""
        return self._files.scan()

    def arrived_since(self, at: float) -> bool:
        """Return whether any watcher has claimed a file since then, wherever it is by now (epoch seconds)."""
        patterns = ((self.paths.processing, "*@*"), (self.paths.archive, "*/*"), (self.paths.rejected, "*/*"))
        for folder in itertools.chain.from_iterable(where.glob(pattern) for where, pattern in patterns):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime >= at and claims.claimed_at(folder) >= at:
                    return True
        return False

    def claim(self, file: CompleteFile) -> Claim | None:
        """Claim a file; None if another watcher was faster. After OSError the file is still in `inbox/`."""
        return self._claims.claim(file)

    def blocks_every_file(self, error: OSError) -> bool:
        """Return whether a failure to claim a file concerns all other files, too."""
        return self._claims.blocks_every_file(error)

    def take_over(self, on_failure: Callable[[str, OSError], None]) -> list[Claim]:
        """Take over the claims of dead watchers, oldest first; `on_failure` receives the ids of those that failed.

        Raises OSError.
        """
        return self._claims.take_over(on_failure)

    def read_version(self, claim: Claim) -> dict[str, Any]:
        """Return `size`, `mtime_ns` and `sha256` of a claim's file. Raises OSError."""
        return late_uploads.read_version(claim.file)

    def note(self, claim: Claim, **facts: Any) -> None:
        """Add facts to claim.json, and flush it to the disk. Raises OSError."""
        claims.note(claim, **facts)

    def holds(self, claim: Claim) -> bool:
        """Return False once another watcher has taken the claim over; True if a share is away."""
        return claims.has_file(claim)

    def others_claim(self, batch_id: int, claim: Claim) -> bool:
        """Return whether another claim, of whatever watcher, belongs to this batch."""
        return self._claims.others_claim(batch_id, claim)

    def publish(self, claim: Claim, name: str) -> None:
        """Copy a claim's reports to the outbox, all or none; a repetition changes nothing. Raises OSError."""
        self._outbox.publish(claim, name)

    def resubmit_command(self, claim: Claim, name: str, report: str) -> str:
        """Return the command that copies a report from the outbox to `inbox/`. Raises OSError."""
        path = self._outbox.path_for(claim, name) / report
        return f"cp {shlex.quote(str(path))} {shlex.quote(str(self.paths.inbox))}/"

    def archive(self, claim: Claim, name: str) -> Claim:
        """Move a claim to `archive/DATE/NAME/`; return it as it is there. Raises OSError."""
        return Claim(self._archive.add(claim.folder, name), claim.facts)

    def reject(self, claim: Claim, name: str) -> Claim:
        """Move a claim to `rejected/DATE/NAME/`; return it as it is there. Raises OSError."""
        return Claim(self._rejected.add(claim.folder, name), claim.facts)

    def late_uploads(self) -> Iterator[Claim]:
        """Yield the closed claims whose file seems to have changed after it was read. Raises OSError."""
        yield from self._late_uploads.changed()

    def has_other_content(self, claim: Claim) -> bool:
        """Return whether a closed claim's file differs, by its checksum, from what was read. Raises OSError."""
        return late_uploads.has_other_content(claim)

    def return_to_inbox(self, claim: Claim, accepted: Path | None) -> bool:
        """Move a changed file back to `inbox/`; False if it had been moved before. Raises OSError."""
        return late_uploads.return_to_inbox(claim, accepted, self.paths.inbox) is not None
