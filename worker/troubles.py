"""Says once that something is held up, and once that it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from tasks.errors import LedgerReplaced, OnboardingError, UnusableFile
from worker.dropped_names import safe_name

#: So many files that cannot be taken are named to people in one message.
NAMED = 3

log = structlog.get_logger("onboard")


class Troubles:
    """Says once that something is held up, and once that it goes on."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._said: dict[str, str] = {}

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Say what goes wrong inside of the block, and go on: it is tried again. Raises LedgerReplaced."""
        from worker.celery_app import BrokerUnreachable

        try:
            yield
        except LedgerReplaced:
            raise
        except (OSError, OnboardingError, BrokerUnreachable) as error:
            self.say(what, error)
        else:
            self.over(what)

    def say(self, what: str, error: BaseException) -> None:
        """Say why something is held up, unless that is known."""
        why = self._why(error)
        if self._said.get(what) == why:
            return
        self._said[what] = why
        log.error("held up, and tried again", what=what, why=why)
        if not isinstance(error, OSError | OnboardingError) and isinstance(error, Exception):
            log.error("unexpected failure", what=what, exc_info=error)

    def over(self, what: str) -> None:
        """Say that it goes on, if it was held up."""
        if self._said.pop(what, None) is not None:
            log.info("no longer held up", what=what)

    def _why(self, error: BaseException) -> str:
        """Return a sentence without the names of files, which may be somebody's."""
        if isinstance(error, UnusableFile):
            return error.code
        if isinstance(error, OSError):
            path = Path(error.filename) if isinstance(error.filename, str) else Path()
            inside = path.relative_to(self._root).parts[:1] if path.is_relative_to(self._root) else ()
            return ": ".join([*inside, why_of(error)])
        return str(error) if isinstance(error, OnboardingError) else type(error).__name__


class NotTaken:
    """Which files of the inbox cannot be taken, and why: said once of each, and once that it is over.

    Here the log has names of files, made safe: nothing else tells which of them needs a person.
    """

    def __init__(self, troubles: Troubles) -> None:
        self._troubles = troubles
        self._why: dict[str, str] = {}

    def say(self, found: Mapping[str, OSError], untried: Iterable[str]) -> str:
        """Say what one look found; return what is new in it, as people are told it, or nothing.

        Of the names `untried` nothing is known by this look.
        """
        now = {name: why_of(error) for name, error in found.items()}
        new = sorted(name for name, why in now.items() if self._why.get(name) != why)
        for name in new:
            self._troubles.say(f"inbox/{safe_name(name)}", found[name])
        as_before = {name: self._why[name] for name in untried if name in self._why}
        for name in self._why.keys() - now.keys() - as_before.keys():
            self._troubles.over(f"inbox/{safe_name(name)}")
        self._why = as_before | now
        named = ", ".join(f"{safe_name(name)} ({now[name]})" for name in new[:NAMED])
        return named + (f", +{len(new) - NAMED}" if len(new) > NAMED else "")


def why_of(error: OSError) -> str:
    """Return why the system refused something, without the name of a file."""
    return error.strerror or type(error).__name__
