"""Rows counted while they stream by: states, methods, attempts, and what there is to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.models import Reason, ReportRow, RowCounts, RowState, counted_as
from tasks.reports.report_data import ReconciliationError, ReportFacts
from tasks.reports.report_rows import JoinedRow
from tasks.reports.row_texts import RowTexts
from tasks.reports.work_kinds import kind_of

#: Rows of a kind that a page for people lists one by one.
ROWS_SHOWN = 100
_LINES_SHOWN = 5
_RANGES_SHOWN = 5
_EXAMPLES_SHOWN = 3


class TaskKey(NamedTuple):
    """What one action of a person would fix."""

    state: str  #: of its rows; `open` for all three open states
    code: str
    column: str  #: what elepay or we object to; the payment method, if that is what is closed


@dataclass(slots=True)
class Task:
    """Rows that wait for the same action."""

    key: TaskKey
    example: Reason
    rows: int = 0
    alone: int = 0  #: rows for which nothing else is in the way
    lines: list[int] = field(default_factory=list)  #: where the first ones stand
    ranges: list[tuple[int, int]] = field(default_factory=list)  #: the same, lines that follow each other as one
    examples: list[tuple[int, Reason]] = field(default_factory=list)  #: line and reason of the first different ones
    methods: Counter[str] = field(default_factory=Counter)

    @property
    def lines_in_ranges(self) -> int:
        """How many of its rows stand in `ranges`."""
        return sum(last - first + 1 for first, last in self.ranges)

    @property
    def values(self) -> list[str]:
        """The first different values that were rejected, as they may be shown."""
        return [reason.value for _, reason in self.examples if reason.value]

    def add(self, row: ReportRow, reason: Reason, *, alone: bool) -> None:
        """Count one more row, which stands below those before."""
        self.rows += 1
        self.alone += alone
        self.methods[row.payment_method] += 1
        if len(self.lines) < _LINES_SHOWN:
            self.lines.append(row.line)
        if self.ranges and self.ranges[-1][1] == row.line - 1:
            self.ranges[-1] = (self.ranges[-1][0], row.line)
        elif len(self.ranges) < _RANGES_SHOWN:
            self.ranges.append((row.line, row.line))
        if len(self.examples) < _EXAMPLES_SHOWN and all(reason != known for _, known in self.examples):
            self.examples.append((row.line, reason))


class Tasks:
    """Rows grouped by what one action of a person would fix."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str, str], Task] = {}  #: by their `TaskKey`

    def add(self, row: ReportRow, reasons: Iterable[Reason]) -> TaskKey:
        """Count a row once for each action that its reasons (at least one) ask for; return the first of these."""
        keys: dict[tuple[str, str, str], Reason] = {}  # a TaskKey is made for the first row only
        for reason in reasons:
            keys.setdefault(_parts(row, reason), reason)
        for key, reason in keys.items():
            task = self.found.get(key)
            if task is None:
                task = self.found[key] = Task(TaskKey(*key), reason)
            task.add(row, reason, alone=len(keys) == 1)
        return self.found[next(iter(keys))].key


class Shown(NamedTuple):
    """A row that a page for people lists."""

    row: ReportRow
    said: RowTexts


class _Kind(NamedTuple):
    state: str
    method: str
    attempts: int
    source_status: str
    adopted: bool


