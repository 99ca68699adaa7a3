"""`onboard doctor`: is everything there that a run needs? Each line is ok or says what to do."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.errors import ElepayError, OnboardingError
from tasks.rate_limit import is_up
from tasks.resources import Resources
from tasks.retrying import retrying_look_up
from tasks.settings import setting_names
from worker.private_server import find_server


class Finding(NamedTuple):
    """One line of the doctor's."""

    subject: str
    ok: bool
    says: str  #: what is so, or what to do


def doctor(ours: Resources, console: Console) -> tuple[int, dict[str, Any]]:
    """Examine everything; exit code 2 if anything is wrong."""
    examinations: list[Callable[[Resources], Finding]] = [_settings, _key, _elepay, _redis, _ledger, _folders]
    findings = [examine(ours) for examine in examinations]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("!!", style="bold red")
        table.add_row(mark, finding.subject, Text(finding.says))
    console.print(table)
    well = all(finding.ok for finding in findings)
    return (0 if well else 2), {"ok": well, "findings": [finding._asdict() for finding in findings]}


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
    if is_up(ours.settings.redis_url):
        return Finding("redis", True, "answers")
    return Finding("redis", False, "does not answer: check REDIS_URL and that the server runs")


def _ledger(ours: Resources) -> Finding:
    try:
        number = len(ours.ledger.batches(1000))
    except (OnboardingError, OSError) as error:
        return Finding("ledger", False, f"{error}; check LEDGER_URL and ONBOARD_HOME")
    return Finding("ledger", True, f"{'LEDGER_URL' if ours.settings.ledger_url else 'SQLite'}, {number} batches")


def _folders(ours: Resources) -> Finding:
    for folder in (ours.settings.home, ours.files, ours.reports):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"ok")
        except OSError as error:
            return Finding("folders", False, f"cannot write in {folder}: {error.strerror}; check ONBOARD_HOME")
    return Finding("folders", True, f"{Path(ours.settings.home)} is writable")
