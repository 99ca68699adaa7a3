"""What elepay has of an unclear row now, beside what was seen of it before: a person decides from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.errors import ElepayError, LedgerError
from tasks.ledger import DoubtTimes, UnclearRow
from tasks.models import Source
from tasks.operations.access_history import LOOK
from tasks.operations.batch_status import require_account
from tasks.operations.find_record import find_record
from tasks.operations.person_requests import wait_for_place
from tasks.operations.show_row import ShownRow, show_row
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class ListedSources:
    """A customer's sources of one payment method, as elepay lists them now."""

    sources: tuple[Source, ...] = ()
    complete: bool = False  #: elepay itself says that these are all
    code: str = ""  #: why elepay was not asked, or did not answer; "": it did

    def with_reference(self, reference: str) -> tuple[Source, ...]:
        """Return those that carry a row's reference: they are its own."""
        return tuple(source for source in self.sources if source.reference == reference)


@dataclass(frozen=True, slots=True)
class ControlSeen:
    """A source that elepay surely has, sent after the row: lists that show it are not behind."""

    reference: str
    sent_at: float
    is_listed: bool  #: elepay lists it now


@dataclass(frozen=True, slots=True)
class Evidence:
    """An unclear row, and what speaks for which decision."""

    shown: ShownRow
    times: DoubtTimes
    listed: ListedSources
    control: ControlSeen | None  #: None: no later source is known, or elepay was not asked

    @property
    def own(self) -> tuple[Source, ...]:
        """The sources that are surely this row's."""
        return self.listed.with_reference(self.shown.row.reference)


def evidence(services: Services, batch_id: int, line: int) -> Evidence:
    """Return a row and what elepay lists of its customer now. Raises LedgerError if no record is on the line."""
    require_account(services, services.ledger.batches.get(batch_id))
    shown = show_row(services, batch_id, line)
    times = services.ledger.resolution.doubt_times(batch_id, shown.row.record)
    control = _control(services, shown, times)  # before the row's own list, which then is at least as new
    return Evidence(shown, times, _listed(services, shown.customer_id, shown.row.payment_method), control)


def listed_now(services: Services, row: UnclearRow) -> ListedSources:
    """Return what elepay lists now of an unclear row's customer. Raises LedgerError for a row of another account."""
    require_account(services, services.ledger.batches.get(row.batch_id))
    return _listed(services, row.customer_id or "", row.payment_method)


def last_decision(services: Services, batch_id: int, line: int) -> Mapping[str, Any] | None:
    """Return what somebody did last to a row, and when: who was first, after a race. None: nobody did anything.

    To look at it is no deed.
    """
    try:
        record = find_record(services, batch_id, line).record
    except LedgerError:
        return None
    by_people = [
        each for each in services.ledger.history.lines(batch_id, record) if each["who"] and each["what"] != LOOK
    ]
    return by_people[-1] if by_people else None


def _control(services: Services, shown: ShownRow, times: DoubtTimes) -> ControlSeen | None:
    """Return whether elepay lists a source that was sent after a row's request had ended."""
    after = times.ended_at or times.sent_at
    if after is None:
        return None
    method = shown.row.payment_method
    sources = services.ledger.control_sources.choose(shown.batch_id, shown.row.record, method, after=after, few=True)
    later = next((each for each in sources if each.sent_at > after), None)
    if later is None:
        return None
    listed = _listed(services, later.customer_id, method)
    seen = bool(listed.with_reference(later.reference))
    return None if listed.code else ControlSeen(later.reference, later.sent_at, seen)


def _listed(services: Services, customer_id: str, payment_method: str) -> ListedSources:
    if not customer_id:
        return ListedSources(code="no_customer")
    if services.settings.secret_key is None:
        return ListedSources(code="no_key")
    wait_for_place(services)
    try:
        found = retrying_look_up(attempts=2)(services.api.list_sources, customer_id, payment_method, fresh=True)
    except ElepayError as error:
        return ListedSources(code=error.code)
    return ListedSources(tuple(found.sources), found.complete)
