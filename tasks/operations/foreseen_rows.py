"""What would become of the rows of a file, as the ledger would take them in: read, never stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, read_rows
from tasks.ledger import Ledger
from tasks.models import NewRow, Reason, ReportRow, RowState, decode_reasons
from tasks.reports.aggregates import Task, Tasks
from tasks.reports.row_texts import reasons_not_sent

#: Invalid rows that are kept one by one; the others are counted, and stand in the reports.
ROWS_KEPT = 1_000
_LINE_BITS, _CONTENT_BITS = 40, 32


def foresee_rows(
    file: Path,
    opened: OpenedFile,
    rules: AcceptanceChecks,
    ledger: Ledger | None,
    *,
    own_spellings: bool,
    warnings: Warnings | None = None,
) -> Iterator[ReportRow]:
    """Yield every row of a file as a report of its run would begin: `invalid`, `skipped` or `waiting` (to be sent).

    Rows are compared with those above them, and with `ledger` if there is one. Raises what `read_rows` raises.
    """
    owners = _Owners(own_spellings=own_spellings)
    for chunk in read_rows(file, opened, rules, warnings=warnings):
        sound = [row for row in chunk if row.state == RowState.WAITING]
        known = ledger.rows.foresee(sound, own_spellings=own_spellings) if ledger else {}
        for row in chunk:
            if row.state == RowState.INVALID:
                yield _row(row, RowState.INVALID, reasons=decode_reasons(row.reasons))
            else:
                yield owners.foresee(row, known.get(row.record))


class _Owners:
    """The rows of a file that would be sent, as the owners of their identities."""

    def __init__(self, *, own_spellings: bool) -> None:
        self._own_spellings = own_spellings
        #: By eight bytes of identity and spelling, so that a million fit into memory: record, line and four bytes of
        #: the content in one number. A wrong match, which is one in billions, only shifts a forecast.
        self._owners: dict[int, int] = {}
        self._first: dict[int, int] = {}  # the same by identity, where the first spelling is not the folded one

    def foresee(self, row: NewRow, known: ReportRow | None) -> ReportRow:
        """Return what would become of a sound row; `known` is what the ledger says, if it would keep the row out."""
        identity = int.from_bytes((row.identity or b"")[:8])
        spelled = identity ^ int.from_bytes(row.spelling[:8]) if row.spelling else identity
        if (owner := self._owners.get(spelled)) is not None:
            return _repeated(row, owner)
        if known is not None:
            return known
        other = self._first.get(identity) or self._owners.get(identity)
        if other is not None and not self._own_spellings:
            line = other >> _CONTENT_BITS & (1 << _LINE_BITS) - 1
            return _row(row, RowState.INVALID, reasons=(Reason("other_spelling", detail=f"line {line}"),))
        self._owners[spelled] = packed = _packed(row)
        if other is None and row.spelling:
            self._first[identity] = packed
        return _row(row, RowState.WAITING)


def _packed(row: NewRow) -> int:
    return (row.record << _LINE_BITS | row.line) << _CONTENT_BITS | _content(row)


def _content(row: NewRow) -> int:
    return int.from_bytes((row.content or b"")[: _CONTENT_BITS // 8])


def _repeated(row: NewRow, owner: int) -> ReportRow:
    """Return a row whose identity stands further up in the file, as `InsertRows.add` would skip it."""
    changed = owner & (1 << _CONTENT_BITS) - 1 != _content(row)
    code = "changed" if changed else "duplicate_in_file"
    record = owner >> _CONTENT_BITS + _LINE_BITS
    return _row(row, RowState.SKIPPED, code=code, reasons=(Reason(code, detail=f"record {record}"),))


def _row(row: NewRow, state: RowState, *, code: str = "", reasons: tuple[Reason, ...] = ()) -> ReportRow:
    method = row.payment_method or ""
    customer = row.customer_id or ""
    return ReportRow(
        row.record, row.line, state, "", method, "", "", False, code, "", "", 0, reasons, customer_id=customer
    )


class ForeseenTotals:
    """Rows counted while they stream by, in a few hundred numbers and the first invalid rows."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()  #: by reason
        self.repeated = 0  #: skipped because their identity stands further up in the file
        self.reasons: Counter[str] = Counter()  #: of invalid rows: code -> how often
        self.invalid_alone = 0  #: invalid whatever else there is: not only known in another spelling
        self.rows: list[ReportRow] = []  #: the first ROWS_KEPT invalid ones
        self._invalid, self._skipped = Tasks(), Tasks()

    def add(self, row: ReportRow) -> None:
        """Count one row."""
        self.states[row.state] += 1
        if row.state == RowState.INVALID:
            self._add_invalid(row)
        elif row.state == RowState.SKIPPED:
            reasons = reasons_not_sent(row)
            self._skipped.add(row, reasons)
            self.skipped.update(reason.code for reason in reasons)
            self.repeated += reasons[0].detail.startswith("record ")

    def _add_invalid(self, row: ReportRow) -> None:
        self._invalid.add(row, row.reasons)
        self.invalid_alone += row.reasons[0].code != "other_spelling"
        for reason in row.reasons:
            self.reasons[reason.code] += 1
        if len(self.rows) < ROWS_KEPT:
            self.rows.append(row)

    @property
    def to_do(self) -> Sequence[Task]:
        """The causes of invalid rows."""
        return list(self._invalid.found.values())

    @property
    def left_out(self) -> Sequence[Task]:
        """The causes for which rows would be skipped, the most frequent first."""
        return sorted(self._skipped.found.values(), key=lambda task: (-task.rows, task.key))
