"""What is said about whatever was raised: the one place where exceptions become sentences and exit codes.

Exit code 2 is for input, settings and servers: somebody can do something about it. 70 is for a fault of the program and
for too little memory. No sentence repeats the text of an exception of a library, which may quote data or a secret.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import socket
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from tasks.error_texts import ENGLISH, JAPANESE, Said, Sentence, Words, system_reason
from tasks.errors import OnboardingError, SettingsError
from tasks.memory_limits import NO_MEMORY, OUT_OF_MEMORY, is_out_of_memory

if TYPE_CHECKING:
    from tasks.settings import Settings

UNUSABLE, FAULT = 2, 70
#: Libraries that speak to a server, by the first part of their modules' names, and what to do when one gives up.
_SERVERS = {
    "sqlalchemy": Sentence("the ledger failed: check LEDGER_URL and its server with `onboard doctor`"),
    "psycopg": Sentence("the ledger failed: check LEDGER_URL and its server with `onboard doctor`"),
    "sqlite3": Sentence("the ledger failed: check ONBOARD_HOME, and the room on its disk"),
    "redis": Sentence("Redis failed: check REDIS_URL and its server with `onboard doctor`"),
    "kombu": Sentence("Redis failed: check REDIS_URL and its server with `onboard doctor`"),
    "requests": Sentence("elepay cannot be asked: check ELEPAY_BASE_URL and the proxy with `onboard doctor`"),
    "urllib3": Sentence("elepay cannot be asked: check ELEPAY_BASE_URL and the proxy with `onboard doctor`"),
}
_CONSOLE = Sentence("the review console is an extra: install `elepay-onboarding[console]`")
#: Packages that an installation may lack, by the names of their modules.
_EXTRAS = {
    "psycopg": Sentence("LEDGER_URL names PostgreSQL, and its driver is missing: install psycopg[binary]"),
    "apprise": Sentence("ONBOARD_NOTIFY_URLS is set, and apprise is missing: install it, or leave the setting empty"),
    "starlette": _CONSOLE,
    "uvicorn": _CONSOLE,
    "python_multipart": _CONSOLE,
    "argon2": _CONSOLE,
}
_NO_ROOM = {
    errno.ENOSPC: Words("the disk is full"),
    errno.EDQUOT: Words("the quota of the disk is used up"),
}


class Failure(NamedTuple):
    """What is said about an exception."""

    message: Said
    code: str  #: its class, as `--json` has it
    exit_code: int


def failure_of(error: BaseException) -> Failure:
    """Return what to say about an exception that nobody else has explained."""
    code = type(error).__name__
    if is_out_of_memory(error):
        return Failure(NO_MEMORY, code, OUT_OF_MEMORY)
    if isinstance(error, OnboardingError):
        return Failure(error.sentence, code, UNUSABLE)
    if isinstance(error, ModuleNotFoundError) and (name := (error.name or "").partition(".")[0]) in _EXTRAS:
        return Failure(_EXTRAS[name], code, UNUSABLE)
    library = type(error).__module__.partition(".")[0]
    if library in _SERVERS:
        return Failure(Sentence("{what} ({code})", what=_SERVERS[library], code=code), code, UNUSABLE)
    if isinstance(error, OSError) and error.errno is not None:
        return Failure(_of_system(error), code, UNUSABLE)
    return Failure(_fault(error), code, FAULT)


def _fault(error: BaseException) -> Sentence:
    return Sentence(
        "this is a fault of the program ({place}). Nothing is lost: what was sent is in the ledger, and the"
        " same command goes on where it stopped. Give this line and the log above, if there is one, to whoever looks"
        " after the program",
        place=_place(error),
    )


def spoken_language(settings: Settings | None = None) -> str:
    """Return the language of whoever reads how this process ends.

    `--lang` says it, else the setting ONBOARD_LANG; where settings are not loaded, or malformed, as environment and
    `.env` have it.
    """
    words = sys.argv[1:]
    options = [word.partition("=")[2] for word in words if word.startswith("--lang=")]
    options += [value for option, value in pairwise(words) if option == "--lang"]
    known = [option for option in options if option in (ENGLISH, JAPANESE)]
    asked = settings.lang if settings is not None else _given_language()
    return JAPANESE if [asked, *known][-1] == JAPANESE else ENGLISH


def _given_language() -> str:
    name = "ONBOARD_LANG"
    if name not in os.environ and Path(".env").exists():
        from tasks.setting_sources import DOTENV, read_dotenv

        with contextlib.suppress(SettingsError, OSError):
            return read_dotenv(Path(DOTENV)).get(name, "").strip()
    return os.environ.get(name, "").strip()


def line_of_end(message: str, lang: str, line: int | None = None) -> str:
    """Return what is written on standard error when a process ends; `message` is in this language already."""
    if line and str(line) not in message:
        message = Sentence("line {line}: {message}", line=line, message=message).in_language(lang)
    return f"onboard: {message}"


def require_free_port(host: str, port: int) -> None:
    """Raise OSError if somebody else listens there, before a library ends the process because of it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise OSError(error.errno, f"port {port} cannot be served, it is in use or not allowed") from error


def _of_system(error: OSError) -> Said:
    said = _NO_ROOM.get(error.errno or 0) or system_reason(error)
    return Sentence("{why}: {name}", why=said, name=error.filename) if error.filename else said


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
