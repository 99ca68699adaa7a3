"""The ledger compared with elepay, by look-up: missing, extra, twice, changed, not comparable."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import orjson

from tasks.elepay.client import ElepayApi, SourceList
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.errors import ElepayError, Halted, Maintenance, NotSent, Throttled
from tasks.ledger import AuditedRow, Ledger
from tasks.models import Batch, RowState, Source
from tasks.send.rate_limit import RateLimit
from tasks.send.retry_policy import retrying_look_up
from tasks.send.source_lookup import hides_metadata

#: Rows that are read at once, and threads that ask.
PAGE_ROWS = 2_000
THREADS = 16
#: An audit that was interrupted goes on where it stopped for so long.
GOES_ON_SECONDS = 86_400.0
KINDS = ("missing", "extra", "twice", "changed", "not_comparable")
_START = ("", "", 0)
_Answer = TypeVar("_Answer")


class Difference(NamedTuple):
    """One thing about which ledger and elepay do not agree, or that cannot be told."""

    kind: str
    record: int | None  #: None: a source that no row of this batch has to do with
    line: int | None
    reference: str
    source_id: str
    ledger: str  #: what the ledger says
    elepay: str  #: what elepay says


@dataclass(slots=True)
class Audit:
    """How far an audit has come."""

    batch_id: int
    rows: int = 0
    customers: int = 0  #: times that a customer's sources of one method were listed
    differences: list[Difference] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """How many differences there are of each kind."""
        found = Counter(one.kind for one in self.differences)
        return {kind: found[kind] for kind in KINDS}


class _Group(NamedTuple):
    """A customer's rows of one payment method, and what elepay lists (or why it does not)."""

    rows: list[AuditedRow]
    listed: SourceList | str


def audit(
    ledger: Ledger,
    api: ElepayApi,
    limit: RateLimit,
    batch: Batch,
    journal: Path,
    *,
    progress: Callable[[Audit], None] = lambda _audit: None,
    stopping: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> Audit:
    """Compare every row of a batch with elepay; nothing is changed but the last known status of created rows.

    1. read rows by customer; 2. list each customer's sources once a payment method; 3. ask for the status of those
    created sources that no list shows: lists may hide what has ended; 4. write the page to the journal, with which the
    next audit goes on if this one is interrupted. Raises ElepayError when key, network or elepay are in the way, and
    KeyboardInterrupt when it was told to stop.
    """
    done, after = _resume(batch.id, journal)
    asking = _Asking(api, limit, stopping, sleep)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="audit") as threads:
        while rows := ledger.audit.page(batch.id, after, PAGE_ROWS):
            parts = [list(part) for _, part in itertools.groupby(rows, key=lambda row: row[:2])]
            if len(rows) == PAGE_ROWS and len(parts) > 1:
                parts.pop()  # its other rows are on the next page
            groups = [_Group(*one) for one in zip(parts, threads.map(asking.list_sources, parts), strict=True)]
            unlisted = [row for group in groups for row in _unlisted(group)]
            statuses = dict(zip((row.record for row in unlisted), threads.map(asking.status, unlisted), strict=True))
            if stopping():  # then some were not asked about
                raise KeyboardInterrupt
            known = ledger.audit.created_references(_strange(groups))
            live = batch.account.live
            found = [one for group in groups for one in compare(group.rows, group.listed, statuses, known, live)]
            ledger.audit.refresh_statuses(batch.id, list(_changed_statuses(groups, statuses)))
            last = parts[-1][-1]
            after = (last.customer_id, last.payment_method, last.record)
            done.rows += sum(map(len, parts))
            done.customers += len(parts)
            done.differences += found
            _note(journal, done, after, found)
            progress(done)
    return done


class _Asking:
    """Questions to elepay, each with its place of the rate limit; safe to share between threads."""

    def __init__(
        self, api: ElepayApi, limit: RateLimit, stopping: Callable[[], bool], sleep: Callable[[float], None]
    ) -> None:
        self._api, self._limit, self._stopping, self._sleep = api, limit, stopping, sleep
        self._failed = threading.Event()

    def _given_up(self) -> bool:
        return self._failed.is_set() or self._stopping()

    def list_sources(self, rows: Sequence[AuditedRow]) -> SourceList | str:
        """List a customer's sources, or say with which code elepay refused."""
        first = rows[0]
        try:
            return self._ask(lambda: self._api.list_sources(first.customer_id, first.payment_method))
        except ElepayError as error:
            return self._one_only(error)

    def status(self, row: AuditedRow) -> str | None:
        """Return elepay's word for a source, None if it does not exist there, "" if elepay does not tell."""
        try:
            return self._ask(lambda: self._api.retrieve_source_status(row.source_id))
        except ElepayError as error:
            return None if self._one_only(error) == DOES_NOT_EXIST else ""

    def _ask(self, call: Callable[[], _Answer]) -> _Answer:
        def once() -> _Answer:
            if not self._limit.take_place(self._sleep, self._given_up):
                raise ElepayError("held_back")  # the page is not looked at
            started = time.monotonic()
            try:
                return call()
            except Throttled as error:
                self._limit.cut(time.monotonic() - started, error.retry_after_seconds, bare=error.bare)
                raise

        found: _Answer = retrying_look_up()(once)
        return found

    def _one_only(self, error: ElepayError) -> str:
        """Return the code of a failure that is about one customer; raise what is about all of them."""
        if isinstance(error, Halted | NotSent | Maintenance | Throttled):
            self._failed.set()
            raise error
        return error.code


