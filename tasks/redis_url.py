"""REDIS_URL: what redis-py and Celery both understand, and nothing else."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tasks.error_texts import Sentence
from tasks.errors import BadValue

#: Options that both take; the files are checked.
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HASH = Sentence("has a # : in a password it must be written as %23, and / as %2F, @ as %40, % as %25")
_TLS_OPTIONS = (*_TLS_FILES, "ssl_cert_reqs", "ssl_check_hostname")


def check_redis_url(url: str) -> None:
    """Raise BadValue with a sentence if a URL will not do; it quotes nothing that may be of a password."""
    if "#" in url:
        raise BadValue(_HASH)
    try:
        parts = urlsplit(url)
    except ValueError:  # what it says would quote the password
        raise BadValue("is no address: in a password, special characters must be written as %XX") from None
    if parts.scheme.endswith("sentinel"):
        raise BadValue("names a Sentinel, which is not supported: give the address of the server that can be written")
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise BadValue(
            "must start with redis://, rediss:// (TLS) or unix:// (a socket file), such as redis://:PASSWORD@HOST:6379/0"
        )
    try:
        port = parts.port
    except ValueError:
        raise BadValue("has no number as port; a / or : within the password must be written as %2F or %3A") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme == "unix":
        if not parts.path.strip("/") or port is not None:
            raise BadValue("must be unix:///PATH/OF/THE/SOCKET, with ?db=NUMBER for another database than 0")
        _check_options(options, ("db",))
        _check_database(options.get("db", ""))
        return
    if not parts.hostname:
        raise BadValue("names no host: redis://HOST:6379/0")
    _check_database(parts.path.strip("/"))
    _check_options(options, _TLS_OPTIONS if parts.scheme == "rediss" else ())
    for name in _TLS_FILES:
        if name in options and not Path(options[name]).is_file():
            raise BadValue("{name}: there is no file {file}", name=name, file=options[name])


def _check_database(text: str) -> None:
    if text and not (text.isascii() and text.isdigit()):
        raise BadValue("must end with the number of a database, such as /0")


def _check_options(options: dict[str, str], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise _unknown_option(name, known)


def _unknown_option(name: str, known: tuple[str, ...]) -> BadValue:
    if not known:
        return BadValue("has an unknown option {name!r}; known here: none", name=name)
    return BadValue("has an unknown option {name!r}; known here: {known}", name=name, known=", ".join(known))
