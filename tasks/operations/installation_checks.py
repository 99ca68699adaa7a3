"""Whether an installation has what a run needs: key, elepay, Redis, ledger, folders, room, clocks; each as a fact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

from tasks.errors import ElepayError, LedgerError, NotSent, OnboardingError
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.send.rate_limit import clock_ahead_seconds, require_writable
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

#: Less room than this on the disk is reported.
LEAST_FREE_BYTES = 500_000_000
#: Written and removed again.
_PROBE = ".doctor"
#: Clocks that differ by more than this are reported; the ledger's is the one that counts.
MOST_SKEW_SECONDS = 30.0
#: Under this name pip knows the program; its top-level packages have names that others use, too.
DISTRIBUTION = "elepay-onboarding"
PACKAGES = ("tasks", "worker", "simulator")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one subject."""

    subject: str
    ok: bool
    code: str  #: what is so, or what to do; `worker/terminal_texts.toml` has the sentence
    values: Mapping[str, object] = field(default_factory=dict)  #: of its sentence: names, numbers, what was raised


def check_installation(services: Services) -> tuple[Finding, ...]:
    """Examine what any door needs; nothing is changed but folders that are missing."""
    redis = [check_redis(services)] if services.settings.redis_url is not None else []
    return (
        check_packages(),
        check_key(services),
        check_elepay(services),
        *redis,
        check_ledger(services),
        check_memory(services),
        check_folders(services),
        check_disk(services),
        check_clocks(services),
    )


def check_packages() -> Finding:
    """Examine whether another distribution in this environment has packages of the same names: one hides the other."""
    installed = packages_distributions()
    others = sorted({other for package in PACKAGES for other in installed.get(package, ())} - {DISTRIBUTION})
    if others:
        return Finding("packages", False, "packages_clash", {"others": others, "packages": list(PACKAGES)})
    return Finding("packages", True, "packages_alone")


def ledger_place(services: Services) -> str:
    """Return where the ledger is, whether or not there is one."""
    try:
        return Ledger.place_of(services.ledger_url)
    except LedgerError:
        return "unknown"


def check_key(services: Services) -> Finding:
    """Examine whether there is a key that fits the mode."""
    try:
        services.settings.require_key()
    except OnboardingError as error:
        return Finding("secret key", False, "key_wrong", {"error": error})
    return Finding("secret key", True, f"key_{services.settings.mode}")


def check_elepay(services: Services) -> Finding:
    """Examine whether elepay takes the key, and has a payment method that can hold a source."""
    address = services.settings.base_url
    try:
        methods = retrying_look_up()(services.api.list_payment_methods)
    except NotSent as error:
        return Finding("elepay", False, "elepay_unreachable", {"address": address, "code": error.code})
    except ElepayError as error:
        return Finding("elepay", False, "elepay_refuses", {"address": address, "error": error})
    except OnboardingError as error:
        return Finding("elepay", False, "elepay_not_asked", {"error": error})
    holding = sorted(method.name for method in methods if method.holds_sources)
    if not holding:
        return Finding("elepay", False, "elepay_without_methods")
    return Finding("elepay", True, "elepay_ready", {"methods": holding, "count": len(methods)})


def check_redis(services: Services) -> Finding:
    """Examine whether the fleet's Redis answers and can be written."""
    try:
        require_writable(services.redis_url)
    except OnboardingError as error:
        return Finding("redis", False, "redis_wrong", {"error": error})
    return Finding("redis", True, "redis_ready")


def check_ledger(services: Services) -> Finding:
    """Examine whether the ledger can be read and written."""
    try:
        number = len(services.ledger.batches.newest(1000))
        services.ledger.require_writable()
    except (OnboardingError, OSError) as error:
        return Finding("ledger", False, "ledger_wrong", {"error": error})
    where = "LEDGER_URL" if services.settings.ledger_url else "SQLite"
    return Finding("ledger", True, "ledger_ready", {"where": where, "count": number})


def check_memory(services: Services) -> Finding:
    """Examine whether the ledger is the one of before, and as new."""
    try:
        replaced = services.ledger.replaced
    except (OnboardingError, OSError) as error:
        return Finding("memory", False, "memory_unknown", {"error": error})
    if replaced:
        return Finding("memory", False, "ledger_replaced", {"why": replaced})
    return Finding("memory", True, "memory_ready")


def check_folders(services: Services) -> Finding:
    """Examine whether home, files and reports can be written."""
    for store in (LocalFolder(services.settings.home), services.files, services.reports):
        try:
            with store.put(_PROBE) as file:
                file.write(b"ok")
            store.remove(_PROBE)
        except OSError as error:
            return Finding("folders", False, "folder_wrong", {"folder": store.location, "error": error})
    return Finding("folders", True, "folders_ready", {"folder": services.settings.home})


def check_disk(services: Services) -> Finding:
    """Examine whether there is room for ledger, files and reports."""
    free = shutil.disk_usage(services.settings.home if services.settings.home.is_dir() else Path.cwd()).free
    roomy = free >= LEAST_FREE_BYTES
    return Finding("disk", roomy, "disk_ready" if roomy else "disk_full", {"gigabytes": f"{free / 1e9:.1f}"})


def check_clocks(services: Services) -> Finding:
    """Examine whether the clocks of ledger and Redis go as this machine's."""
    try:
        ahead = {"ledger_clock": services.ledger.clock_ahead_seconds}
        if services.settings.redis_url is not None:
            ahead["redis_clock"] = clock_ahead_seconds(services.settings.redis_url)
    except (OnboardingError, OSError):
        return Finding("clocks", True, "clocks_unknown")
    agree = max(map(abs, ahead.values())) <= MOST_SKEW_SECONDS
    return Finding("clocks", agree, "clocks_agree" if agree else "clocks_differ", {"ahead": ahead})
