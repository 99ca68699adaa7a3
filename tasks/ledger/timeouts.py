"""How long a ledger's server may be silent before a call is given up."""

from __future__ import annotations

#: A server that says nothing for so long in answer to one call is left.
ANSWER_SECONDS = 30.0
#: The same of a process that was asked to end.
HURRY_SECONDS = 3.0


class Timeouts:
    """How long a server may be silent, in seconds (None: for ever); one object is shared by a ledger's connections."""

    def __init__(self, seconds: float | None = ANSWER_SECONDS) -> None:
        self.seconds = seconds
        self.hurries = False  #: this process was asked to end
        self.exhausted = False  #: a process that was asked to end has waited in vain, and asks no more

    def hurry(self) -> None:
        """Wait for no answer longer than HURRY_SECONDS from now on, and after one such wait in vain for none."""
        self.seconds, self.hurries = HURRY_SECONDS, True

    def waited_in_vain(self) -> None:
        """Note that an answer did not come in time."""
        self.exhausted = self.hurries
