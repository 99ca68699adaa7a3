"""Logs once that something fails, and once that it works again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from tasks.errors import LedgerReplaced, OnboardingError, UnusableFile
from worker.inboxes.names import safe_name

#: So many files that cannot be claimed are named in one notification.
NAMED = 3

log = structlog.get_logger("onboard")


class FailureLog:
    """What fails at present, and why; `root` is the path that is not to be repeated in every reason."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._reasons: dict[str, str] = {}

    @contextmanager
    def logged(self, what: str) -> Iterator[None]:
        """Log what goes wrong in the block, and continue: the caller tries it again. Raises LedgerReplaced."""
        from worker.celery_app import BrokerUnreachable

        try:
            yield
        except LedgerReplaced:
            raise
        except (OSError, OnboardingError, BrokerUnreachable) as error:
            self.failed(what, error)
        else:
            self.recovered(what)

    def failed(self, what: str, error: BaseException) -> None:
        """Log why something fails, unless that was logged already."""
        why = self._reason(error)
        if self._reasons.get(what) == why:
            return
        self._reasons[what] = why
        log.error("held up, and tried again", what=what, why=why)
        if not isinstance(error, OSError | OnboardingError) and isinstance(error, Exception):
            log.error("unexpected failure", what=what, exc_info=error)

    def recovered(self, what: str) -> None:
        """Log that something works again, if it had failed."""
        if self._reasons.pop(what, None) is not None:
            log.info("no longer held up", what=what)

    def _reason(self, error: BaseException) -> str:
        """Return a reason without names of files, which may be personal data."""
        if isinstance(error, UnusableFile):
            return error.code
        if isinstance(error, OSError):
            path = Path(error.filename) if isinstance(error.filename, str) else Path()
            folder = path.relative_to(self._root).parts[:1] if path.is_relative_to(self._root) else ()
            return ": ".join([*folder, reason_of(error)])
        return str(error) if isinstance(error, OnboardingError) else type(error).__name__


class UnclaimableFiles:
    """Which files of the inbox cannot be claimed, and why: logged once each, and once when it is over.

    Their names are logged, made safe: nothing else says which of them needs a person.
    """

    def __init__(self, failures: FailureLog) -> None:
        self._failures = failures
        self._reasons: dict[str, str] = {}

    def update(self, errors: Mapping[str, OSError], untried: Iterable[str]) -> str:
        """Log what one scan found; return what is new in it, for a notification, or "".

        The scan did not try the names `untried`; they stay as they were.
        """
        now = {name: reason_of(error) for name, error in errors.items()}
        new = sorted(name for name, reason in now.items() if self._reasons.get(name) != reason)
        for name in new:
            self._failures.failed(f"inbox/{safe_name(name)}", errors[name])
        unchanged = {name: self._reasons[name] for name in untried if name in self._reasons}
        for name in self._reasons.keys() - now.keys() - unchanged.keys():
            self._failures.recovered(f"inbox/{safe_name(name)}")
        self._reasons = unchanged | now
        named = ", ".join(f"{safe_name(name)} ({now[name]})" for name in new[:NAMED])
        return named + (f", +{len(new) - NAMED}" if len(new) > NAMED else "")


def reason_of(error: OSError) -> str:
    """Return why the system refused something, without the name of a file."""
    return error.strerror or type(error).__name__
