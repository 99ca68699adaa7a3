"""The ledger of an installation: created, upgraded, accepted as it is."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from tasks.ledger import Ledger, SharedSource
from tasks.services import Services

log = structlog.get_logger("onboard")


@dataclass(frozen=True, slots=True)
class LedgerCreated:
    """The ledger of this installation, which is there now."""

    is_new: bool
    place: str


@dataclass(frozen=True, slots=True)
class LedgerUpgraded:
    """A ledger of this program's version."""

    before: str | None  #: its version until now; None: it was empty
    after: str
    shared_sources: tuple[SharedSource, ...]  #: sources that more than one row has


@dataclass(frozen=True, slots=True)
class LedgerAccepted:
    """A ledger that was restored or replaced, and is worked with from now on."""

    batches: tuple[int, ...]  #: unfinished ones, which look their rows up before they send them
    place: str


def create_ledger(services: Services) -> LedgerCreated:
    """Make the ledger of a new installation; in live mode nothing else does."""
    is_new = Ledger.create(services.ledger_url, services.account, home=services.settings.home)
    return LedgerCreated(is_new, services.ledger.place)


def upgrade_ledger(services: Services) -> LedgerUpgraded:
    """Bring the ledger up to this program's version."""
    before, after = Ledger.upgrade(services.ledger_url, services.account, home=services.settings.home)
    return LedgerUpgraded(before, after, tuple(services.ledger.held_sources.shared()))


def accept_ledger_as_it_is(services: Services, *, who: str) -> LedgerAccepted:
    """Go on with a ledger that was restored, or that is another one: nothing in it is sent without a look-up."""
    batches = services.ledger.acceptance.accept_as_it_is(who)
    log.info("ledger accepted as it is", batches=len(batches))
    return LedgerAccepted(tuple(batches), services.ledger.place)
