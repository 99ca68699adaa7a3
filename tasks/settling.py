"""What elepay has of an unclear row: found, surely absent, or not to be told.

A list without our reference proves nothing unless it is complete (docs/elepay-api.md §2.5) and unless lists show our
references at all. elepay does not document whether a list shows pending sources or metadata, so the second is not
believed but tested: a *witness*, a source of the same payment method that elepay confirmed to us, must be found the
same way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from tasks.elepay_api import ElepayApi, SourceList
from tasks.ledger import Ledger
from tasks.models import HeldRow, Source

#: How long a witness that was found is believed.
WITNESS_SECONDS = 60.0


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


class Settling:
    """Looks rows up; one object a process, safe to share between threads.

    `take_place` blocks until one request may leave under the fleet's rate limit.
    """

    def __init__(self, api: ElepayApi, ledger: Ledger, take_place: Callable[[], None]) -> None:
        self._api = api
        self._ledger = ledger
        self._take_place = take_place
        self._lock = threading.Lock()
        self._witnessed: dict[tuple[int, str], tuple[float, bool]] = {}

    def look_up(self, row: HeldRow) -> LookUp:
        """Ask elepay for a row's source. The caller has taken the first place of the rate limit; raises ElepayError."""
        listed = self._api.list_sources(row.customer_id, row.payment_method)
        ours = [source for source in listed.sources if source.reference == row.reference]
        if ours:
            return LookUp(Finding.FOUND, ours[0], len(ours))
        if not listed.complete or _hides_metadata(listed) or not self._lists_show_references(row):
            return LookUp(Finding.UNKNOWN)
        return LookUp(Finding.ABSENT)

    def _lists_show_references(self, row: HeldRow) -> bool:
        """Look a witness up; without any witness in the batch yet, the list's own signs must do."""
        key = (row.batch_id, row.payment_method)
        with self._lock:
            seen_at, shown = self._witnessed.get(key, (-WITNESS_SECONDS, False))
            if time.monotonic() - seen_at < WITNESS_SECONDS and shown:
                return True
            witnesses = self._ledger.witnesses(row.batch_id, row.payment_method)
            shown = not witnesses
            for customer_id, reference in witnesses:
                self._take_place()
                listed = self._api.list_sources(customer_id, row.payment_method)
                if any(source.reference == reference for source in listed.sources):
                    shown = True
                    break
            if witnesses:
                self._witnessed[key] = (time.monotonic(), shown)
            return shown


def _hides_metadata(listed: SourceList) -> bool:
    return bool(listed.sources) and not any(source.has_metadata for source in listed.sources)
