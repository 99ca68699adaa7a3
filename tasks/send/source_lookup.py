"""What elepay has of an unclear row: found, absent, or unknown.

A list that lacks a row's reference proves that there is no source only if four things are known
(docs/engineering/guarantees.md):

1. the list is complete (docs/reference/elepay-api.md §2.5), and came on a connection that had carried no other request:
   an empty list names no customer, so it could be the answer to another request
2. an earlier look-up, some time before, found the same: an answer may still be on its way at elepay's side
3. lists show references at all: elepay does not document whether a list shows pending sources or metadata, so a
   *control source*, one of the same payment method that elepay has confirmed, must have been seen in a list since the
   row's request ended
4. lists are not behind the end of the row's request: a control source sent after it was seen before the row's own list
   was fetched, or so much time has passed since then as lists may be behind (`Lag`)
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tasks.elepay.client import ElepayApi, SourceList
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.errors import Refused
from tasks.identities import identity_and_generation
from tasks.ledger import Ledger
from tasks.models import ENDED_STATUSES, LeasedRow, Source
from tasks.send.lookup_result import Finding, LookUp

#: After lists showed no control source, none is looked for again for so long.
NOT_SHOWN_SECONDS = 2.0
#: A list that lacks a control source older than this is not behind: that source was deleted, or lists hide it.
MOST_LAG_SECONDS = 3600.0
#: A lag that was seen is expected for so long.
LAG_KEPT_SECONDS = 3600.0
#: Two clocks that drift apart by less than this, and this share of the time, have not jumped.
MOST_DRIFT_SECONDS, MOST_DRIFT = 1.0, 0.01
#: The status of a new source; one that is shown with it proves that lists show new sources.
_NEW = "pending"


class Lag:
    """How far lists may be behind, in seconds: what the operator expects, or twice what was seen lately."""

    def __init__(self, expected_seconds: float) -> None:
        self._expected = expected_seconds
        self._seen = 0.0
        self._seen_at = 0.0

    def seconds(self, now: float) -> float:
        """Return for how long after a request's end a list that lacks its source proves nothing."""
        return max(self._expected, 2 * self._seen if now - self._seen_at < LAG_KEPT_SECONDS else 0.0)

    def lacking(self, sent_at: float, now: float) -> None:
        """Note that a list lacks a source which was sent then and exists."""
        behind = now - sent_at
        if behind < MOST_LAG_SECONDS and (behind > self._seen or now - self._seen_at > LAG_KEPT_SECONDS):
            self._seen, self._seen_at = behind, now


class ClockJumps:
    """How long ago something was, although the ledger's clock may have been set forward since.

    `steady` is a clock that never jumps. Only jumps that this object has seen are known to it.
    """

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._last: tuple[float, float] | None = None  # the ledger's time, the steady one
        self._jumped_at = self._jumped = 0.0

    def since(self, then: float, now: float) -> float:
        """Return the seconds that have really passed between two times of the ledger, the second of which is now."""
        steady = self._steady()
        if self._last is not None:
            passed = steady - self._last[1]
            ahead = now - self._last[0] - passed
            if ahead > MOST_DRIFT_SECONDS + MOST_DRIFT * passed:
                self._jumped_at, self._jumped = now, self._jumped + ahead
        self._last = now, steady
        return now - then - (self._jumped if then < self._jumped_at else 0.0)


class _Shown(NamedTuple):
    """What lists of one payment method were seen to show: a source sent at one time, in a list fetched at another."""

    sent_at: float
    seen_at: float


