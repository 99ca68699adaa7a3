"""`report.html`: the run for people who read it in the morning; one file, without scripts, without a network.

`report.html.j2` and `report.css` say how it looks, this module what stands in it. Whatever comes from the file or from
elepay is escaped by the template engine; a content security policy forbids what would slip through. Charts are shapes
only, and what they show stands beside them in words and numbers.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from tasks import stop_texts
from tasks.models import counted_as
from tasks.reason_texts import title
from tasks.reports.contents import ReportContents
from tasks.reports.i18n import Texts
from tasks.reports.latency_chart import bars
from tasks.reports.recommendations import by_kind
from tasks.reports.row_texts import successor_in_words
from tasks.reports.run_facts import authorisation, by_itself, run_facts, state_counts, warnings_in_words, what_became
from tasks.reports.timeline_chart import Timeline, timeline
from tasks.reports.work_kinds import KINDS

_MOST_ADVICE = 20
_MOST_REASONS = 30
_MOST_METHODS = 60
_LEAST_WIDTH = 0.8  # percent, so that one row in a million can be seen


class Part(NamedTuple):
    """One part of a bar."""

    state: str
    name: str
    rows: int
    start: float  #: percent of the bar's length
    width: float


def render(contents: ReportContents, reports: Mapping[str, str]) -> str:
    """Return the page; `reports` is name -> file beside it."""
    texts = contents.texts
    counts = state_counts(contents.aggregates, texts)
    style = Path(__file__).with_name("report.css").read_text("utf-8")
    run = timeline(contents.facts.timeline, contents.facts.requests_per_second)
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            t=texts,
            contents=contents,
            why=stop_texts.sentence(contents.facts.batch.stop, texts.lang),
            reports=reports,
            style=Markup(style),  # noqa: S704 - our own file
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            counts=counts,
            parts=parts(counts),
            groups=by_kind(contents.advice[:_MOST_ADVICE]),
            stands_still=contents.verdict.kind == "stopped" and contents.facts.commands.resume,
            by_itself=by_itself(contents),
            authorisation=authorisation(contents),
            became=what_became(contents),
            successor=lambda successor: successor_in_words(successor, texts),
            fixable=any(each.command and each.command == contents.facts.commands.fix for each in contents.advice),
            more_advice=max(len(contents.advice) - _MOST_ADVICE, 0),
            reasons=_reasons(contents),
            methods=_methods(contents),
            states=[(state, name) for state, name, count in counts if count],
            run=run,
            run_in_words=timeline_in_words(run, contents.texts) if run else "",
            latency=bars(contents.facts.latency_histogram),
            shown=contents.aggregates.shown,
            shown_kinds=[kind for kind in KINDS if kind in contents.aggregates.shown],
            rows_of=contents.aggregates.rows_of,
            failures=contents.aggregates.failures,
            state_class=counted_as,
            warnings=warnings_in_words(contents.facts.warnings, texts),
            facts=run_facts(contents),
        )
    )


@cache
def template_environment() -> Environment:
    """Return what makes HTML of the templates here; its filter `commands` shows what stands in backticks as code."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands_marked
    return environment


def commands_marked(text: str) -> Markup:
    """Return text as HTML, with what stands in backticks as something to type."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick without a second one
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(each) if at % 2 else escape(each) for at, each in enumerate(pieces)
    )


def parts(counts: Sequence[tuple[str, str, int]]) -> list[Part]:
    """Return the parts of one bar, none of them too thin to be seen."""
    total = sum(count for *_, count in counts)
    if not total:
        return []
    widths = [max(100 * count / total, _LEAST_WIDTH) if count else 0.0 for *_, count in counts]
    scale = 100 / sum(widths)
    found, start = [], 0.0
    for (state, name, count), width in zip(counts, widths, strict=True):
        if count:
            found.append(Part(state, name, count, round(start, 2), round(width * scale, 2)))
        start += width * scale
    return found


class ReasonLine(NamedTuple):
    """One reason and how many rows carry it."""

    state: str  #: of these rows
    title: str
    code: str
    rows: int
    share: float  #: percent of the most frequent one


def _reasons(contents: ReportContents) -> list[ReasonLine]:
    counted = contents.aggregates.codes_by_state
    most = max(counted.values(), default=1)
    return [
        ReasonLine(state, title(code, contents.texts.lang), code, rows, round(100 * rows / most, 2))
        for (state, code), rows in list(counted.items())[:_MOST_REASONS]
    ]


class MethodLine(NamedTuple):
    """One payment method and where its rows stand."""

    method: str
    counts: list[tuple[str, str, int]]
    total: int
    parts: list[Part]


def _methods(contents: ReportContents) -> list[MethodLine]:
    names = [(state, name) for state, name, count in state_counts(contents.aggregates, contents.texts) if count]
    lines = []
    for method, states in contents.by_method.items():
        found: dict[str, int] = {}
        for state, count in states.items():
            key = counted_as(state)
            found[key] = found.get(key, 0) + count
        counts = [(state, name, found.get(state, 0)) for state, name in names]
        lines.append(MethodLine(method, counts, sum(found.values()), parts(counts)))
    return sorted(lines, key=lambda line: (-line.total, line.method))[:_MOST_METHODS]


def timeline_in_words(run: Timeline, texts: Texts) -> str:
    """Return what the timeline shows, for those who do not see it."""
    values: dict[str, Any] = {
        "start": texts.time(run.steps[0].at, "%H:%M:%S"),
        "end": texts.time(run.end, "%H:%M:%S"),
        "highest": texts.number(round(run.highest, 1)),
    }
    sentences = [texts("timeline_rate", **values)]
    if run.limit is None:
        sentences.append(texts("timeline_no_limit"))
    else:
        sentences.append(texts("timeline_limit", limit=texts.number(run.limit)))
    throttled = [step for step in run.steps if step.throttled]
    if throttled:
        first = texts.time(throttled[0].at, "%H:%M:%S")
        sentences.append(texts("timeline_throttled", count=run.throttled, first=first))
    if run.paused:
        sentences.append(texts("timeline_paused", duration=texts.duration(run.paused * run.step_seconds)))
    return texts("sentence_between").join(sentences)
