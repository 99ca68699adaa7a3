"""A batch is compared with elepay: what is missing there, extra, twice, changed, or not comparable."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

from tasks.elepay.client import ElepayApi, SourceList
from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.error_texts import Said, Sentence
from tasks.errors import ElepayError, Halted, LedgerError, Maintenance, NotSent, RateLimitUnavailable, Throttled
from tasks.files.atomic_write import atomic_write
from tasks.ledger import AuditedRow, Ledger
from tasks.models import Batch, BatchState
from tasks.operations.audit_comparison import KINDS, LIST_INCOMPLETE, NO_METADATA, CustomerRows, Difference, compare
from tasks.operations.batch_status import require_account, state_word, waits_for_next_night
from tasks.reports.i18n import Texts, iso_time
from tasks.reports.lists import write_list
from tasks.send.rate_limit import RateLimit
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

log = structlog.get_logger("onboard")

#: Rows that are read at once, and threads that ask.
PAGE_ROWS = 2_000
THREADS = 16
#: An audit that was interrupted goes on where it stopped for so long.
GOES_ON_SECONDS = 86_400.0
#: `Audit.stopped_by` of one that a person has stopped.
INTERRUPTED = Sentence("interrupted")
COLUMNS = ("kind", "batch", "line", "record", "reference", "source_id", "ledger", "elepay", "what_to_do")
_START = ("", "", 0)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit has found, or had found when it was stopped."""

    batch_id: int
    rows: int
    lists: int  #: times that a customer's sources of one method were listed
    differences: tuple[Difference, ...]
    stopped_by: str = ""  #: why it stopped before its end; the next one goes on where it stopped
    summary: Mapping[str, Any] = field(default_factory=dict)  #: what audit.json says; empty before the end
    reports: Mapping[str, Path] = field(default_factory=dict)  #: `csv` and `json`; empty before the end

    @property
    def counts(self) -> dict[str, int]:
        """How many differences there are of each kind."""
        return _counts(self.differences)


def audited_folder(services: Services, batch_id: int, folder: Path | None = None) -> Path:
    """Return where the audit of a batch is written."""
    return folder or services.lists_folder / str(batch_id)


def is_interrupted(services: Services, batch_id: int, folder: Path | None = None) -> bool:
    """Return whether an earlier audit of a batch was stopped, with which the next one goes on."""
    return _journal(audited_folder(services, batch_id, folder)).exists()


def require_auditable(services: Services, batch_id: int) -> Batch:
    """Return a batch that can be audited. Raises LedgerError if it cannot; SettingsError without a key."""
    batch = services.ledger.batches.get(batch_id)
    if batch.state in (BatchState.READING, BatchState.UNUSABLE):
        raise LedgerError(
            "batch {batch} is {state}: it has nothing to audit", batch=batch_id, state=state_word(batch.state)
        )
    if batch.state is BatchState.RUNNING and waits_for_next_night(services, batch) is None:
        raise LedgerError("batch {batch} is running: audit it when it has finished, or pause it first", batch=batch_id)
    if dropped := services.dropped(batch):
        raise LedgerError("{dropped}: it cannot be audited any more", dropped=dropped)
    require_account(services, batch)
    services.settings.require_key()
    return batch


def audit(
    services: Services,
    batch_id: int,
    *,
    who: str,
    folder: Path | None = None,
    lang: str | None = None,
    progress: Callable[[int, int], None] = lambda _rows, _differences: None,
    stopping: Callable[[], bool] = lambda: False,
) -> Audit:
    """Compare every row of a batch with elepay; nothing is changed but the last known status of created rows.

    1. read rows by customer
    2. list each customer's sources, once a payment method
    3. ask for the status of those created sources that no list shows: lists may hide what has ended
    4. write the page to the journal, with which the next audit goes on if this one is stopped
    5. write audit.csv and audit.json, and drop the journal

    An audit that elepay, Redis or `stopping` ends early says so in `stopped_by`. Raises LedgerError and SettingsError
    as `require_auditable`.
    """
    batch = require_auditable(services, batch_id)
    folder, started = audited_folder(services, batch_id, folder), time.time()
    comparison = _Comparison(services.ledger, batch, _journal(folder))
    try:
        comparison.run(_Questions(services.api, services.rate_limit, stopping), progress)
    except _Stopped:
        return comparison.result(INTERRUPTED)
    except (ElepayError, RateLimitUnavailable) as error:
        return comparison.result(error.sentence)
    texts = Texts(lang or services.settings.lang, services.settings.time_zone)
    done = _write(comparison.result(), folder, texts, started)
    comparison.journal.unlink(missing_ok=True)
    log.info("batch audited", batch=batch_id, who=who, rows=done.rows, differences=len(done.differences))
    return done


class _Stopped(Exception):
    """Whoever asked for the audit wants it to end now."""


