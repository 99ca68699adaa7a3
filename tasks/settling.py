"""What elepay has of an unclear row: found, surely absent, or not to be told.

A list without our reference proves nothing unless it is complete (docs/elepay-api.md §2.5) and unless lists show our
references at all. elepay does not document whether a list shows pending sources or metadata, so the second is not
believed but tested: a *witness*, a source of the same payment method that elepay confirmed to us, must be found the
same way. As long as there is no witness, nothing is proved, and the row waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from tasks.elepay_api import ElepayApi, SourceList
from tasks.elepay_codes import DOES_NOT_EXIST, REFUSED_IF_ABSENT
from tasks.errors import Refused
from tasks.ledger import ENDED_STATUSES, Ledger
from tasks.models import HeldRow, Source, identity_and_generation

#: After lists showed no witness, none is looked for again for so long.
NOT_SHOWN_SECONDS = 2.0


class Finding(Enum):
    """What a look-up says."""

    FOUND = "found"  #: our reference is there
    ABSENT = "absent"  #: the list is complete, shows references, and ours is not among them
    UNKNOWN = "unknown"  #: nothing is proved


class LookUp(NamedTuple):
    """A finding; `source` is ours if found, `copies` how many carry our reference (more than one: report it)."""

    finding: Finding
    source: Source | None = None
    copies: int = 0
    generation: int | None = None  #: of the source, if it is not the row's own


class Settling:
    """Looks rows up; one object a process, safe to share between threads.

    `take_place` blocks until one request may leave under the fleet's rate limit.
    """

    def __init__(
        self,
        api: ElepayApi,
        ledger: Ledger,
        take_place: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._take_place = take_place
        self._clock = clock
        self._lock = threading.Lock()
        self._shown_until: dict[tuple[int, str], float] = {}  # by batch and method: lists show what was sent before
        self._not_shown_at: dict[tuple[int, str], float] = {}

    def look_up(self, row: HeldRow) -> LookUp:
        """Ask elepay for a row's source. The caller has taken the first place of the rate limit; raises ElepayError.

        A row that was never sent is not absent while its identity has a source of any generation: a ledger that was
        lost may have made it. Where elepay does not know the customer, there is none.
        """
        try:
            listed = self._api.list_sources(row.customer_id, row.payment_method)
        except Refused as error:
            if row.never_sent and error.code == DOES_NOT_EXIST:
                return LookUp(Finding.ABSENT)
            raise
        if row.never_sent and (found := _of_identity(row, listed)):
            return found
        ours = [source for source in listed.sources if source.reference == row.reference]
        if ours:
            return LookUp(Finding.FOUND, ours[0], len(ours))
        if not listed.complete or hides_metadata(listed):
            return LookUp(Finding.UNKNOWN)
        if row.code in REFUSED_IF_ABSENT:  # it is not sent again, so a wrong "absent" makes no second source
            return LookUp(Finding.ABSENT)
        return LookUp(Finding.ABSENT if self._lists_show_references(row) else Finding.UNKNOWN)

    def _lists_show_references(self, row: HeldRow) -> bool:
        """Look witnesses up; True if one is shown.

        The best witness was sent after the row itself: where it is shown, lists are not behind the row's own time.
        """
        key, sent_at = (row.batch_id, row.payment_method), row.sent_at or 0.0
        with self._lock:
            if self._shown_until.get(key, -1.0) >= sent_at:
                return True
            if self._clock() - self._not_shown_at.get(key, -NOT_SHOWN_SECONDS) < NOT_SHOWN_SECONDS:
                return False
            witnesses = self._ledger.witnesses(row.batch_id, row.record, row.payment_method)
            for witness in [one for one in witnesses if one.sent_at >= sent_at] or witnesses:
                self._take_place()
                listed = self._api.list_sources(witness.customer_id, row.payment_method)
                if any(source.reference == witness.reference for source in listed.sources):
                    self._shown_until[key] = max(witness.sent_at, self._shown_until.get(key, -1.0))
                    return True
            self._not_shown_at[key] = self._clock()
            return False


def _of_identity(row: HeldRow, listed: SourceList) -> LookUp | None:
    """Return the newest source of a row's identity, those that have not ended first."""
    wanted = identity_and_generation(row.reference)
    found = []
    for source in listed.sources:
        named = identity_and_generation(source.reference or "")
        if named is not None and wanted is not None and named[0] == wanted[0] and named[1] >= wanted[1]:
            found.append((source.status not in ENDED_STATUSES, named[1], source))
    if not found:
        return None
    alive, generation, source = max(found, key=lambda one: one[:2])
    copies = sum(one[:2] == (alive, generation) for one in found)
    return LookUp(Finding.FOUND, source, copies, None if source.reference == row.reference else generation)


def hides_metadata(listed: SourceList) -> bool:
    """Tell whether a list has sources and shows the metadata of none of them: it proves nothing about references."""
    return bool(listed.sources) and not any(source.has_metadata for source in listed.sources)
