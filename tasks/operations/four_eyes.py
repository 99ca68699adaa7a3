"""Four eyes: two people stand behind every batch (ONBOARD_FOUR_EYES), whichever door they come through.

Every batch waits for approval. Whoever brought it cannot approve it, resume it after the breaker or a halt, decide that
a source is absent, or run a file with rows of it again with `--again`. Where nobody is known to have brought it (a drop
folder), two different people approve. People are compared by `person_key`. A user of a machine is a person if
ONBOARD_SHELL_NAMES says which. What is refused stands in the history.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from tasks.error_texts import Sentence
from tasks.errors import SecondPersonNeeded
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, ShellName, StopCode
from tasks.settings import Settings
from tasks.spelling import fold

#: Stops by a person, or by what a person ordered: nothing was found to be wrong.
STOPS_OF_PEOPLE = (StopCode.PERSON, StopCode.INTERRUPT, StopCode.DEADLINE)


class Deed(StrEnum):
    """What four eyes are for; the history names it so."""

    BRING = "bring"  #: a file becomes a batch
    APPROVE = "approve"
    RESUME = "resume"
    ABSENT = "absent"  #: a row surely has no source, and is sent again
    AGAIN = "again"  #: rows that have a source get one more
    RETRY = "retry"


_BROUGHT = {
    Deed.APPROVE: Sentence("{who} brought batch {batch}: somebody else must approve it (ONBOARD_FOUR_EYES)"),
    Deed.RESUME: Sentence("{who} brought batch {batch}: somebody else must resume it (ONBOARD_FOUR_EYES)"),
    Deed.ABSENT: Sentence("{who} brought batch {batch}: somebody else must say what is absent (ONBOARD_FOUR_EYES)"),
    Deed.AGAIN: Sentence("{who} brought batch {batch}: somebody else must run its rows again (ONBOARD_FOUR_EYES)"),
}


def person_key(name: str) -> str:
    """Return a name so that names of one person are equal: case, width, blanks and invisible characters aside."""
    folded = fold(fold(name).casefold())
    seen = "".join(each for each in folded if unicodedata.category(each) not in ("Cf", "Cc"))
    return " ".join(seen.split())


def stopped_by_program(batch: Batch) -> bool:
    """Return whether a batch was stopped because something may be wrong, so that to resume it is an approval."""
    return batch.state is BatchState.HALTED or batch.stop_code not in (None, *STOPS_OF_PEOPLE)


@dataclass(frozen=True, slots=True)
class FourEyes:
    """The rule as this installation has it."""

    is_on: bool = False
    shell_names: Mapping[str, str] = field(default_factory=dict)  #: user@host -> name of a person
    most_canary_rows: int = 0  #: so many rows may run before somebody else has approved

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings say."""
        return cls(settings.four_eyes, settings.people_of_shells, settings.canary)

    def person(self, who: str) -> str | None:
        """Return the key of who does something; None for a user of a machine that no person is known to be."""
        name = self.shell_names.get(who) if isinstance(who, ShellName) else who
        return (person_key(name) or None) if name else None

    def covers(self, batch: Batch) -> bool:
        """Return whether two people stand behind a batch: it was brought so, or the rule holds now."""
        return self.is_on or batch.four_eyes

    def needs_two_approvals(self, batch: Batch) -> bool:
        """Return whether two people approve a batch: nobody is known to have brought it."""
        return self.covers(batch) and not batch.person

    def require_person(self, ledger: Ledger, deed: Deed, who: str, batch_id: int = 0) -> str:
        """Return the key of a person. Raises SecondPersonNeeded for a user that no person is known to be."""
        person = self.person(who)
        if person is None:
            ledger.history.note(batch_id, 0, f"not allowed: {deed}, no known person", who)
            raise SecondPersonNeeded(
                "{who} is not in ONBOARD_SHELL_NAMES: with ONBOARD_FOUR_EYES only people known by name do this",
                who=who,
            )
        return person

    def require_other(self, ledger: Ledger, batch: Batch, deed: Deed, who: str) -> str | None:
        """Return the key of whoever does something about a batch that somebody else brought.

        None where four eyes are not asked for. Raises SecondPersonNeeded.
        """
        if not self.covers(batch):
            return None
        person = self.require_person(ledger, deed, who, batch.id)
        if person == batch.person:
            ledger.history.note(batch.id, 0, f"not allowed: {deed}, brought the batch", who)
            raise SecondPersonNeeded(_BROUGHT[deed], who=who, batch=batch.id)
        return person

    def require_resumer(self, ledger: Ledger, batch: Batch, who: str) -> None:
        """Raise SecondPersonNeeded if who brought a batch resumes it after something was found to be wrong."""
        if stopped_by_program(batch):
            self.require_other(ledger, batch, Deed.RESUME, who)
        elif self.covers(batch):
            self.require_person(ledger, Deed.RESUME, who, batch.id)
