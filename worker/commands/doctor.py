"""`onboard doctor`: is everything there that a run needs? Each line is ok or says what to do."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.errors import ElepayError, LedgerError, OnboardingError
from tasks.ledger import Ledger
from tasks.models import Notification, NotificationKind
from tasks.reports.i18n import Texts
from tasks.reports.notification_message import compose
from tasks.send.rate_limit import clock_ahead_seconds, require_writable
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services
from tasks.settings import setting_names
from worker import terminal
from worker.embedded_redis import find_server
from worker.health_server import is_served
from worker.notification_channels import Channel, open_channels

#: Less room than this on the disk is worth a word.
LEAST_FREE_BYTES = 500_000_000
#: Clocks that differ by more than this are worth a word; the ledger's is the one that counts.
MOST_SKEW_SECONDS = 30.0


class Finding(NamedTuple):
    """One line of the doctor's."""

    subject: str
    ok: bool
    says: str  #: what is so, or what to do


def doctor(services: Services, console: Console, *, notify: bool = False) -> tuple[int, dict[str, Any]]:
    """Examine everything, and send a test message through every channel (`notify`); exit 2 if anything is wrong."""
    place = _place(services)
    terminal.print_place(console, services.account, place)
    telling = _told if notify else _telling
    examinations: list[Callable[[Services], Finding]] = [_settings, _key, _elepay, _redis, _ledger, _memory, _folders]
    examinations += [_disk, _clocks, _metrics, telling]
    findings = [examine(services) for examine in examinations]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("!!", style="bold red")
        table.add_row(mark, finding.subject, Text(finding.says))
    console.print(table)
    well = all(finding.ok for finding in findings)
    return (0 if well else 2), {
        "ok": well,
        "mode": services.settings.mode,
        "address": services.account.address,
        "ledger": place,
        "findings": [finding._asdict() for finding in findings],
    }


def _place(services: Services) -> str:
    """Return where the ledger is, whether or not there is one."""
    try:
        return Ledger.place_of(services.ledger_url)
    except LedgerError:
        return "unknown"


def _settings(services: Services) -> Finding:
    names = setting_names()
    given = sorted(name for name in names if name in os.environ and name != "ELEPAY_SECRET_KEY")
    settings = services.settings
    limit = f"{settings.requests_per_second:g} requests/s" if settings.requests_per_second else "no limit of ours"
    says = f"{settings.base_url}, {settings.mode} mode, {limit}; from the environment: {', '.join(given) or 'none'}"
    return Finding("settings", True, f"{says}; all: docs/settings.md")


def _key(services: Services) -> Finding:
    try:
        services.settings.require_key()
    except OnboardingError as error:
        return Finding("secret key", False, str(error))
    return Finding("secret key", True, f"a {services.settings.mode} key")


def _elepay(services: Services) -> Finding:
    try:
        methods = retrying_look_up()(services.api.list_payment_methods)
    except ElepayError as error:
        return Finding(
            "elepay", False, f"{services.settings.base_url} answered {error}; check ELEPAY_BASE_URL, key, network"
        )
    except OnboardingError as error:
        return Finding("elepay", False, f"not asked: {error}")
    holding = sorted(method.name for method in methods if method.holds_sources)
    if not holding:
        return Finding(
            "elepay", False, "reachable, but this key has no payment method that can hold a source: ask elepay"
        )
    return Finding("elepay", True, f"reachable; can hold sources: {', '.join(holding)} (of {len(methods)} methods)")


def _redis(services: Services) -> Finding:
    if services.settings.redis_url is None:
        try:
            return Finding("redis", True, f"REDIS_URL is not set: each run starts its own ({find_server().name})")
        except OnboardingError as error:
            return Finding("redis", False, str(error))
    try:
        require_writable(services.settings.redis_url)
    except OnboardingError as error:
        return Finding("redis", False, f"{error}; check REDIS_URL and that the server runs")
    return Finding("redis", True, "answers, and can be written")


def _ledger(services: Services) -> Finding:
    try:
        number = len(services.ledger.batches.newest(1000))
        services.ledger.require_writable()
    except (OnboardingError, OSError) as error:
        return Finding("ledger", False, f"{error}; check LEDGER_URL and ONBOARD_HOME")
    return Finding("ledger", True, f"{'LEDGER_URL' if services.settings.ledger_url else 'SQLite'}, {number} batches")


def _memory(services: Services) -> Finding:
    try:
        replaced = services.ledger.replaced
    except (OnboardingError, OSError) as error:
        return Finding("memory", False, f"the ledger cannot be asked: {error}")
    return Finding("memory", not replaced, replaced or "the ledger is the one of before, and as new")


def _folders(services: Services) -> Finding:
    for folder in (services.settings.home, services.files, services.reports):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"ok")
        except OSError as error:
            return Finding("folders", False, f"cannot write in {folder}: {error.strerror}; check ONBOARD_HOME")
    return Finding("folders", True, f"{services.settings.home} is writable")


def _disk(services: Services) -> Finding:
    free = shutil.disk_usage(services.settings.home if services.settings.home.is_dir() else Path.cwd()).free
    says = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, f"{says} where ONBOARD_HOME is: ledger, files and reports need room")
    return Finding("disk", True, says)


def _clocks(services: Services) -> Finding:
    try:
        ahead = {"ledger": services.ledger.clock_ahead_seconds}
        if services.settings.redis_url is not None:
            ahead["Redis"] = clock_ahead_seconds(services.settings.redis_url)
    except (OnboardingError, OSError):
        return Finding("clocks", True, "not compared: ledger or Redis does not answer")
    says = ", ".join(f"{name} {seconds:+.1f} s" for name, seconds in ahead.items())
    if max(map(abs, ahead.values())) > MOST_SKEW_SECONDS:
        return Finding("clocks", False, f"the clocks differ from this machine's ({says}): let NTP set them")
    return Finding("clocks", True, f"as this machine's ({says})")


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


def _telling(services: Services) -> Finding:
    """Look at the channels without sending."""
    return _of_channels(
        services, lambda channel: channel.trouble(), "looks well", "`onboard doctor --notify` sends a test"
    )


def _told(services: Services) -> Finding:
    """Send a test through every channel."""
    settings = services.settings
    texts = Texts(settings.lang, settings.time_zone)
    test = compose(
        Notification(0, NotificationKind.TEST, time.time()), texts, batch=None, books=None, codes={}, link=""
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
        return Finding("telling", True, "nobody is told: ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND are not set")
    troubles = {channel.name: trouble(channel) for channel in channels}
    says = "; ".join(f"{name} {said or well}" for name, said in troubles.items())
    if any(troubles.values()):
        return Finding("telling", False, f"{says}: check ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND")
    return Finding("telling", True, f"{says}; {next_step}")
