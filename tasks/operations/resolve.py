"""An unclear row is settled by a person's word, after elepay was asked whether the word can be true."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.elepay.codes import DOES_NOT_EXIST
from tasks.errors import ElepayError, LedgerError
from tasks.ledger import UnclearRow
from tasks.models import RowState
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, require_account
from tasks.operations.find_record import FoundRecord, find_record
from tasks.operations.four_eyes import Deed, FourEyes
from tasks.operations.person_requests import wait_for_place
from tasks.send.retry_policy import retrying_look_up
from tasks.services import Services

__all__ = [
    "Resolved",
    "SourceAnswer",
    "UnclearRow",
    "count_unclear",
    "give_up",
    "list_unclear",
    "resolve_as_absent",
    "resolve_as_created",
]


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What elepay said of a source that a person named."""

    status: str = ""  #: elepay's word; "": it could not be asked
    code: str = ""  #: why it could not be asked, "" if there is no key to ask with


@dataclass(frozen=True, slots=True)
class Resolved:
    """A row that a person has settled."""

    status: BatchStatus
    record: int
    line: int  #: on which the record starts
    state: RowState
    answer: SourceAnswer | None = None  #: for a row that is created


def list_unclear(
    services: Services, batch_id: int | None = None, *, limit: int | None = 1000, after: tuple[int, int] = (0, 0)
) -> tuple[UnclearRow, ...]:
    """Return the unclear rows that wait for a person, of one batch or of all: so many (None: all) behind a record.

    `after` is that record's batch and number.
    """
    return tuple(services.ledger.resolution.unclear_rows(batch_id, limit, after))


def count_unclear(services: Services, batch_id: int | None = None) -> int:
    """Count what `list_unclear` lists without a limit."""
    return services.ledger.resolution.count_unclear(batch_id)


def resolve_as_created(services: Services, batch_id: int, line: int, source_id: str, *, who: str) -> Resolved:
    """Say that a row's source exists, and which it is.

    elepay is asked about the source; if it cannot be asked, the person's word counts. Raises LedgerError if elepay has
    no such source, if it belongs to another row, or if the row does not wait for a person.
    """
    found = _found(services, batch_id, line)
    answer = _ask_for_source(services, source_id)
    return _resolved(services, batch_id, found, RowState.CREATED, who, source_id=source_id, answer=answer)


def resolve_as_absent(services: Services, batch_id: int, line: int, *, who: str, reason: str = "") -> Resolved:
    """Say that a row has no source, and is to be sent again; `reason` is for the history.

    A wrong word would make a second source, so elepay must list the customer's sources without it first. Raises
    LedgerError if elepay has the source or does not answer, or if the row does not wait for a person;
    SecondPersonNeeded.
    """
    found = _found(services, batch_id, line)
    batch = services.ledger.batches.get(batch_id)
    FourEyes.of(services.settings).require_other(services.ledger, batch, Deed.ABSENT, who)
    _require_absence(services, batch_id, found.record)
    return _resolved(services, batch_id, found, RowState.WAITING, who, reason=reason)


def give_up(services: Services, batch_id: int, line: int, *, who: str, reason: str = "") -> Resolved:
    """Leave a row unclear for good; its identity is not sent by another file either, for its source may exist.

    `reason` is for the history. Raises LedgerError if the row does not wait for a person.
    """
    return _resolved(services, batch_id, _found(services, batch_id, line), RowState.UNCLEAR, who, reason=reason)


def _found(services: Services, batch_id: int, line: int) -> FoundRecord:
    """Return the record on a line, of a batch and a ledger that may be decided about here."""
    services.ledger.require_memory()
    require_account(services, services.ledger.batches.get(batch_id))  # else elepay is asked about a stranger
    return find_record(services, batch_id, line)


def _resolved(
    services: Services,
    batch_id: int,
    found: FoundRecord,
    state: RowState,
    who: str,
    *,
    source_id: str | None = None,
    answer: SourceAnswer | None = None,
    reason: str = "",
) -> Resolved:
    services.ledger.resolution.resolve(batch_id, found.record, state, source_id=source_id, who=who, reason=reason)
    batch_lifecycle.close_finished_batch(services.ledger, batch_id)
    return Resolved(batch_status(services, batch_id), found.record, found.line, state, answer)


def _ask_for_source(services: Services, source_id: str) -> SourceAnswer:
    if services.settings.secret_key is None:
        return SourceAnswer()
    wait_for_place(services)
    try:
        return SourceAnswer(retrying_look_up()(services.api.retrieve_source_status, source_id))
    except ElepayError as error:
        if error.code == DOES_NOT_EXIST:
            raise LedgerError("elepay has no source {source}: look at the id again", source=source_id) from error
        return SourceAnswer(code=error.code)


def _require_absence(services: Services, batch_id: int, record: int) -> None:
    row = services.ledger.queries.report_row(batch_id, record)
    customer = services.ledger.resolution.customer_of(batch_id, record)
    wait_for_place(services)
    try:
        listed = retrying_look_up()(services.api.list_sources, customer, row.payment_method, fresh=True)
    except ElepayError as error:
        raise LedgerError(
            "elepay did not say whether the source exists ({code}): try again later", code=error.code
        ) from error
    for source in listed.sources:
        if source.reference == row.reference:
            raise LedgerError(
                "elepay has it: onboard resolve {batch} {line} --created {source} takes it over",
                batch=batch_id,
                line=row.line,
                source=source.id,
            )
