"""The ways to notify people: Apprise (mail, webhooks and a hundred more) and a command. The one room of Apprise.

A channel's address may hold a password or a token: it is never logged, shown or written down. In the log and in the
ledger a channel is called by its kind and its place among those of its kind, e.g. `mailtos-1`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from tasks.errors import SettingsError
from tasks.reports.notification_message import Message
from tasks.settings import Settings, without_settings

#: A channel has so long to deliver a message. Its process is ended then, whatever it does.
SEND_SECONDS = 30.0
#: Address space of a process that speaks to a server, in bytes: an answer without end fills no memory of ours.
MOST_BYTES = 2**30
#: A server that is looked at without sending has so long to answer.
REACH_SECONDS = 3.0
#: Kinds that send mails, which can hold a table.
_MAILS = frozenset({"mailto", "mailtos", "mailgun", "sendgrid", "sparkpost", "postmark", "smtp2go", "ses", "resend"})
#: Kinds whose host is what stands after `//`; elsewhere a token may stand there, which must not be looked up.
_WITH_A_HOST = ("mailto", "json", "form", "xml", "mmost", "rocket", "ntfy", "gotify")
_PORTS = {"mailto": 587, "mailtos": 587}


class Trouble(NamedTuple):
    """What is wrong with a channel."""

    code: str  #: `host_unreachable` or `no_program`
    port: str = ""  #: of the host
    error: OSError | None = None  #: why it cannot be reached


class Channel(Protocol):
    """A way to notify people."""

    name: str

    def send(self, message: Message) -> bool:
        """Tell a message; False if it surely did not arrive, or nobody knows. May raise whatever it likes."""

    def trouble(self) -> Trouble | None:
        """Return what is wrong with it, as far as can be seen without sending; None if all is well."""


def open_channels(settings: Settings) -> list[Channel]:
    """Return every channel of the settings. Raises SettingsError that names a malformed one by its place."""
    channels: list[Channel] = []
    urls = settings.notify_urls.get_secret_value().split() if settings.notify_urls else []
    if urls:
        channels += _by_apprise(urls)
    if settings.notify_command:
        channels.append(Command("command-1", shlex.split(settings.notify_command)))
    return channels


def _by_apprise(urls: Sequence[str]) -> list[Channel]:
    kinds: Counter[str] = Counter()
    channels: list[Channel] = []
    for place, url in enumerate(urls, 1):
        service = _service(url)
        if service is None:
            raise SettingsError(
                "ONBOARD_NOTIFY_URLS: address {place} of {count} is not one that Apprise understands:"
                " docs/run/notify.md has examples",
                place=place,
                count=len(urls),
            )
        kind = url.partition("://")[0].lower()
        if kind in ("http", "https"):  # a service's own address, e.g. of a Slack webhook
            kind = min(service.schemas())
        kinds[kind] += 1
        channels.append(Apprise(f"{kind}-{kinds[kind]}", url, service))
    return channels


def _service(url: str) -> Any:
    """Return what Apprise makes of an address; None if it does not understand it."""
    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it would log what the other side answered
    asset = apprise.AppriseAsset(
        app_id="onboard",
        app_desc="elepay onboarding",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        allow_templates=False,
    )
    try:
        service: Any = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception:  # noqa: BLE001 - whatever it stumbles over may quote the address
        return None
    if service is not None:
        service.request_rate_per_sec = 0  # the ledger decides when something is sent
    return service


def _takes_html(kind: str, service: Any) -> bool:
    """Return whether a service sends mails, and its address does not ask for plain text (`format=text`)."""
    return kind in _MAILS and service.resolve_format("html") == "html"


def _run(words: Sequence[str], given: bytes) -> bool:
    """Run a program, without a shell and without our settings; False if it fails or takes longer than SEND_SECONDS."""
    process = subprocess.Popen(  # noqa: S603 - the operator's own program, or ours
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=without_settings(os.environ),
        start_new_session=True,
    )
    try:
        process.communicate(given, timeout=SEND_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has left behind in its session
        process.wait()
    return process.returncode == 0


class Apprise:
    """A channel that Apprise knows how to use, in a process of its own: some servers never come to an end."""

    def __init__(self, name: str, url: str, service: Any) -> None:
        self.name = name
        self._url, self._service = url, service

    def send(self, message: Message) -> bool:
        """Tell a message."""
        given = orjson.dumps(
            {
                "url": self._url,
                "title": message.title,
                "text": message.text,
                "html": message.html if _takes_html(self.name.partition("-")[0], self._service) else "",
                "severity": message.severity,
            }
        )
        return _run([sys.executable, "-P", "-m", "worker.notification_channels"], given)

    def trouble(self) -> Trouble | None:
        """Return whether a mail server or a webhook of one's own cannot be reached."""
        kind = self.name.partition("-")[0]
        if not kind.startswith(_WITH_A_HOST):
            return None
        host = getattr(self._service, "smtp_host", None) or self._service.host
        port = self._service.port or _PORTS.get(kind) or (443 if kind.endswith("s") else 80)
        try:
            with socket.create_connection((str(host), int(port)), timeout=REACH_SECONDS):
                return None
        except OSError as error:
            return Trouble("host_unreachable", str(port), error)


class Command:
    """A program that gets the facts as JSON on its standard input; what it prints is not looked at."""

    def __init__(self, name: str, words: Sequence[str]) -> None:
        self.name = name
        self._words = words

    def send(self, message: Message) -> bool:
        """Run it."""
        return _run(self._words, orjson.dumps({**message.facts, "title": message.title}))

    def trouble(self) -> Trouble | None:
        """Return whether there is no such program."""
        return None if shutil.which(self._words[0]) else Trouble("no_program")


def _speak() -> int:
    """Tell the message on standard input through its address, as the process that `Apprise.send` starts."""
    signal.alarm(int(SEND_SECONDS) + 5)  # should nobody be there any more to end it
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    given = orjson.loads(sys.stdin.buffer.read())
    service = _service(given["url"])
    said = {"title": given["title"], "notify_type": given["severity"]}
    if given["html"]:
        from apprise.plugins.email import base

        # what stands beside the HTML: our own text, not what is left of a table without its lines
        base.convert_between = lambda *_: given["text"]  # type: ignore[attr-defined]
        delivered = service.notify(body=given["html"], body_format="html", **said)
    else:
        service.notify_format = "text"  # as HTML a text would lose its lines
        delivered = service.notify(body=given["text"], body_format="text", **said)
    return 0 if delivered else 1


if __name__ == "__main__":
    sys.exit(_speak())
