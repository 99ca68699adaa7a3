"""Whether an installation has what a run needs: key, elepay, Redis, ledger, folders, room, clocks; each as a fact."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import ElepayError, LedgerError, NotSent, OnboardingError
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Reason
from tasks.reason_texts import hint, sentence
from tasks.send.rate_limit import clock_ahead_seconds, require_writable
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

#: Less room than this on the disk is reported.
LEAST_FREE_BYTES = 500_000_000
#: Written and removed again.
_PROBE = ".doctor"
#: Clocks that differ by more than this are reported; the ledger's is the one that counts.
MOST_SKEW_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one subject."""

    subject: str
    ok: bool
    says: str  #: what is so, or what to do


def check_installation(services: Services) -> tuple[Finding, ...]:
    """Examine what any door needs; nothing is changed but folders that are missing."""
    redis = [check_redis(services)] if services.settings.redis_url is not None else []
    return (
        check_key(services),
        check_elepay(services),
        *redis,
        check_ledger(services),
        check_memory(services),
        check_folders(services),
        check_disk(services),
        check_clocks(services),
    )


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
        return Finding("secret key", False, str(error))
    return Finding("secret key", True, f"a {services.settings.mode} key")


def check_elepay(services: Services) -> Finding:
    """Examine whether elepay takes the key, and has a payment method that can hold a source."""
    try:
        methods = retrying_look_up()(services.api.list_payment_methods)
    except NotSent as error:
        do = hint(error.code).removeprefix("Nothing was created. ").partition(", then go on")[0].rstrip(".")
        return Finding("elepay", False, f"{services.settings.base_url} was tried: {sentence(Reason(error.code))} {do}.")
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


def check_redis(services: Services) -> Finding:
    """Examine whether the fleet's Redis answers and can be written."""
    try:
        require_writable(services.redis_url)
    except OnboardingError as error:
        return Finding("redis", False, f"{error}; check REDIS_URL and that the server runs")
    return Finding("redis", True, "answers, and can be written")


def check_ledger(services: Services) -> Finding:
    """Examine whether the ledger can be read and written."""
    try:
        number = len(services.ledger.batches.newest(1000))
        services.ledger.require_writable()
    except (OnboardingError, OSError) as error:
        return Finding("ledger", False, f"{error}; check LEDGER_URL and ONBOARD_HOME")
    return Finding("ledger", True, f"{'LEDGER_URL' if services.settings.ledger_url else 'SQLite'}, {number} batches")


def check_memory(services: Services) -> Finding:
    """Examine whether the ledger is the one of before, and as new."""
    try:
        replaced = services.ledger.replaced
    except (OnboardingError, OSError) as error:
        return Finding("memory", False, f"the ledger cannot be asked: {error}")
    return Finding("memory", not replaced, replaced or "the ledger is the one of before, and as new")


def check_folders(services: Services) -> Finding:
    """Examine whether home, files and reports can be written."""
    for store in (LocalFolder(services.settings.home), services.files, services.reports):
        try:
            with store.put(_PROBE) as file:
                file.write(b"ok")
            store.remove(_PROBE)
        except OSError as error:
            return Finding("folders", False, f"cannot write in {store.location}: {error.strerror}; check ONBOARD_HOME")
    return Finding("folders", True, f"{services.settings.home} is writable")


def check_disk(services: Services) -> Finding:
    """Examine whether there is room for ledger, files and reports."""
    free = shutil.disk_usage(services.settings.home if services.settings.home.is_dir() else Path.cwd()).free
    says = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, f"{says} where ONBOARD_HOME is: ledger, files and reports need room")
    return Finding("disk", True, says)


def check_clocks(services: Services) -> Finding:
    """Examine whether the clocks of ledger and Redis go as this machine's."""
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
