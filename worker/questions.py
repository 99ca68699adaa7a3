"""Asks the person at the terminal before something that cannot be taken back."""

from __future__ import annotations

import sys

from worker.screen import Screen

_YES = frozenset({"y", "yes", "はい"})


class Declined(Exception):
    """A person has not said yes; nothing was changed."""


def is_answerable() -> bool:
    """Return whether somebody sees a question and can answer it: a script is never asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def require_yes(screen: Screen, key: str, **values: object) -> None:
    """Ask, on standard error, whether to go on. Raises Declined for every answer but a yes."""
    sys.stderr.write(f"{screen.texts(key, **values)} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().casefold() not in _YES:
        raise Declined
