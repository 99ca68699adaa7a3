"""What the reports say about one row: reasons in words, and whether a person is needed."""

from __future__ import annotations

from dataclasses import dataclass, field

from tasks.models import OPEN_STATES, Reason, ReportRow, RowState, Successor
from tasks.reason_texts import Situation, hint, sentence
from tasks.reports.i18n import Texts
from tasks.reports.report_data import ReportFacts

#: Between several reasons in one cell; code, column, message and hint have as many parts, in the same order.
BETWEEN = " | "
_KEPT = 1_000  # explanations in memory; most rows share a handful, and one may be some thousand characters long
GIVEN_UP = "given_up"
_FAILURES = frozenset({RowState.INVALID, RowState.REFUSED, RowState.UNCLEAR})


@dataclass(slots=True)
class RowTexts:
    """One row in words, shared by all rows of which the same is true."""

    reasons: tuple[Reason, ...]
    failure: bool  #: it needs a person, and stands in failures.csv
    lang: str
    situation: Situation
    successor: Successor | None = None  #: what became of a row that needed a person and needs none here any more
    cells: tuple[str, str, str, str] = field(init=False)  #: code, column, message, hint

    def __post_init__(self) -> None:
        self.cells = self.cells_in(self.lang)

    @property
    def messages(self) -> list[str]:
        """A sentence for each reason."""
        return [sentence(reason, self.lang) for reason in self.reasons]

    def cells_in(self, lang: str) -> tuple[str, str, str, str]:
        """Return code, column, message and hint, each of all reasons."""
        columns = [reason.column for reason in self.reasons]
        return (
            BETWEEN.join(reason.code for reason in self.reasons),
            BETWEEN.join(columns) if any(columns) else "",
            BETWEEN.join(sentence(reason, lang) for reason in self.reasons),
            BETWEEN.join(hint(reason, lang, self.situation) for reason in self.reasons)
            if self.successor is None or self.reasons[0].code == GIVEN_UP  # that can still be called created
            else successor_in_words(self.successor, Texts(lang, "UTC")),
        )


def successor_in_words(successor: Successor, texts: Texts) -> str:
    """Return what became of a row that needed a person."""
    key = "dismissed_because" if successor.reason else successor.what
    return texts(f"successor_{key}", batch=str(successor.batch_id), reason=successor.reason)


class RowTextWriter:
    """Turns rows into words, in one language; remembers what it said."""

    def __init__(self, facts: ReportFacts, lang: str) -> None:
        self._facts = facts
        self._settled = facts.settled
        self._lang = lang
        self._known: dict[tuple[str, str, str, tuple[Reason, ...], bool, bool, bool, Successor | None], RowTexts] = {}

    def explain(self, row: ReportRow) -> RowTexts:
        """Return what is said about a row."""
        key = (
            row.state,
            row.code,
            row.parameter,
            row.reasons,
            row.needs_person,
            row.attempts > 0,
            bool(row.source_id),
            self._facts.successors.get(row.record),
        )
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = self._explain(row)
        return found

    def _explain(self, row: ReportRow) -> RowTexts:
        reasons = self._reasons(row)
        successor = self._facts.successors.get(row.record)
        failure = successor is None and self._facts.needs_person(row)
        situation = self._facts.situation(row.state, needs_person=row.needs_person)
        return RowTexts(reasons, failure, self._lang, situation, successor)

    def _reasons(self, row: ReportRow) -> tuple[Reason, ...]:
        """Return why the row is not `created`; never nothing for a failure."""
        if row.state == RowState.CREATED:
            return ()
        if row.state in (RowState.INVALID, RowState.SKIPPED) and row.reasons:
            return reasons_not_sent(row)
        if row.code:
            return tuple(each for each in row.reasons if each.code == row.code) or (_outcome(row),)
        if row.state == RowState.UNCLEAR or (row.state == RowState.SENDING and self._settled):
            return (Reason("lost_answer"),)
        if row.state in OPEN_STATES and self._settled:
            return (Reason("to_be_sent_again" if row.attempts else "not_attempted"),)
        return (Reason("unknown_code"),) if row.state in _FAILURES else ()


def reasons_not_sent(row: ReportRow) -> tuple[Reason, ...]:
    """Return why a row that is invalid or skipped was, or would be, not sent."""
    if row.state == RowState.SKIPPED and row.code == "onboarded_before" and not row.source_id:
        return tuple(each._replace(code="in_another_batch") for each in row.reasons)
    return row.reasons


def _outcome(row: ReportRow) -> Reason:
    """Return what elepay said, or we in its place; the parameter of a closed method is the line that closed it."""
    if row.code == "method_closed":
        return Reason(row.code, detail=row.parameter)
    return Reason(row.code, column=row.parameter)
