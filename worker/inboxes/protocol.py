"""What a watcher asks of an inbox, wherever its files lie: in a local folder, on an SFTP server, in an object store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from worker.inboxes.names import safe_name

#: What a claim's folder holds besides claim.json: the dropped file with its companions, and its reports.
FILE, REPORTS = "file", "reports"


class CompleteFile(NamedTuple):
    """A file in the inbox that may be claimed."""

    name: str
    companions: tuple[str, ...] = ()
    changed_at: float = 0.0  #: epoch seconds


@dataclass
class Claim:
    """A dropped file that one watcher has taken."""

    folder: Path  #: its working folder on this machine
    facts: dict[str, Any] = field(default_factory=dict)  #: what claim.json says, see `Inbox.note`

    @property
    def id(self) -> str:
        """Its name in logs and reports: when it was claimed, and a random part."""
        return str(self.facts.get("claim") or self.folder.name.partition("@")[0])

    @property
    def name(self) -> str:
        """The file's name, made safe."""
        return safe_name(str(self.facts["name"]))

    @property
    def file(self) -> Path:
        """Where the file is on this machine."""
        return self.folder / FILE / self.name

    @property
    def reports(self) -> Path:
        """Where its reports are written before they are published."""
        return self.folder / REPORTS


class Inbox(Protocol):
    """An inbox as one of its watchers sees it; several watchers may share it.

    Each method may be called again after a crash at any point. All raise OSError when the store fails, unless they say
    otherwise.
    """

    @property
    def location(self) -> str:
        """What logs, notifications and `--json` call it; the same for all its watchers."""

    @property
    def incoming(self) -> str:
        """Where people drop files."""

    @property
    def settling(self) -> int:
        """How many files were not complete yet at the last `complete_files`."""

    @property
    def unreadable(self) -> Mapping[str, OSError]:
        """The names that the last `complete_files` could not examine, and why."""

    def prepare(self) -> None:
        """Make what is missing in the store."""

    def send_heartbeat(self) -> None:
        """Show the other watchers that this one is alive."""

    def leave(self) -> None:
        """Release this watcher's claims to the others. Never raises."""

    def changes(self) -> Iterator[object]:
        """Yield whenever something may have changed in the inbox. May raise any exception if it cannot be watched."""

    def complete_files(self) -> list[CompleteFile]:
        """Return the files that may be claimed now, oldest first."""

    def arrived_since(self, at: float) -> bool:
        """Return whether any watcher has claimed a file since then (epoch seconds)."""

    def claim(self, file: CompleteFile) -> Claim | None:
        """Claim a file; None if another watcher was faster. After OSError the file is still in the inbox."""

    def blocks_every_file(self, error: OSError) -> bool:
        """Return whether a failure to claim a file concerns all other files, too."""

    def take_over(self, on_failure: Callable[[str, OSError], None]) -> list[Claim]:
        """Take over the claims of dead watchers, oldest first; `on_failure` receives the ids of those that failed."""

    def read_version(self, claim: Claim) -> dict[str, Any]:
        """Return what to note about the file's content: `sha256`, and what shows a later change without reading it."""

    def note(self, claim: Claim, **facts: Any) -> None:
        """Add facts to a claim, durably."""

    def holds(self, claim: Claim) -> bool:
        """Return False once another watcher has taken the claim over; True if the store cannot say. Never raises."""

    def others_claim(self, batch_id: int, claim: Claim) -> bool:
        """Return whether another claim, of whatever watcher, belongs to this batch."""

    def publish(self, claim: Claim, name: str) -> None:
        """Copy a claim's reports to where people fetch them, all or none; a repetition changes nothing."""

    def resubmit_command(self, claim: Claim, name: str, report: str) -> str:
        """Return what a person types to drop a corrected report, of those published under `name`, again."""

    def archive(self, claim: Claim, name: str) -> Claim:
        """Move a claim to the archive, under `name` or the next free one; return it as it is there."""

    def reject(self, claim: Claim, name: str) -> Claim:
        """Move a claim to the rejected files, under `name` or the next free one; return it as it is there."""

    def late_uploads(self) -> Iterator[Claim]:
        """Yield the archived and rejected claims whose file seems to have changed after it was read."""

    def has_other_content(self, claim: Claim) -> bool:
        """Return whether a closed claim's file differs, by its checksum, from what was read."""

    def return_to_inbox(self, claim: Claim, accepted: Path | None) -> bool:
        """Move a closed claim's file back to the inbox under a new name; a copy of `accepted` takes its place.

        Return False if the file had been moved before.
        """
