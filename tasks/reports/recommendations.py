"""What a report says first: the verdict in one line, and what to do, ordered by how many rows it would fix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tasks.models import BatchState, RowCounts, RowState, Work
from tasks.reason_texts import go_on_command, hint, title
from tasks.reports.aggregates import Task, TaskKey
from tasks.reports.i18n import Texts
from tasks.reports.report_data import ReportFacts
from tasks.reports.work_kinds import KINDS, kind_of


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


@dataclass(frozen=True, slots=True)
class Standing:
    """What a headline has to know of a batch besides its state and counts."""

    stands: str = ""  #: `reason_texts.stands`
    number: int = 0
    changed: int = 0  #: rows that are known with other content
    skipped: Mapping[str, int] | None = None  #: skipped rows by code, where the headline is to say them one by one
    goes_on_at: float | None = None  #: its rows wait for the nightly window to open
    listed_below: bool = True  #: what to do follows the headline
    work: Work | None = None  #: what became of its rows that needed a person; None: all of them need one still


def verdict(state: BatchState, counts: RowCounts, texts: Texts, standing: Standing) -> Headline:
    """Return how a batch stands, in words."""
    work = standing.work
    need = counts.invalid + counts.refused + counts.unclear if work is None else work.open
    kind = _KINDS.get(state) or ("needs_you" if need or (work is None and counts.open) else "done")
    if kind == "unusable" and not counts.created:
        head = texts("verdict_unusable")
    elif counts.records and counts.created == counts.records:
        head = texts("verdict_all", count=counts.records)
    else:
        head = texts("verdict_created", created=counts.created, records=counts.records)
    skipped = [(f"verdict_{code}", count) for code, count in (standing.skipped or {}).items()]
    parts = [
        *(skipped or [("verdict_skipped", counts.skipped)]),
        ("verdict_open", counts.open),
    ]
    said = [head, *(texts(key, count=count) for key, count in parts if count)]
    if work is not None and work.needed != work.open:
        said.append(texts("verdict_needed", count=work.needed, parts=texts("list_between").join(became(work, texts))))
    elif need:
        said.append(texts("verdict_need", count=need))
    return Headline(kind, texts("verdict_between").join(said), _more(kind, state, counts, texts, standing))


def became(work: Work, texts: Texts) -> list[str]:
    """Return what became of rows that needed a person, in words."""
    elsewhere = {"resolved": work.resolved, "under_way": work.under_way, "carried_over": work.carried_over}
    said = [
        texts(f"work_{what}", count=count, batch=str(batch))
        for what, counts in elsewhere.items()
        for batch, count in sorted(counts.items())
    ]
    here = (("work_dismissed", work.dismissed), ("work_open", work.open))
    return said + [texts(key, count=count) for key, count in here if count]


def _more(kind: str, state: BatchState, counts: RowCounts, texts: Texts, standing: Standing) -> str:
    """Return what a headline means."""
    if kind == "running" and standing.goes_on_at is not None:
        return texts("verdict_more_night", count=counts.open, time=texts.time(standing.goes_on_at, texts("time_night")))
    if kind == "stopped":
        command = go_on_command(standing.stands, standing.number) or "onboard resume"
        key = standing.stands if standing.stands in ("canary", "approval", "forgotten") else state.value
        return texts(f"verdict_more_{key}", command=command)
    where = "" if standing.listed_below else "_elsewhere"
    if kind == "done" and standing.changed:
        return texts(f"verdict_more_changed{where}", count=standing.changed)
    return texts(f"verdict_more_{kind}{where if kind in ('done', 'needs_you') else ''}")


@dataclass(frozen=True, slots=True)
class Recommendations:
    """One thing to do."""

    task: Task
    kind: str  #: one of `work_kinds.KINDS`
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
            kind_of(task.key.state, task.key.code),
            title_of(task.key, texts),
            hint(task.example, texts.lang, facts.situation(task.key.state, needs_person=True)),
            texts.sentence(task.example),
            _command(facts, task),
        )
        for task in ordered
    ]


def by_kind(advice: list[Recommendations]) -> list[tuple[str, list[Recommendations]]]:
    """Return what to do by kind of work, in their order."""
    groups = [(kind, [each for each in advice if each.kind == kind]) for kind in KINDS]
    return [(kind, found) for kind, found in groups if found]


def title_of(key: TaskKey, texts: Texts) -> str:
    """Return a few words for what one action solves."""
    words = title(key.code, texts.lang)
    return texts("title_of_column", title=words, column=key.column) if key.column else words


def _command(facts: ReportFacts, task: Task) -> str:
    if task.key.state == RowState.SKIPPED:
        return ""
    return facts.commands.resolve if task.key.state == RowState.UNCLEAR else facts.commands.fix
