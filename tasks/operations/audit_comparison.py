"""One customer's rows of one payment method compared with what elepay lists: which differences there are; pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tasks.elepay.client import SourceList
from tasks.ledger import AuditedRow
from tasks.models import RowState, Source
from tasks.send.source_lookup import hides_metadata

#: Why a list proves nothing, where elepay gave one.
LIST_INCOMPLETE, NO_METADATA = "list_incomplete", "no_metadata"
KINDS = ("missing", "extra", "twice", "changed", "not_comparable")


class Difference(NamedTuple):
    """One thing about which ledger and elepay do not agree, or that cannot be compared."""

    kind: str
    record: int | None  #: None: a source that no row of this batch has to do with
    line: int | None
    reference: str
    source_id: str
    ledger: str  #: what the ledger says
    elepay: str  #: what elepay says; of what cannot be compared: a code that says why


class CustomerRows(NamedTuple):
    """A customer's rows of one payment method, and what elepay lists (or why it does not)."""

    rows: list[AuditedRow]
    listed: SourceList | str

    @property
    def listed_statuses(self) -> dict[str, str]:
        """Source id -> elepay's word, of the sources that the list shows."""
        return {} if isinstance(self.listed, str) else {source.id: source.status for source in self.listed.sources}

    @property
    def unlisted(self) -> list[AuditedRow]:
        """The created rows whose source the list does not show."""
        listed = self.listed_statuses
        return [row for row in self.rows if row.state == RowState.CREATED and row.source_id not in listed]

    @property
    def strange_references(self) -> set[str]:
        """The references in the list that none of these rows has."""
        if isinstance(self.listed, str):
            return set()
        own = {row.reference for row in self.rows}
        return {source.reference for source in self.listed.sources if source.reference} - own

    def changed_statuses(self, asked: Mapping[int, str | None]) -> Iterable[tuple[int, str, str]]:
        """Yield (record, source id, status) of created rows whose status is another one now.

        `asked` has elepay's word for the sources, by record, that the list does not show.
        """
        listed = self.listed_statuses
        for row in self.rows:
            status = listed.get(row.source_id) or asked.get(row.record)
            if row.state == RowState.CREATED and status and status != row.source_status:
                yield row.record, row.source_id, status


def compare(
    rows: Sequence[AuditedRow],
    listed: SourceList | str,
    statuses: Mapping[int, str | None],
    known: set[str],
    live: bool,
) -> list[Difference]:
    """Compare one customer's rows of one method with what elepay lists.

    `statuses` has elepay's word for created rows (by record) that the list does not show, `known` the references of
    other rows that the ledger calls created. A list that is incomplete or hides metadata still shows what it shows.
    """
    sources = [] if isinstance(listed, str) else listed.sources
    by_reference: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        if source.reference and source.status != "deleted":
            by_reference[source.reference].append(source)
    differences: list[Difference] = []
    for row in rows:
        copies = by_reference.pop(row.reference, [])
        differences += _of_row(row, copies, sources, statuses, live)
    for reference, copies in by_reference.items():
        if reference not in known:
            differences += [Difference("extra", None, None, reference, copy.id, "", copy.status) for copy in copies]
        elif len(copies) > 1:
            differences += [
                Difference("twice", None, None, reference, copy.id, "created", copy.status) for copy in copies
            ]
    why = _why_not(listed)
    if why:
        first = rows[0]
        differences.append(
            Difference("not_comparable", first.record, first.line, first.reference, "", first.state, why)
        )
    return differences


def _of_row(
    row: AuditedRow, copies: list[Source], sources: list[Source], statuses: Mapping[int, str | None], live: bool
) -> Iterable[Difference]:
    def differs(kind: str, source_id: str, ledger: str, elepay: str) -> Difference:
        return Difference(kind, row.record, row.line, row.reference, source_id, ledger, elepay)

    if row.state != RowState.CREATED:
        yield from (differs("extra", copy.id, row.state, copy.status) for copy in copies)
        return
    own = next((source for source in sources if source.id == row.source_id), None)
    status = own.status if own else statuses.get(row.record, "")
    if status is None:
        yield differs("missing", row.source_id, row.source_status, "")
    elif status and status != row.source_status:
        yield differs("changed", row.source_id, row.source_status, status)
    if own and own.payment_method and own.payment_method != row.payment_method:
        yield differs("changed", row.source_id, row.payment_method, own.payment_method)
    if own and own.live_mode is not None and own.live_mode != live:
        yield differs("changed", row.source_id, _mode(live), _mode(own.live_mode))
    others = [copy for copy in copies if copy.id != row.source_id]
    there = status is not None and status != "deleted"
    yield from (differs("twice" if there else "extra", copy.id, row.source_id, copy.status) for copy in others)


def _mode(live: bool) -> str:
    return "live" if live else "test"


def _why_not(listed: SourceList | str) -> str:
    """Return why a list proves nothing: a code of elepay's or of ours, "" if it does."""
    if isinstance(listed, str):
        return listed
    if not listed.complete:
        return LIST_INCOMPLETE
    return NO_METADATA if hides_metadata(listed) else ""