class Aggregates:
    """Counts rows in a few hundred numbers, however many rows there are."""

    def __init__(self) -> None:
        self._tasks, self._changed = Tasks(), Tasks()
        self.shown: dict[str, list[Shown]] = {}  #: kind of work (`work_kinds`), `changed` or `done` -> its first rows
        self.rows_of: Counter[str] = Counter()  #: the same kinds -> rows
        self.failures = 0  #: rows that need a person, and stand in failures.csv
        self.looked_up = 0  #: unclear rows that the program asks elepay about
        self.waiting = 0  #: rows that it sends by itself, now or when the batch goes on
        self._kinds: dict[tuple[str, str, int, str, bool], int] = {}
        self._codes: Counter[tuple[str, str]] = Counter()

    def add(self, joined: JoinedRow) -> TaskKey | None:
        """Count one record; return the first action that it waits for, if any."""
        row, said = joined.row, joined.said
        kind = (row.state, row.payment_method, row.attempts, row.source_status, row.adopted)
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        state = counted_as(row.state)
        if not (said.failure or said.successor):
            self.waiting += state == "open"
            self.looked_up += state == RowState.UNCLEAR
        if not said.reasons:
            return None
        for code in {reason.code for reason in said.reasons} if len(said.reasons) > 1 else (said.reasons[0].code,):
            self._codes[state, code] += 1
        return self._add_task(row, said)

    def _add_task(self, row: ReportRow, said: RowTexts) -> TaskKey | None:
        """Count a row that needs a person, or did; return what action solves it, if one is asked for."""
        if said.failure:
            self.failures += 1
            self._show(kind_of(row.state, said.reasons[0].code), row, said)
            return self._tasks.add(row, said.reasons)
        if said.successor:
            self._show("done", row, said)
        elif row.code == "changed":
            self._show("changed", row, said)
            self._changed.add(row, said.reasons)
        return None

    def _show(self, kind: str, row: ReportRow, said: RowTexts) -> None:
        self.rows_of[kind] += 1
        shown = self.shown.setdefault(kind, [])
        if len(shown) < ROWS_SHOWN:
            shown.append(Shown(row, said))

    @property
    def tasks(self) -> list[Task]:
        """What there is to do, in the order of the first rows."""
        return list(self._tasks.found.values())

    @property
    def changed_tasks(self) -> list[Task]:
        """Rows that are known with other content, which nobody need do anything about."""
        return list(self._changed.found.values())

    def check(self, facts: ReportFacts) -> None:
        """Raise `ReconciliationError` unless the rows are what the ledger counted.

        While a batch is running, rows move between the counting and the rows, and only their number is checked.
        """
        counts = self.counts
        if counts.records != facts.counts.records:
            raise ReconciliationError(
                f"the ledger counted {facts.counts.records} records, the report has {counts.records}"
            )
        if not facts.settled:
            return
        if not facts.counts.balance:
            raise ReconciliationError(f"the counts of batch {facts.batch.id} do not add up: {facts.counts}")
        if counts != facts.counts:
            raise ReconciliationError(f"the ledger counted {facts.counts}, the rows say {counts}")

    @property
    def counts(self) -> RowCounts:
        """The counts by the rows themselves."""
        states: Counter[str] = Counter()
        for kind, count in self._each():
            states[counted_as(kind.state)] += count
        return RowCounts(
            records=states.total(),
            created=states[RowState.CREATED],
            skipped=states[RowState.SKIPPED],
            invalid=states[RowState.INVALID],
            refused=states[RowState.REFUSED],
            unclear=states[RowState.UNCLEAR],
            open=states["open"],
        )

    @property
    def codes(self) -> dict[str, int]:
        """Rows by code, the most frequent first; a row counts once for each of its codes."""
        found: Counter[str] = Counter()
        for (_, code), count in self.codes_by_state.items():
            found[code] += count
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @property
    def codes_by_state(self) -> dict[tuple[str, str], int]:
        """Rows by state (`open` for all three open ones) and code, the most frequent first."""
        return dict(sorted(self._codes.items(), key=lambda item: (-item[1], item[0])))

    @property
    def changed(self) -> int:
        """Rows that are known with other content: not sent, no failures, and yet somebody should see them."""
        return self._codes[str(RowState.SKIPPED), "changed"]

    @property
    def by_method(self) -> dict[str, dict[str, int]]:
        """Payment method -> state -> rows."""
        found: dict[str, dict[str, int]] = {}
        for kind, count in self._each():
            states = found.setdefault(kind.method, {})
            states[kind.state] = states.get(kind.state, 0) + count
        return found

    @property
    def attempts(self) -> dict[int, int]:
        """Number of attempts -> rows that were sent at all."""
        found: Counter[int] = Counter()
        for kind, count in self._each():
            if kind.attempts:
                found[kind.attempts] += count
        return dict(sorted(found.items()))

    @property
    def source_statuses(self) -> dict[str, int]:
        """Created rows by elepay's word."""
        found: Counter[str] = Counter()
        for kind, count in self._each():
            if kind.state == RowState.CREATED:
                found[kind.source_status] += count
        return dict(sorted(found.items()))

    @property
    def adopted(self) -> int:
        """Created rows whose source was found by look-up and not by the answer."""
        return sum(count for kind, count in self._each() if kind.adopted and kind.state == RowState.CREATED)

    def _each(self) -> list[tuple[_Kind, int]]:
        return [(_Kind(*kind), count) for kind, count in sorted(self._kinds.items())]


def key_of(row: ReportRow, reason: Reason) -> TaskKey:
    """Return which action would remove a reason from a row."""
    return TaskKey(*_parts(row, reason))


def _parts(row: ReportRow, reason: Reason) -> tuple[str, str, str]:
    column = row.payment_method if reason.code == "method_closed" else reason.column
    return counted_as(row.state), reason.code, column
