"""What a watcher has done since it started."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Exit code when rows or rejected files need a person, as of `onboard run`.
NEED_A_PERSON = 1


@dataclass(slots=True)
class Summary:
    """Counts of files, and the exit code that they amount to."""

    taken: int = 0
    archived: int = 0
    rejected: int = 0
    already_onboarded: int = 0
    exit_code: int = field(default=0, init=False)

    def raise_exit_code(self, code: int) -> None:
        """Exit with this code unless a higher one is due."""
        self.exit_code = max(self.exit_code, code)

    def counts(self) -> dict[str, int]:
        """Return the counts as `--json` shows them."""
        return {
            "taken": self.taken,
            "archived": self.archived,
            "rejected": self.rejected,
            "already_onboarded": self.already_onboarded,
        }
