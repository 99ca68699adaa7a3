"""What a person is told first: the verdict in one line, and what to do, ordered by how many rows it would fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from tasks.models import BatchState, RowCounts, RowState
from tasks.reason_texts import hint, sentence, title
from tasks.reports.aggregates import Task
from tasks.reports.i18n import Texts
from tasks.reports.report_data import ReportFacts


class Headline(NamedTuple):
    """How a batch stands."""

    kind: str  #: done, needs_you, running, stopped (paused, halted or interrupted), cancelled or unusable
    text: str  #: "9,812 of 10,000 created; 188 need attention"
    more: str  #: what that means, one sentence


_KINDS = {
    BatchState.READING: "running",
    BatchState.RUNNING: "running",
    BatchState.INTERRUPTED: "stopped",
    BatchState.PAUSED: "stopped",
    BatchState.HALTED: "stopped",
    BatchState.CANCELLED: "cancelled",
    BatchState.UNUSABLE: "unusable",
}


def verdict(state: BatchState, books: RowCounts, texts: Texts, goes_on_at: float | None = None) -> Headline:
    """Return how a batch stands, in words; `goes_on_at`: its rows wait for the nightly window to open."""
    need = books.invalid + books.refused + books.unclear
    kind = _KINDS.get(state) or ("needs_you" if books.need_a_person else "done")
    if kind == "unusable" and not books.created:
        head = texts("verdict_unusable")
    elif books.records and books.created == books.records:
        head = texts("verdict_all", count=books.records)
    else:
        head = texts("verdict_created", created=books.created, records=books.records)
    parts = [("verdict_skipped", books.skipped), ("verdict_open", books.open), ("verdict_need", need)]
    more = texts(f"verdict_more_{kind if kind != 'stopped' else state.value}")
    if kind == "running" and goes_on_at is not None:
        more = texts("verdict_more_night", count=books.open, time=texts.time(goes_on_at, "%m-%d %H:%M"))
    return Headline(
        kind, texts("verdict_between").join([head, *(texts(key, count=count) for key, count in parts if count)]), more
    )


@dataclass(frozen=True, slots=True)
class Recommendations:
    """One thing to do."""

    task: Task
    title: str
    action: str  #: what to do
    example: str  #: the first row's sentence
    command: str  #: what to type afterwards, or ""


def advise(facts: ReportFacts, tasks: list[Task], texts: Texts) -> list[Recommendations]:
    """Return what to do, the action that concerns most rows first."""
    ordered = sorted(tasks, key=lambda task: (-task.rows, -task.alone, task.key))
    return [
        Recommendations(
            task,
            _title(task, texts),
            hint(task.key.code, texts.lang),
            sentence(task.example, texts.lang),
            _command(facts, task),
        )
        for task in ordered
    ]


def _title(task: Task, texts: Texts) -> str:
    words = title(task.key.code, texts.lang)
    return texts("title_of_column", title=words, column=task.key.column) if task.key.column else words


def _command(facts: ReportFacts, task: Task) -> str:
    state = task.key.state
    if state == RowState.UNCLEAR:
        return facts.commands.resolve if facts.settled else ""
    if state == RowState.SKIPPED:
        return ""
    goes_on = _KINDS.get(facts.batch.state) == "stopped"
    if state == "open":
        return facts.commands.resume if goes_on else facts.commands.fix
    return facts.commands.fix
