"""`onboard doctor`: is everything there that a run needs? Each line is ok or says what to do."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from tasks.errors import OnboardingError
from tasks.models import Notification, NotificationKind
from tasks.operations.installation_checks import Finding, check_installation, ledger_place
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
    findings = [_settings(services), *check_installation(services), _metrics(services)]
    if services.settings.redis_url is None:
        findings.append(_private_redis())
    findings.append(_test_channels(services) if notify else _look_at_channels(services))
    findings.sort(key=lambda finding: _ORDER.index(finding.subject))
    _print(screen, findings)
    well = all(finding.ok for finding in findings)
    return (0 if well else 2), {
        "ok": well,
        "mode": services.settings.mode,
        "address": services.account.address,
        "ledger": place,
        "findings": [asdict(finding) for finding in findings],
    }


def _print(screen: Screen, findings: list[Finding]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("!!", style="bold red")
        table.add_row(mark, finding.subject, Text(finding.says))
    screen.console.print(table)


def _settings(services: Services) -> Finding:
    given = sorted(name for name in setting_names() if name in os.environ and name != "ELEPAY_SECRET_KEY")
    settings = services.settings
    limit = f"{settings.requests_per_second:g} requests/s" if settings.requests_per_second else "no limit set"
    says = f"{settings.base_url}, {settings.mode} mode, {limit}; from the environment: {', '.join(given) or 'none'}"
    says += f"; .env: {dotenv_path() or 'none in this folder'}"
    if injected := sorted(injected_names(os.environ)):
        says += f"; not read, because Kubernetes set them: {', '.join(injected)}"
    return Finding("settings", True, f"{says}; all: docs/reference/settings.md")


def _private_redis() -> Finding:
    try:
        return Finding("redis", True, f"REDIS_URL is not set: each run starts its own ({find_server().name})")
    except OnboardingError as error:
        return Finding("redis", False, str(error))


def _metrics(services: Services) -> Finding:
    host, port = services.settings.metrics_host, services.settings.metrics_port
    if not port:
        return Finding("metrics", True, "off: ONBOARD_METRICS_PORT is 0")
    try:
        with socket.create_server((host, port)):
            return Finding("metrics", True, f"port {port} is free")
    except OSError as error:
        if is_served(host, port):
            return Finding("metrics", True, f"a process of onboard serves port {port}")
        return Finding("metrics", False, f"port {port} cannot be used ({error.strerror}): set ONBOARD_METRICS_PORT")


def _look_at_channels(services: Services) -> Finding:
    """Look at the channels without sending."""
    return _of_channels(
        services, lambda channel: channel.trouble(), "looks well", "`onboard doctor --notify` sends a test"
    )


def _test_channels(services: Services) -> Finding:
    """Send a test through every channel."""
    settings = services.settings
    texts = Texts(settings.lang, settings.time_zone)
    test = compose(
        Notification(0, NotificationKind.TEST, time.time()), texts, batch=None, counts=None, codes={}, link=""
    )

    def trouble(channel: Channel) -> str:
        try:
            return "" if channel.send(test) else channel.trouble() or "did not take the message"
        except Exception as error:  # noqa: BLE001 - whatever a channel does, its text may hold an address
            return f"failed ({type(error).__name__})"

    return _of_channels(services, trouble, "was sent a test", "see that it arrived")


def _of_channels(services: Services, trouble: Callable[[Channel], str], well: str, next_step: str) -> Finding:
    try:
        channels = open_channels(services.settings)
    except OnboardingError as error:
        return Finding("telling", False, str(error))
    if not channels:
        return Finding(
            "telling", True, "nobody is notified: ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND are not set"
        )
    troubles = {channel.name: trouble(channel) for channel in channels}
    says = "; ".join(f"{name} {said or well}" for name, said in troubles.items())
    if any(troubles.values()):
        return Finding("telling", False, f"{says}: check ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND")
    return Finding("telling", True, f"{says}; {next_step}")