class SourceLookup:
    """Looks rows up; one object a process, safe to share between threads.

    `take_place` blocks until one request may leave under the fleet's rate limit.
    """

    def __init__(
        self,
        api: ElepayApi,
        ledger: Ledger,
        take_place: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        list_lag_seconds: float,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._take_place = take_place
        self._clock = clock
        self._lag = Lag(list_lag_seconds)
        self._jumps = ClockJumps(clock)
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}  # by payment method
        self._not_shown_at: dict[tuple[int, str], float] = {}  # by batch and method, by `clock`

    def look_up(self, row: LeasedRow) -> LookUp:
        """Ask elepay for a row's source. The caller has taken the first place of the rate limit; raises ElepayError.

        The first look-up costs one request. The second looks control sources up before it, unless one that was
        seen for another row serves for this row, too.

        A row that was never sent is not missing while its identity has a source of any generation: a ledger that was
        lost may have made it. Where elepay does not know the customer, there is none.
        """
        confirms = row.absent_at is not None
        if confirms and not self._is_up_to_date(row, self._ledger.now()):
            self._look_up_control_sources(row)
        asked_at = self._ledger.now()
        up_to_date = self._is_up_to_date(row, asked_at)
        try:
            listed = self._api.list_sources(row.customer_id, row.payment_method, fresh=confirms)
        except Refused as error:
            if row.never_sent and error.code == DOES_NOT_EXIST and not error.bare:
                return LookUp(Finding.ABSENT, proved=True)
            raise
        if row.never_sent and (result := _of_identity(row, listed)) and result.source is not None:
            self._note_found(row, result.source, asked_at)
            return result
        matching = [source for source in listed.sources if source.reference == row.reference]
        if matching:
            self._note_found(row, matching[0], asked_at)
            return LookUp(Finding.FOUND, matching[0], len(matching))
        if not listed.complete or hides_metadata(listed):
            return LookUp(Finding.UNKNOWN)
        if up_to_date or not confirms:
            return LookUp(Finding.ABSENT, proved=up_to_date)
        if not self._shows_references(row):
            return LookUp(Finding.UNKNOWN)
        left = self._lag.seconds(asked_at) - self._jumps.since(_ended_at(row), asked_at)
        return LookUp(Finding.ABSENT, proved_at=asked_at + left)

    def _is_up_to_date(self, row: LeasedRow, now: float) -> bool:
        """Return whether a list that is fetched now shows whatever a row's request has created (points 3 and 4)."""
        if not self._shows_references(row):
            return False
        ended_at = _ended_at(row)
        long_ago = self._jumps.since(ended_at, now) >= self._lag.seconds(now)
        return long_ago or self._shown[row.payment_method].sent_at > ended_at

    def _shows_references(self, row: LeasedRow) -> bool:
        shown = self._shown.get(row.payment_method)
        return shown is not None and shown.seen_at >= _ended_at(row)

    def _look_up_control_sources(self, row: LeasedRow) -> None:
        """Look control sources up until a list shows one; those that lists lack say how far lists are behind."""
        key = row.batch_id, row.payment_method
        with self._lock:
            if self._is_up_to_date(row, self._ledger.now()):
                return  # another thread has looked one up meanwhile
            if self._clock() - self._not_shown_at.get(key, -NOT_SHOWN_SECONDS) < NOT_SHOWN_SECONDS:
                return
            after = _ended_at(row)
            for control in self._ledger.control_sources.choose(
                row.batch_id, row.record, row.payment_method, after=after
            ):
                self._take_place()
                asked_at = self._ledger.now()
                listed = self._api.list_sources(control.customer_id, row.payment_method)
                if any(source.reference == control.reference for source in listed.sources):
                    self._note_shown(row.payment_method, control.sent_at, asked_at)
                    return
                if listed.complete:
                    self._lag.lacking(control.sent_at, asked_at)
            self._not_shown_at[key] = self._clock()

    def _note_found(self, row: LeasedRow, source: Source, asked_at: float) -> None:
        """Let a source that was found be a control source, if it was new: lists may hide new ones and show others."""
        if source.status == _NEW:
            with self._lock:
                self._note_shown(row.payment_method, row.sent_at or 0.0, asked_at)

    def _note_shown(self, payment_method: str, sent_at: float, seen_at: float) -> None:
        before = self._shown.get(payment_method, _Shown(sent_at, seen_at))
        self._shown[payment_method] = _Shown(max(sent_at, before.sent_at), max(seen_at, before.seen_at))


def _ended_at(row: LeasedRow) -> float:
    """Return when a row's request ended, by the ledger's clock; if that was not noted, it ends only now."""
    return math.inf if row.ended_at is None else row.ended_at


def _of_identity(row: LeasedRow, listed: SourceList) -> LookUp | None:
    """Return the newest source of a row's identity, those that have not ended first."""
    wanted = identity_and_generation(row.reference)
    candidates = []
    for source in listed.sources:
        named = identity_and_generation(source.reference or "")
        if named is not None and wanted is not None and named[0] == wanted[0] and named[1] >= wanted[1]:
            candidates.append((source.status not in ENDED_STATUSES, named[1], source))
    if not candidates:
        return None
    alive, generation, source = max(candidates, key=lambda candidate: candidate[:2])
    copies = sum(candidate[:2] == (alive, generation) for candidate in candidates)
    return LookUp(Finding.FOUND, source, copies, None if source.reference == row.reference else generation)


def hides_metadata(listed: SourceList) -> bool:
    """Return whether a list has sources and shows the metadata of none of them: it proves nothing about references."""
    return bool(listed.sources) and not any(source.has_metadata for source in listed.sources)
