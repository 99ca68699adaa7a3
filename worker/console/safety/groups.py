"""The role that groups of a directory give."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.settings import Settings
from worker.console.people import Person, Role

_LONGEST_NAME = 200


def person_of_groups(settings: Settings, name: object, groups: Iterable[object]) -> Person | None:
    """Return somebody with the highest role that their groups give; None without a name, or without a role."""
    members = {str(group).strip() for group in groups}
    roles = {
        Role.VIEWER: settings.console_viewers,
        Role.OPERATOR: settings.console_operators,
        Role.APPROVER: settings.console_approvers,
    }
    found = [role for role, named in roles.items() if members & set(named)]
    if not found or not isinstance(name, str) or not is_name(name.strip()):
        return None
    return Person(name.strip(), found[-1])


def is_name(name: str) -> bool:
    """Return whether a text can be somebody's name in the history."""
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable()