class _Comparison:
    """How far the audit of a batch has come."""

    def __init__(self, ledger: Ledger, batch: Batch, journal: Path) -> None:
        self._ledger, self._batch, self.journal = ledger, batch, journal
        self._rows = self._lists = 0
        self._differences: list[Difference] = []
        self._after: tuple[str, str, int] = _START
        self._go_on_where_it_stopped()

    def result(self, stopped_by: Said | None = None) -> Audit:
        """Return what was found so far."""
        return Audit(self._batch.id, self._rows, self._lists, tuple(self._differences), stopped_by or "")

    def run(self, questions: _Questions, progress: Callable[[int, int], None]) -> None:
        """Compare page by page, to the end. Raises _Stopped, ElepayError and RateLimitUnavailable."""
        with ThreadPoolExecutor(THREADS, thread_name_prefix="audit") as threads:
            while rows := self._ledger.audit.page(self._batch.id, self._after, PAGE_ROWS):
                parts = [list(part) for _, part in itertools.groupby(rows, key=lambda row: row[:2])]
                if len(rows) == PAGE_ROWS and len(parts) > 1:
                    parts.pop()  # its other rows are on the next page
                listed = threads.map(questions.list_sources, parts)
                customers = [CustomerRows(part, sources) for part, sources in zip(parts, listed, strict=True)]
                unlisted = [row for customer in customers for row in customer.unlisted]
                words = threads.map(questions.status, unlisted)
                statuses = dict(zip((row.record for row in unlisted), words, strict=True))
                if questions.stopping():  # then some were not asked about
                    raise _Stopped
                self._record(customers, statuses)
                progress(self._rows, len(self._differences))

    def _record(self, customers: Sequence[CustomerRows], statuses: Mapping[int, str | None]) -> None:
        """Keep what a page has come to, in the ledger and in the journal."""
        strange = {reference for customer in customers for reference in customer.strange_references}
        known, live = self._ledger.audit.created_references(strange), self._batch.account.live
        differences = [
            difference
            for customer in customers
            for difference in compare(customer.rows, customer.listed, statuses, known, live)
        ]
        changed = [change for customer in customers for change in customer.changed_statuses(statuses)]
        self._ledger.audit.refresh_statuses(self._batch.id, changed)
        last = customers[-1].rows[-1]
        self._after = (last.customer_id, last.payment_method, last.record)
        self._rows += sum(len(customer.rows) for customer in customers)
        self._lists += len(customers)
        self._differences += differences
        self._note(differences)

    def _note(self, differences: Sequence[Difference]) -> None:
        page = {
            "rows": self._rows,
            "customers": self._lists,
            "after": self._after,
            "differences": [list(difference) for difference in differences],
        }
        self.journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.journal.touch(mode=0o600)
        with self.journal.open("ab") as file:
            file.write(orjson.dumps(page) + b"\n")

    def _go_on_where_it_stopped(self) -> None:
        """Take over what an interrupted audit of the last day had found."""
        journal = self.journal
        if not journal.exists() or time.time() - journal.stat().st_mtime > GOES_ON_SECONDS:
            journal.unlink(missing_ok=True)
            return
        whole = []
        for line in journal.read_bytes().splitlines(keepends=True):
            try:
                page = orjson.loads(line)
            except orjson.JSONDecodeError:
                break  # the process died while it wrote this line
            whole.append(line)
            self._rows, self._lists = page["rows"], page["customers"]
            self._differences += [Difference(*parts) for parts in page["differences"]]
            self._after = (page["after"][0], page["after"][1], page["after"][2])
        journal.write_bytes(b"".join(whole))


class _Questions:
    """Questions to elepay, each with its place of the rate limit; safe to share between threads."""

    def __init__(
        self,
        api: ElepayApi,
        limit: RateLimit,
        stopping: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api, self._limit, self.stopping, self._sleep = api, limit, stopping, sleep
        self._failed = threading.Event()

    def _given_up(self) -> bool:
        return self._failed.is_set() or self.stopping()

    def list_sources(self, rows: Sequence[AuditedRow]) -> SourceList | str:
        """List a customer's sources, or return the code with which elepay refused."""
        first = rows[0]
        try:
            return self._ask(lambda: self._api.list_sources(first.customer_id, first.payment_method))
        except ElepayError as error:
            return self._code_of(error)

    def status(self, row: AuditedRow) -> str | None:
        """Return elepay's word for a source, None if it does not exist there, "" if elepay does not say."""
        try:
            return self._ask(lambda: self._api.retrieve_source_status(row.source_id))
        except ElepayError as error:
            return None if self._code_of(error) == DOES_NOT_EXIST else ""

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

        answer: _Answer = retrying_look_up()(once)
        return answer

    def _code_of(self, error: ElepayError) -> str:
        """Return the code of a failure that is about one customer; raise what is about all of them."""
        if isinstance(error, Halted | NotSent | Maintenance | Throttled):
            self._failed.set()
            raise error
        return error.code


def _journal(folder: Path) -> Path:
    return folder / "audit.part"


def _counts(differences: Sequence[Difference]) -> dict[str, int]:
    counted = Counter(difference.kind for difference in differences)
    return {kind: counted[kind] for kind in KINDS}


def elepay_says(difference: Difference, texts: Texts) -> str:
    """Return what elepay says of a row; in words why it cannot be compared."""
    code = difference.elepay
    if difference.kind != "not_comparable":
        return code
    return texts(f"audit_{code}") if code in (LIST_INCOMPLETE, NO_METADATA) else texts("audit_answered", code=code)


def _write(done: Audit, folder: Path, texts: Texts, started: float) -> Audit:
    """Write audit.csv and audit.json; return the audit with what they say and where they are."""
    lines = (
        (
            each.kind,
            done.batch_id,
            each.line,
            each.record,
            *each[3:6],
            elepay_says(each, texts),
            texts(f"audit_{each.kind}"),
        )
        for each in sorted(done.differences, key=lambda each: (KINDS.index(each.kind), each.record or 0))
    )
    write_list(folder / "audit.csv", COLUMNS, lines)
    summary = {
        "format": 1,
        "batch": done.batch_id,
        "started_at": iso_time(started),
        "finished_at": iso_time(time.time()),
        "rows": done.rows,
        "lists": done.lists,
        "differences": done.counts,
        "agree": not done.differences,
    }
    with atomic_write(folder / "audit.json") as file:
        file.write(json.dumps(summary, indent=2).encode())
    reports = {"csv": folder / "audit.csv", "json": folder / "audit.json"}
    return Audit(done.batch_id, done.rows, done.lists, done.differences, summary=summary, reports=reports)
