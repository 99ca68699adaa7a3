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
from tasks.models import News, NewsKind
from tasks.reports.i18n import Texts
from tasks.reports.notification_message import compose
from tasks.send.rate_limit import clock_ahead_seconds, require_writable
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Resources
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


def doctor(ours: Resources, console: Console, *, notify: bool = False) -> tuple[int, dict[str, Any]]:
    """Examine everything, and send a test message through every channel (`notify`); exit 2 if anything is wrong."""
    place = _place(ours)
    terminal.print_place(console, ours.account, place)
    telling = _told if notify else _telling
    examinations: list[Callable[[Resources], Finding]] = [_settings, _key, _elepay, _redis, _ledger, _memory, _folders]
    examinations += [_disk, _clocks, _metrics, telling]
    findings = [examine(ours) for examine in examinations]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("!!", style="bold red")
        table.add_row(mark, finding.subject, Text(finding.says))
    console.print(table)
    well = all(finding.ok for finding in findings)
    return (0 if well else 2), {
        "ok": well,
        "mode": ours.settings.mode,
        "address": ours.account.address,
        "ledger": place,
        "findings": [finding._asdict() for finding in findings],
    }


def _place(ours: Resources) -> str:
    """Return where the ledger is, whether or not there is one."""
    try:
        return Ledger.place_of(ours.ledger_url)
    except LedgerError:
        return "unknown"


def _settings(ours: Resources) -> Finding:
    names = setting_names()
    given = sorted(name for name in names if name in os.environ and name != "ELEPAY_SECRET_KEY")
    settings = ours.settings
    limit = f"{settings.requests_per_second:g} requests/s" if settings.requests_per_second else "no limit of ours"
    says = f"{settings.base_url}, {settings.mode} mode, {limit}; from the environment: {', '.join(given) or 'none'}"
    return Finding("settings", True, f"{says}; all: docs/settings.md")


def _key(ours: Resources) -> Finding:
    try:
        ours.settings.require_key()
    except OnboardingError as error:
        return Finding("secret key", False, str(error))
    return Finding("secret key", True, f"a {ours.settings.mode} key")


def _elepay(ours: Resources) -> Finding:
    try:
        methods = retrying_look_up()(ours.api.list_payment_methods)
    except ElepayError as error:
        return Finding(
            "elepay", False, f"{ours.settings.base_url} answered {error}; check ELEPAY_BASE_URL, key, network"
        )
    except OnboardingError as error:
        return Finding("elepay", False, f"not asked: {error}")
    holding = sorted(method.name for method in methods if method.holds_sources)
    if not holding:
        return Finding(
            "elepay", False, "reachable, but this key has no payment method that can hold a source: ask elepay"
        )
    return Finding("elepay", True, f"reachable; can hold sources: {', '.join(holding)} (of {len(methods)} methods)")


def _redis(ours: Resources) -> Finding:
    if ours.settings.redis_url is None:
        try:
            return Finding("redis", True, f"REDIS_URL is not set: each run starts its own ({find_server().name})")
        except OnboardingError as error:
            return Finding("redis", False, str(error))
    try:
        require_writable(ours.settings.redis_url)
    except OnboardingError as error:
        return Finding("redis", False, f"{error}; check REDIS_URL and that the server runs")
    return Finding("redis", True, "answers, and can be written")


def _ledger(ours: Resources) -> Finding:
    try:
        number = len(ours.ledger.batches(1000))
        ours.ledger.require_writable()
    except (OnboardingError, OSError) as error:
        return Finding("ledger", False, f"{error}; check LEDGER_URL and ONBOARD_HOME")
    return Finding("ledger", True, f"{'LEDGER_URL' if ours.settings.ledger_url else 'SQLite'}, {number} batches")


def _memory(ours: Resources) -> Finding:
    try:
        replaced = ours.ledger.replaced
    except (OnboardingError, OSError) as error:
        return Finding("memory", False, f"the ledger cannot be asked: {error}")
    return Finding("memory", not replaced, replaced or "the ledger is the one of before, and as new")


def _folders(ours: Resources) -> Finding:
    for folder in (ours.settings.home, ours.files, ours.reports):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"ok")
        except OSError as error:
            return Finding("folders", False, f"cannot write in {folder}: {error.strerror}; check ONBOARD_HOME")
    return Finding("folders", True, f"{ours.settings.home} is writable")


def _disk(ours: Resources) -> Finding:
    free = shutil.disk_usage(ours.settings.home if ours.settings.home.is_dir() else Path.cwd()).free
    says = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, f"{says} where ONBOARD_HOME is: ledger, files and reports need room")
    return Finding("disk", True, says)


def _clocks(ours: Resources) -> Finding:
    try:
        ahead = {"ledger": ours.ledger.clock_ahead_seconds}
        if ours.settings.redis_url is not None:
            ahead["Redis"] = clock_ahead_seconds(ours.settings.redis_url)
    except (OnboardingError, OSError):
        return Finding("clocks", True, "not compared: ledger or Redis does not answer")
    says = ", ".join(f"{name} {seconds:+.1f} s" for name, seconds in ahead.items())
    if max(map(abs, ahead.values())) > MOST_SKEW_SECONDS:
        return Finding("clocks", False, f"the clocks differ from this machine's ({says}): let NTP set them")
    return Finding("clocks", True, f"as this machine's ({says})")


def _metrics(ours: Resources) -> Finding:
    host, port = ours.settings.metrics_host, ours.settings.metrics_port
    if not port:
        return Finding("metrics", True, "off: ONBOARD_METRICS_PORT is 0")
    try:
        with socket.create_server((host, port)):
            return Finding("metrics", True, f"port {port} is free")
    except OSError as error:
        if is_served(host, port):
            return Finding("metrics", True, f"a process of onboard serves port {port}")
        return Finding("metrics", False, f"port {port} cannot be used ({error.strerror}): set ONBOARD_METRICS_PORT")


def _telling(ours: Resources) -> Finding:
    """Look at the channels without sending."""
    return _of_channels(ours, lambda channel: channel.trouble(), "looks well", "`onboard doctor --notify` sends a test")


def _told(ours: Resources) -> Finding:
    """Send a test through every channel."""
    settings = ours.settings
    texts = Texts(settings.lang, settings.time_zone)
    test = compose(News(0, NewsKind.TEST, time.time()), texts, batch=None, books=None, codes={}, link="")

    def trouble(channel: Channel) -> str:
        try:
            return "" if channel.send(test) else channel.trouble() or "did not take the message"
        except Exception as error:  # noqa: BLE001 - whatever a channel does, its text may hold an address
            return f"failed ({type(error).__name__})"

    return _of_channels(ours, trouble, "was sent a test", "see that it arrived")


def _of_channels(ours: Resources, trouble: Callable[[Channel], str], well: str, next_step: str) -> Finding:
    try:
        channels = open_channels(ours.settings)
    except OnboardingError as error:
        return Finding("telling", False, str(error))
    if not channels:
        return Finding("telling", True, "nobody is told: ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND are not set")
    troubles = {channel.name: trouble(channel) for channel in channels}
    says = "; ".join(f"{name} {said or well}" for name, said in troubles.items())
    if any(troubles.values()):
        return Finding("telling", False, f"{says}: check ONBOARD_NOTIFY_URLS and ONBOARD_NOTIFY_COMMAND")
    return Finding("telling", True, f"{says}; {next_step}")
