"""What is said about whatever was raised: the one place where exceptions become sentences and exit codes.

Exit code 2 is for input, settings and servers: somebody can do something about it. 70 is for a fault of the program and
for too little memory. No sentence repeats the text of an exception of a library, which may quote data or a secret.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import socket
import sys
from typing import NamedTuple, TextIO

from tasks.errors import OnboardingError
from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY, is_out_of_memory

UNUSABLE, FAULT = 2, 70
#: Libraries that speak to a server, by the first part of their modules' names, and what to do when one gives up.
_SERVERS = {
    "sqlalchemy": "the ledger failed: check LEDGER_URL and its server with `onboard doctor`",
    "psycopg": "the ledger failed: check LEDGER_URL and its server with `onboard doctor`",
    "sqlite3": "the ledger failed: check ONBOARD_HOME, and the room on its disk",
    "redis": "Redis failed: check REDIS_URL and its server with `onboard doctor`",
    "kombu": "Redis failed: check REDIS_URL and its server with `onboard doctor`",
    "requests": "elepay cannot be asked: check ELEPAY_BASE_URL and the proxy with `onboard doctor`",
    "urllib3": "elepay cannot be asked: check ELEPAY_BASE_URL and the proxy with `onboard doctor`",
}
#: Packages that an installation may lack, by the names of their modules.
_EXTRAS = {
    "psycopg": "LEDGER_URL names PostgreSQL, and its driver is missing: install psycopg[binary]",
    "apprise": "ONBOARD_NOTIFY_URLS is set, and apprise is missing: install it, or leave the setting empty",
}
_NO_ROOM = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota of the disk is used up"}


class Failure(NamedTuple):
    """What is said about an exception."""

    message: str
    code: str  #: its class, as `--json` has it
    exit_code: int


def failure_of(error: BaseException) -> Failure:
    """Return what to say about an exception that nobody else has explained."""
    code = type(error).__name__
    if is_out_of_memory(error):
        return Failure(NO_MEMORY, code, OUT_OF_MEMORY)
    if isinstance(error, OnboardingError):
        return Failure(str(error), code, UNUSABLE)
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) in _EXTRAS:
        return Failure(_EXTRAS[name], code, UNUSABLE)
    library = type(error).__module__.partition(".")[0]
    if library in _SERVERS:
        return Failure(f"{_SERVERS[library]} ({code})", code, UNUSABLE)
    if isinstance(error, OSError) and error.errno is not None:
        return Failure(_of_system(error), code, UNUSABLE)
    return Failure(
        f"this is a fault of the program ({_place(error)}). Nothing is lost: what was sent is in the ledger, and the"
        " same command goes on where it stopped. Give this line and the log above, if there is one, to whoever looks"
        " after the program",
        code,
        FAULT,
    )


def require_free_port(host: str, port: int) -> None:
    """Raise OSError if somebody else listens there, before a library ends the process because of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise OSError(error.errno, f"port {port} cannot be served, it is in use or not allowed") from error


def _of_system(error: OSError) -> str:
    said = _NO_ROOM.get(error.errno or 0) or error.strerror or type(error).__name__
    return f"{said}: {error.filename}" if error.filename else said


def _place(error: BaseException) -> str:
    """Return class and places of an exception; its text and the values around it may be data."""
    places, trace = [], error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "?")
        places.append(f"{module}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join([type(error).__name__, *places[-4:]])


def take_any_text(*streams: TextIO) -> None:
    """Let the standard streams write whatever text there is, such as a file name that is not UTF-8, as escapes."""
    for stream in streams or (sys.stdout, sys.stderr):
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            is_ascii = codecs.lookup(stream.encoding).name == "ascii"  # LC_ALL=C; terminals read UTF-8 all the same
            with contextlib.suppress(OSError):  # a pipe that Python takes for a file cannot be changed any more
                reconfigure(encoding="utf-8" if is_ascii else None, errors="backslashreplace")
