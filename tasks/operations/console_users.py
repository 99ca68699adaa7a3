"""Who may sign in to the console with a password, on one machine: a file in the home that only its owner can read.

Each line has a name, a role and a digest (argon2id). Who is removed, or gets another role or password, is signed out
everywhere.
"""

from __future__ import annotations

import fcntl
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import SettingsError
from tasks.files.atomic_write import atomic_write
from tasks.operations.four_eyes import person_key
from tasks.operations.sign_in import sign_out_everywhere
from tasks.services import Services

if TYPE_CHECKING:
    import argon2

FILE_NAME = "console-users"
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 1024
LONGEST_NAME = 200
#: Digests are made one or two at a time: each takes 64 MB.
_AT_ONCE = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """Somebody who may sign in with a password."""

    name: str
    role: str
    digest: str = ""


def file_of(services: Services) -> Path:
    """Return where the file is, or would be."""
    return services.settings.home / FILE_NAME


def list_users(services: Services) -> tuple[ConsoleUser, ...]:
    """Return who may sign in, by name. Raises SettingsError if others can read the file, or if it is malformed."""
    path = file_of(services)
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError("{file} can be read or written by others: chmod 600 {file}", file=path)
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return ()
    users = [ConsoleUser(*parts) for line in lines if len(parts := line.split("\t")) == len(ConsoleUser.__slots__)]
    if len(users) < len(lines):
        raise SettingsError("{file} is damaged: remove the line that has no name, role and digest", file=path)
    return tuple(sorted(users, key=lambda user: user.name))


def add_user(services: Services, name: str, role: str, password: str) -> None:
    """Let somebody sign in. Raises SettingsError if there is somebody of that name, or for a name or a password."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise SettingsError("a name has 1 to {most} printable characters", most=LONGEST_NAME)
    digest = _digest_of(password)
    with _changed(services) as users:
        if find(users.values(), name):
            raise SettingsError(
                "there is a user {name} already: `onboard console passwd` changes a password", name=name
            )
        users[name] = ConsoleUser(name, role, digest)


def remove_user(services: Services, name: str, *, who: str) -> int:
    """Let somebody no longer sign in; return how many sessions ended. Raises SettingsError."""
    with _changed(services) as users:
        del users[_required(users, name).name]
    return sign_out_everywhere(services, name, who=who)


def change_user(
    services: Services, name: str, *, who: str, password: str | None = None, role: str | None = None
) -> int:
    """Give somebody another password or role; return how many sessions ended. Raises SettingsError."""
    digest = None if password is None else _digest_of(password)
    with _changed(services) as users:
        user = _required(users, name)
        users[user.name] = ConsoleUser(user.name, role or user.role, digest or user.digest)
    return sign_out_everywhere(services, name, who=who)


def user_with_password(services: Services, name: str, password: str) -> ConsoleUser | None:
    """Return who has this name and this password. It takes as long for a name that nobody has. Raises SettingsError."""
    import argon2

    user = find(list_users(services), name)
    with _AT_ONCE:
        try:
            _hasher().verify(user.digest if user else _nobodys_digest(), password[:LONGEST_PASSWORD])
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return None
    return user


def find(users: Iterable[ConsoleUser], name: str) -> ConsoleUser | None:
    """Return the user of a name, however it is spelled."""
    key = person_key(name)
    return next((user for user in users if person_key(user.name) == key), None)


@contextmanager
def _changed(services: Services) -> Iterator[dict[str, ConsoleUser]]:
    """Give the users to be changed, and write them; one process at a time."""
    path = file_of(services)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{FILE_NAME}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        users = {user.name: user for user in list_users(services)}
        yield users
        with atomic_write(path) as file:
            lines = (f"{user.name}\t{user.role}\t{user.digest}\n" for user in users.values())
            file.write("".join(lines).encode())


def _required(users: dict[str, ConsoleUser], name: str) -> ConsoleUser:
    user = find(users.values(), name)
    if user is None:
        raise SettingsError("there is no user {name}: `onboard console list-users` lists those that are", name=name)
    return user


def _digest_of(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SettingsError(
            "a password has {least} to {most} characters", least=SHORTEST_PASSWORD, most=LONGEST_PASSWORD
        )
    with _AT_ONCE:
        return _hasher().hash(password)


@cache
def _hasher() -> argon2.PasswordHasher:
    import argon2

    return argon2.PasswordHasher()


@cache
def _nobodys_digest() -> str:
    return _hasher().hash("the password of nobody")
