"""Where settings come from: the environment, `.env`, NAME_FILE, a folder of secrets; and which names are none."""

from __future__ import annotations

import codecs
import difflib
import io
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from tasks.error_texts import Sentence, joined, listed, system_reason
from tasks.errors import SettingsError

#: A setting that starts with one of these must be one of ours; others are nobody's business.
PREFIXES = ("ELEPAY_", "ONBOARD_")
#: Names without our prefixes that we read.
PLAIN_NAMES = ("REDIS_URL", "LEDGER_URL")
#: Where `FILE` variants are looked for: every setting may be given as NAME_FILE.
FILE_SUFFIX = "_FILE"
SECRETS_DIR = "ONBOARD_SECRETS_DIR"
DOTENV = ".env"
#: A file of settings, or of one, has no reason to be larger.
_MOST_BYTES = 1024 * 1024
#: What Kubernetes puts into the environment of each container for a service, behind the name of the service.
_OF_SERVICE = re.compile(r"(?:_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def collect(
    environment: Mapping[str, str], folder: Path, wanted: Iterable[str], known: Collection[str]
) -> dict[str, str]:
    """Return the wanted settings that are given in environment, `.env`, NAME_FILE or secrets folder, in this order.

    `known` are all settings that exist. Raises SettingsError for others, and for files that cannot be read.
    """
    injected = injected_names(environment)
    own = {name: value for name, value in environment.items() if name not in injected}
    given = {**read_dotenv(folder / DOTENV), **own}
    _refuse_unknown(given, known)
    values: dict[str, str] = {}
    secrets = Path(given[SECRETS_DIR]) if given.get(SECRETS_DIR) else None
    if secrets is not None and ("\0" in str(secrets) or not secrets.is_dir()):
        raise SettingsError("{name}: there is no such folder", name=SECRETS_DIR)
    for name in wanted:
        if name in given:
            values[name] = given[name]
        elif given.get(name + FILE_SUFFIX):
            values[name] = _read(Path(given[name + FILE_SUFFIX]), name + FILE_SUFFIX)
        elif secrets is not None and (secrets / name).is_file():
            values[name] = _read(secrets / name, name)
    _refuse_bad_text(values)
    return values


def dotenv_path(folder: Path | None = None) -> Path | None:
    """Return the `.env` that is read, if there is one."""
    path = (folder or Path.cwd()) / DOTENV
    return path if path.exists() and not path.is_dir() else None


def injected_names(environment: Mapping[str, str]) -> frozenset[str]:
    """Return names that look like ours and were put there by Kubernetes, for a service with such a name; not read."""
    found = set()
    for name, value in environment.items():
        service = _OF_SERVICE.sub("", name)
        is_of_service = service != name and f"{service}_SERVICE_HOST" in environment
        is_number = name == f"{service}_PORT" and value.isdigit()  # somebody's ONBOARD_METRICS_PORT
        if name.startswith(PREFIXES) and is_of_service and not is_number:
            found.add(name)
    return frozenset(found)


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without any setting of ours, for a program that must not see them."""
    return {name: value for name, value in environment.items() if not name.startswith((*PREFIXES, *PLAIN_NAMES))}


def read_dotenv(path: Path) -> dict[str, str]:
    """Return what a `.env` says; nothing if there is none. Raises SettingsError with the line that cannot be read."""
    if not path.exists() or path.is_dir():
        return {}
    text = _text_of(path, str(path))
    for binding in parse_stream(io.StringIO(text)):
        written = binding.original.string
        line = binding.original.line + len(written) - len(written.lstrip("\r\n"))
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsError(
                "{path}, line {line} cannot be read: write NAME=value, and a value with a blank, # or quote in quotes",
                path=path,
                line=line,
            )
    found = dotenv_values(stream=io.StringIO(text))
    return {name: value for name, value in found.items() if value is not None}


def _refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    unknown = [
        name
        for name in sorted(given)
        if name.startswith(PREFIXES)
        and name != SECRETS_DIR
        and name not in known
        and name.removesuffix(FILE_SUFFIX) not in known
    ]
    if unknown:
        named = listed(_with_nearest(name, known) for name in unknown)
        raise SettingsError("unknown setting {named}: docs/reference/settings.md lists those that exist", named=named)


def _with_nearest(name: str, known: Collection[str]) -> Sentence:
    shown = name if name.isprintable() and len(name) <= 80 else ascii(name[:80])
    near = difflib.get_close_matches(name[:80], [*known, SECRETS_DIR], n=1, cutoff=0.75)
    hints = [Sentence("is {nearest} meant?", nearest=near[0])] if near else []
    if _OF_SERVICE.search(name):
        hints.append(Sentence("is it of Kubernetes? set enableServiceLinks: false"))
    return Sentence("{name} ({hints})", name=shown, hints=joined(hints)) if hints else Sentence(shown)


def _refuse_bad_text(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        if "\0" in value:
            raise SettingsError("{name}: holds a NUL character", name=name)
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise SettingsError("{name}: holds bytes that are not UTF-8", name=name)


def _read(path: Path, name: str) -> str:
    return _text_of(path, f"{name}: {path}" if str(path).isprintable() else name).strip()


def _text_of(path: Path, name: str) -> str:
    """Return the text of a small file; `name` is what is said about it. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SettingsError("{name} cannot be read: {why}", name=name, why=system_reason(error)) from None
    if len(content) > _MOST_BYTES:
        raise SettingsError(
            "{name} is larger than {most:,} bytes: it is no file of settings", name=name, most=_MOST_BYTES
        )
    if content.startswith(_UTF16):
        raise SettingsError("{name} is in UTF-16: save it as UTF-8", name=name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            "{name}, line {line} is not UTF-8 (perhaps Shift_JIS): save the file as UTF-8", name=name, line=line
        ) from None