def compare(
    rows: Sequence[AuditedRow],
    listed: SourceList | str,
    statuses: dict[int, str | None],
    known: set[str],
    live: bool,
) -> list[Difference]:
    """Hold one customer's rows of one method against what elepay lists.

    `statuses` has elepay's word for created rows (by record) that the list does not show, `known` the references of
    other rows that the ledger calls created. A list that is incomplete or hides metadata still shows what it shows.
    """
    sources = [] if isinstance(listed, str) else listed.sources
    by_reference: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        if source.reference and source.status != "deleted":
            by_reference[source.reference].append(source)
    found: list[Difference] = []
    for row in rows:
        copies = by_reference.pop(row.reference, [])
        found += _of_row(row, copies, sources, statuses, live)
    for reference, copies in by_reference.items():
        if reference not in known:
            found += [Difference("extra", None, None, reference, one.id, "", one.status) for one in copies]
        elif len(copies) > 1:
            found += [Difference("twice", None, None, reference, one.id, "created", one.status) for one in copies]
    why = _why_not(listed)
    if why:
        first = rows[0]
        found.append(Difference("not_comparable", first.record, first.line, first.reference, "", first.state, why))
    return found


def _of_row(
    row: AuditedRow, copies: list[Source], sources: list[Source], statuses: dict[int, str | None], live: bool
) -> Iterable[Difference]:
    def differs(kind: str, source_id: str, ledger: str, elepay: str) -> Difference:
        return Difference(kind, row.record, row.line, row.reference, source_id, ledger, elepay)

    if row.state != RowState.CREATED:
        yield from (differs("extra", one.id, row.state, one.status) for one in copies)
        return
    own = next((one for one in sources if one.id == row.source_id), None)
    status = own.status if own else statuses.get(row.record, "")
    if status is None:
        yield differs("missing", row.source_id, row.source_status, "")
    elif status and status != row.source_status:
        yield differs("changed", row.source_id, row.source_status, status)
    if own and own.payment_method and own.payment_method != row.payment_method:
        yield differs("changed", row.source_id, row.payment_method, own.payment_method)
    if own and own.live_mode is not None and own.live_mode != live:
        yield differs("changed", row.source_id, _mode(live), _mode(own.live_mode))
    others = [one for one in copies if one.id != row.source_id]
    there = status is not None and status != "deleted"
    yield from (differs("twice" if there else "extra", one.id, row.source_id, one.status) for one in others)


def _mode(live: bool) -> str:
    return "live" if live else "test"


def _why_not(listed: SourceList | str) -> str:
    if isinstance(listed, str):
        return f"elepay answered {listed}"
    if not listed.complete:
        return "the list is not complete"
    return "the list shows no metadata" if hides_metadata(listed) else ""


def _unlisted(group: _Group) -> list[AuditedRow]:
    listed = set() if isinstance(group.listed, str) else {source.id for source in group.listed.sources}
    return [row for row in group.rows if row.state == RowState.CREATED and row.source_id not in listed]


def _strange(groups: Sequence[_Group]) -> set[str]:
    """Return the references in lists that none of the listed customer's rows has."""
    strange = set()
    for group in groups:
        services = {row.reference for row in group.rows}
        if not isinstance(group.listed, str):
            strange |= {source.reference for source in group.listed.sources if source.reference} - services
    return strange


def _changed_statuses(groups: Sequence[_Group], statuses: dict[int, str | None]) -> Iterable[tuple[int, str, str]]:
    for group in groups:
        listed = {} if isinstance(group.listed, str) else {source.id: source.status for source in group.listed.sources}
        for row in group.rows:
            status = listed.get(row.source_id) or statuses.get(row.record)
            if row.state == RowState.CREATED and status and status != row.source_status:
                yield row.record, row.source_id, status


def _resume(batch_id: int, journal: Path) -> tuple[Audit, tuple[str, str, int]]:
    """Return what an interrupted audit of the last day had found, and where it stopped."""
    done, after = Audit(batch_id), _START
    if not journal.exists() or time.time() - journal.stat().st_mtime > GOES_ON_SECONDS:
        journal.unlink(missing_ok=True)
        return done, after
    whole = []
    for line in journal.read_bytes().splitlines(keepends=True):
        try:
            page = orjson.loads(line)
        except orjson.JSONDecodeError:
            break  # it died while it wrote this line
        whole.append(line)
        done.rows, done.customers = page["rows"], page["customers"]
        done.differences += [Difference(*one) for one in page["differences"]]
        after = (page["after"][0], page["after"][1], page["after"][2])
    journal.write_bytes(b"".join(whole))
    return done, after


def _note(journal: Path, done: Audit, after: tuple[str, str, int], found: list[Difference]) -> None:
    page = {"rows": done.rows, "customers": done.customers, "after": after, "differences": [list(one) for one in found]}
    journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    journal.touch(mode=0o600)
    with journal.open("ab") as file:
        file.write(orjson.dumps(page) + b"\n")
