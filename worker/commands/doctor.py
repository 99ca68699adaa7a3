"""`onboard doctor`: is everything there that a run needs? Each line is ok or says what to do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tasks.error_texts import system_reason
from tasks.errors import OnboardingError
from tasks.models import Notification, NotificationKind, Reason
from tasks.operations.installation_checks import Finding, check_installation, ledger_place
from tasks.reason_texts import hint, sentence
from tasks.reports.i18n import Texts
from tasks.reports.notification_message import compose
from tasks.services import Services
from tasks.setting_sources import dotenv_path, injected_names
from tasks.settings import setting_names
from worker import terminal
from worker.embedded_redis import find_server
from worker.health_server import is_served
from worker.notification_channels import Channel, open_channels
from worker.screen import Screen

#: The subjects in the order in which they are shown.
_ORDER = (
    "packages",
    "settings",
    "secret key",
    "elepay",
    "redis",
    "ledger",
    "memory",
    "folders",
    "disk",
    "clocks",
    "metrics",
    "telling",
)


def doctor(services: Services, screen: Screen, *, notify: bool = False) -> tuple[int, dict[str, Any]]:
    """Examine everything, and send a test message through every channel (`notify`); exit 2 if anything is wrong."""
    place = ledger_place(services)
    terminal.print_place(screen, services.account, place)
    findings = [_settings(services, screen.texts), *check_installation(services), _metrics(services)]
    if services.settings.redis_url is None:
        findings.append(_private_redis())
    findings.append(_test_channels(services, screen) if notify else _look_at_channels(services, screen))
    findings.sort(key=lambda finding: _ORDER.index(finding.subject))
    _print(screen, findings)
    well = all(finding.ok for finding in findings)
    return (0 if well else 2), {
        "ok": well,
        "mode": services.settings.mode,
        "address": services.account.address,
        "ledger": place,
        "findings": [
            {"subject": finding.subject, "ok": finding.ok, "says": says(screen, finding)} for finding in findings
        ],
    }


def says(screen: Screen, finding: Finding) -> str:
    """Return what was found, in words: what is so, or what to do."""
    values = {name: _shown(screen, value) for name, value in finding.values.items()}
    if finding.code == "elepay_unreachable":
        values |= _why_unreachable(screen.texts, str(finding.values["code"]))
    return screen.texts(f"doctor_{finding.code}", **values)


def _shown(screen: Screen, value: object) -> object:
    """Return a value as people read it."""
    texts = screen.texts
    match value:
        case OSError():
            return system_reason(value)
        case list():
            return texts("list_between").join(map(str, value))
        case dict():
            clocks = [texts(name, seconds=f"{ahead:+.1f}") for name, ahead in value.items()]
            return texts("list_between").join(clocks)
    return value


def _why_unreachable(texts: Texts, code: str) -> dict[str, str]:
    """Return the sentence about a connection, and what to do, without what is about rows or names this command."""
    do = hint(code, texts.lang).removesuffix(hint("not_sent", texts.lang).removeprefix(texts("nothing_created")))
    do = do.removeprefix(texts("nothing_created")).replace(texts("with_doctor"), "")
    return {"says": sentence(Reason(code), texts.lang), "do": do.strip()}


def _print(screen: Screen, findings: list[Finding]) -> None:
    subjects = {each.subject: screen.texts(f"subject_{each.subject.replace(' ', '_')}") for each in findings}
    widest = max(map(cell_len, subjects.values()))
    fields = []
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("!!", style="bold red")
        subject = set_cell_size(subjects[finding.subject], widest)
        fields.append((Text.assemble(mark, f"  {subject}"), Text(says(screen, finding))))
    terminal.print_fields(screen, fields)


def _settings(services: Services, texts: Texts) -> Finding:
    given = sorted(name for name in setting_names() if name in os.environ and name != "ELEPAY_SECRET_KEY")
    settings = services.settings
    limit = f"{settings.requests_per_second:g}"
    injected = sorted(injected_names(os.environ))
    values = {
        "address": settings.base_url,
        "mode": texts(f"place_{settings.mode}").strip(),
        "limit": texts("requests_per_second", limit=limit) if settings.requests_per_second else texts("without_limit"),
        "given": given or [texts("none")],
        "dotenv": dotenv_path() or texts("no_dotenv"),
        "injected": injected,
    }
    return Finding("settings", True, "settings_and_injected" if injected else "settings", values)


def _private_redis() -> Finding:
    try:
        return Finding("redis", True, "redis_private", {"server": find_server().name})
    except OnboardingError as error:
        return Finding("redis", False, "redis_missing", {"error": error})


def _metrics(services: Services) -> Finding:
    host, port = services.settings.metrics_host, services.settings.metrics_port
    if not port:
        return Finding("metrics", True, "metrics_off")
    try:
        with socket.create_server((host, port)):
            return Finding("metrics", True, "port_free", {"port": str(port)})
    except OSError as error:
        if is_served(host, port):
            return Finding("metrics", True, "port_served", {"port": str(port)})
        return Finding("metrics", False, "port_taken", {"port": str(port), "error": error})


def _look_at_channels(services: Services, screen: Screen) -> Finding:
    """Look at the channels without sending."""
    return _of_channels(services, screen.texts, lambda channel: _trouble(channel, screen), "channels_look_well")


def _test_channels(services: Services, screen: Screen) -> Finding:
    """Send a test through every channel."""
    texts = screen.texts
    notification = Notification(0, NotificationKind.TEST, time.time())
    test = compose(notification, texts, live=services.settings.live, of=None)

    def failure(channel: Channel) -> str:
        try:
            return "" if channel.send(test) else _trouble(channel, screen) or texts("message_not_taken")
        except Exception as error:  # noqa: BLE001 - whatever a channel does, its text may hold an address
            return texts("message_failed", error=type(error).__name__)

    return _of_channels(services, texts, failure, "channels_were_tested")


def _trouble(channel: Channel, screen: Screen) -> str:
    trouble = channel.trouble()
    if trouble is None:
        return ""
    why = "" if trouble.error is None else system_reason(trouble.error)
    return screen.texts(f"channel_{trouble.code}", port=trouble.port, why=why)


def _of_channels(services: Services, texts: Texts, trouble: Callable[[Channel], str], well: str) -> Finding:
    try:
        channels = open_channels(services.settings)
    except OnboardingError as error:
        return Finding("telling", False, "channels_wrong", {"error": error})
    if not channels:
        return Finding("telling", True, "no_channels")
    troubles = {channel.name: trouble(channel) for channel in channels}
    found = [
        texts("channel_finding", name=name, says=said or texts(f"doctor_{well}_each"))
        for name, said in troubles.items()
    ]
    ok = not any(troubles.values())
    values = {"channels": texts("channels_between").join(found)}
    return Finding("telling", ok, well if ok else "channels_in_trouble", values)
