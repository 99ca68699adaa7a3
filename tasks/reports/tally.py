"""Rows counted while they stream by: books, methods, attempts, and what there is to do; the size of a page, not of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tasks.models import OPEN_STATES, Books, Reason, ReportRow, RowState
from tasks.reports.explained import Explained
from tasks.reports.facts import ReportFacts, ReportsDisagree
from tasks.reports.joined import Joined

_LINES_SHOWN = 5
#: Rows of which a page for people shows every one.
ROWS_SHOWN = 200
#: Outcomes that concern a payment method as a whole, so that one deed mends all rows of the method.
_OF_A_METHOD = frozenset({"method_closed"})


class TaskKey(NamedTuple):
    """What one deed of a person would mend."""

    state: str  #: of its rows; `open` for all three open states
    code: str
    column: str  #: or the payment method, where the code is about it


@dataclass(slots=True)
class Task:
    """Rows that wait for the same deed."""

    key: TaskKey
    example: Reason
    rows: int = 0
    alone: int = 0  #: rows for which nothing else is in the way
    lines: list[int] = field(default_factory=list)  #: where the first ones stand
    methods: Counter[str] = field(default_factory=Counter)
    undecided: int = 0  #: unclear rows that nobody but a person can settle


@dataclass(slots=True)
class Shown:
    """A row that a page for people lists."""

    row: ReportRow
    said: Explained


class Tally:
    """Counts rows; `close` checks the books."""

    def __init__(self) -> None:
        self.records = 0
        self.tasks: dict[TaskKey, Task] = {}
        self.codes: Counter[str] = Counter()
        self.shown: list[Shown] = []
        self._counted: dict[tuple[str, str, int, str, bool], int] = {}

    def add(self, joined: Joined) -> TaskKey | None:
        """Count one record; return the first deed that it waits for, if any."""
        row, said = joined.row, joined.said
        kind = (row.state, row.payment_method, row.attempts, row.source_status, row.adopted)
        self._counted[kind] = self._counted.get(kind, 0) + 1
        if not said.reasons:
            return None
        self.codes.update({reason.code for reason in said.reasons})
        return self._add_task(row, said) if said.to_do else None

    def _add_task(self, row: ReportRow, said: Explained) -> TaskKey:
        keys = dict.fromkeys(_key_of(row, reason) for reason in said.reasons)
        for key, reason in zip(keys, said.reasons, strict=False):
            task = self.tasks.get(key)
            if task is None:
                task = self.tasks[key] = Task(key, reason)
            task.rows += 1
            task.alone += len(keys) == 1
            task.methods[row.payment_method] += 1
            task.undecided += row.needs_person
            if len(task.lines) < _LINES_SHOWN:
                task.lines.append(row.line)
        if len(self.shown) < ROWS_SHOWN:
            self.shown.append(Shown(row, said))
        return next(iter(keys))

    @property
    def states(self) -> Counter[str]:
        """Rows by state."""
        return self._sum(0)

    @property
    def attempts(self) -> Counter[int]:
        """Rows that were sent at all, by the number of attempts."""
        found: Counter[int] = self._sum(2)
        del found[0]
        return found

    @property
    def source_statuses(self) -> Counter[str]:
        """Created rows by elepay's word."""
        found: Counter[str] = Counter()
        for kind, count in self._counted.items():
            if kind[0] == RowState.CREATED:
                found[kind[3]] += count
        return found

    @property
    def adopted(self) -> int:
        """Created rows whose source was found by look-up."""
        return sum(count for kind, count in self._counted.items() if kind[4] and kind[0] == RowState.CREATED)

    @property
    def by_method(self) -> dict[str, dict[str, int]]:
        """Payment method -> state -> rows."""
        found: dict[str, dict[str, int]] = {}
        for (state, method, *_), count in sorted(self._counted.items()):
            states = found.setdefault(method, {})
            states[state] = states.get(state, 0) + count
        return found

    @property
    def books(self) -> Books:
        """The books by what streamed by."""
        states = self.states
        return Books(
            records=states.total(),
            created=states[RowState.CREATED],
            skipped=states[RowState.SKIPPED],
            invalid=states[RowState.INVALID],
            refused=states[RowState.REFUSED],
            unclear=states[RowState.UNCLEAR],
            open=sum(states[state] for state in OPEN_STATES),
        )

    def _sum[T](self, at: int) -> Counter[T]: ...
