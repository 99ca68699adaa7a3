"""`onboard console add-user`, `list-users`, `remove-user`, `passwd`, `set-role`: who may sign in with a password."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from tasks.errors import SettingsError
from tasks.operations import console_users
from tasks.services import Services
from worker import terminal
from worker.operator_identity import who
from worker.questions import is_answerable
from worker.screen import Screen


def add(services: Services, name: str, role: str, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Let somebody sign in."""
    console_users.add_user(services, name, role, _new_password(screen))
    screen.say("console_user_added", name=name, role=role)
    return 0, {"name": name, "role": role}


def list_all(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    """List who may sign in."""
    users = console_users.list_users(services)
    if users:
        terminal.print_columns(screen, ("user", "role"), [(user.name, user.role) for user in users])
    else:
        screen.say("no_console_users")
    return 0, {"users": [{"name": user.name, "role": user.role} for user in users]}


def remove(services: Services, name: str, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Let somebody no longer sign in."""
    ended = console_users.remove_user(services, name, who=who())
    screen.say("console_user_removed", name=name, count=ended)
    return 0, {"name": name, "ended_sessions": ended}


def passwd(services: Services, name: str, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Give somebody another password."""
    ended = console_users.change_user(services, name, who=who(), password=_new_password(screen))
    screen.say("console_user_changed", name=name, count=ended)
    return 0, {"name": name, "ended_sessions": ended}


def set_role(services: Services, name: str, role: str, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Give somebody another role."""
    ended = console_users.change_user(services, name, who=who(), role=role)
    screen.say("console_user_changed", name=name, count=ended)
    return 0, {"name": name, "role": role, "ended_sessions": ended}


def _new_password(screen: Screen) -> str:
    """Return a password that was typed twice, unseen; of a script the first line of standard input."""
    if not is_answerable():
        return sys.stdin.readline().rstrip("\r\n") if sys.stdin is not None else ""
    password = getpass.getpass(screen.texts("ask_password"))
    if password != getpass.getpass(screen.texts("ask_password_again")):
        raise SettingsError("the two passwords differ")
    return password
