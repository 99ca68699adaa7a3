"""What pages say about a row: its reasons in words, with personal data masked for those who may not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.models import Reason, ReportRow
from tasks.reason_texts import Situation, hint, sentence, title
from tasks.reports import history_texts
from tasks.reports.i18n import Texts


class ReasonWords(NamedTuple):
    """One reason of a row."""

    code: str
    column: str
    title: str
    sentence: str
    hint: str


class Cell(NamedTuple):
    """One cell of a record."""

    title: str
    value: str
    is_wrong: bool


def reasons_in_words(row: ReportRow, texts: Texts, situation: Situation | None) -> list[ReasonWords]:
    """Return the reasons of a row in words; without a situation no hint is given."""
    reasons = row.reasons or ((Reason(row.code, row.parameter),) if row.code else _unsaid(row))
    return [
        ReasonWords(
            each.code,
            each.column,
            title(each.code, texts.lang),
            sentence(each._replace(value=texts.customer(each.value)), texts.lang),
            hint(each, texts.lang, situation) if situation else "",
        )
        for each in reasons
    ]


def _unsaid(row: ReportRow) -> tuple[Reason, ...]:
    return (Reason("lost_answer"),) if row.state == "unclear" else ()


def cells_in_order(titles: Sequence[str], cells: Sequence[str], row: ReportRow, texts: Texts) -> list[Cell]:
    """Return the cells of a record, the wrong ones marked; a record may have more or fewer than there are titles."""
    wrong = {reason.column for reason in row.reasons}
    return [
        Cell(name := titles[at] if at < len(titles) else "", texts.customer(value), name in wrong)
        for at, value in enumerate(cells)
    ]


def history_in_words(lines: Sequence[Mapping[str, Any]], texts: Texts) -> list[dict[str, Any]]:
    """Return what happened, in the reader's language."""
    return [{**line, "words": history_texts.in_words(str(line["what"] or ""), texts)} for line in lines]


def batch_history_in_words(lines: Sequence[Mapping[str, Any]], texts: Texts) -> list[dict[str, Any]]:
    """Return what people did to a batch, newest first, in the reader's language."""
    return [
        {**line, "words": history_texts.of_batch_in_words(str(line["what"] or ""), texts)} for line in reversed(lines)
    ]
