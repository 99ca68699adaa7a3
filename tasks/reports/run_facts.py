"""The run in labels and values, for the reports that people read."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.models import ENDED_STATUSES, BatchState, Reason, RowState
from tasks.reason_texts import hint, sentence, title
from tasks.reports.aggregates import Aggregates
from tasks.reports.contents import ReportContents
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import became
from tasks.reports.report_data import FileWarning, ReportFacts

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}


def run_facts(contents: ReportContents) -> list[tuple[str, str]]:
    """Return what is known about file, run and answers, as far as it is known."""
    facts, texts = contents.facts, contents.texts
    found = [*_of_file(facts, texts), *_of_times(facts, texts, contents.written_at), *_of_rate(facts, texts)]
    found += _of_answers(contents)
    found += [
        (texts("versions"), texts("list_between").join(f"{name} {version}" for name, version in facts.versions.items()))
    ]
    return [(label, value) for label, value in found if value]


def state_counts(aggregates: Aggregates, texts: Texts) -> list[tuple[str, str, int]]:
    """Return the lines of the reconciliation: our word for the state, its name for people, rows.

    A file that was only checked has no row that was sent.
    """
    counts = aggregates.counts
    states = [RowState.CREATED, RowState.SKIPPED, RowState.INVALID, RowState.REFUSED, RowState.UNCLEAR]
    if texts.of_check:
        states = [RowState.SKIPPED, RowState.INVALID]
    lines = [(state.value, int(getattr(counts, state.value))) for state in states] + [("open", counts.open)]
    return [(state, texts(f"state_{state}"), count) for state, count in lines]


def by_itself(contents: ReportContents) -> list[str]:
    """Return what goes on without anybody, a sentence each: rows of this batch, and their work elsewhere."""
    facts, texts, aggregates = contents.facts, contents.texts, contents.aggregates
    if facts.check is not None or facts.batch.state is BatchState.CANCELLED:
        return []
    go_on = facts.commands.resume if facts.settled else ""
    how = "" if not facts.settled else "_stopped" if go_on else "_left"
    said = (("waiting", aggregates.waiting), ("looked_up", aggregates.looked_up))
    sentences = [texts(f"itself_{key}{how}", count=count, command=go_on) for key, count in said if count]
    under_way = facts.work.under_way if facts.work else {}
    return sentences + [
        texts("itself_under_way", count=count, batch=str(batch)) for batch, count in sorted(under_way.items())
    ]


def authorisation(contents: ReportContents) -> list[str]:
    """Return what the customers have made of the new sources, and which of them are to be reminded."""
    texts, statuses = contents.texts, contents.aggregates.source_statuses
    if contents.facts.stands == "unnamed":  # the sources of a rehearsal
        return []
    ended = sum(statuses.get(status, 0) for status in ENDED_STATUSES)
    said = (("pending", statuses.get("pending", 0)), ("active", statuses.get("active", 0)), ("ended", ended))
    return [texts(f"authorisation_{key}", count=count) for key, count in said if count]


def what_became(contents: ReportContents) -> list[str]:
    """Return what became of the rows that needed a person; nothing if all of them do still."""
    work = contents.facts.work
    return [] if work is None or work.needed == work.open else became(work, contents.texts)


def _of_file(facts: ReportFacts, texts: Texts) -> list[tuple[str, str]]:
    fmt = facts.file_format
    written = ""
    if fmt is not None:
        delimiter = texts(f"delimiter_{_DELIMITERS.get(fmt.delimiter, 'comma')}")
        written = texts("written_as", encoding=fmt.encoding, delimiter=delimiter, columns=len(fmt.header))
    return [
        (texts("file"), facts.batch.name),
        (texts("file_format"), written),
        ("SHA-256", facts.batch.sha256),
        (texts("batch"), "" if facts.check else str(facts.batch.id)),
        (texts("parent"), facts.parent),
        (texts("mode"), texts("mode_live" if facts.batch.account.live else "mode_test")),
    ]


def _of_times(facts: ReportFacts, texts: Texts, written_at: float) -> list[tuple[str, str]]:
    start, end = facts.started_at, facts.finished_at
    return [
        (texts("started"), "" if start is None else texts.time(start)),
        (texts("finished"), "" if end is None else texts.time(end)),
        (texts("took"), "" if start is None or end is None else texts.duration(end - start)),
        (texts("written"), texts.time(written_at)),
    ]


def _of_rate(facts: ReportFacts, texts: Texts) -> list[tuple[str, str]]:
    limit, reached = (
        None if rate is None else texts("per_second", rate=texts.number(rate))
        for rate in (facts.requests_per_second, facts.rows_per_second)
    )
    throttled = sum(point.throttled for point in facts.timeline)
    return [
        (texts("limit"), limit or texts("no_limit")),
        (texts("rate"), reached or ""),
        (texts("throttled"), texts("throttled_times", count=throttled) if throttled else ""),
    ]


def _of_answers(contents: ReportContents) -> list[tuple[str, str]]:
    texts, aggregates = contents.texts, contents.aggregates
    again = sum(rows for attempts, rows in contents.attempts.items() if attempts > 1)
    statuses = [
        texts("counted", name=texts.status(status or "?"), count=texts.number(count))
        for status, count in aggregates.source_statuses.items()
    ]
    return [
        (
            texts("latency"),
            texts("list_between").join(
                texts(f"latency_{name}", ms=texts.number(value)) for name, value in contents.latency_ms.items()
            ),
        ),
        (texts("sent_again"), texts.number(again) if again else ""),
        (texts("adopted"), texts.number(aggregates.adopted) if aggregates.adopted else ""),
        (texts("source_status"), texts("list_between").join(statuses)),
    ]


def warnings_in_words(warnings: Sequence[FileWarning], texts: Texts) -> list[list[str]]:
    """Return title, rows, sentence, what to do and first line of each warning, the most frequent first."""
    return [
        [
            title(each.code, texts.lang),
            texts.number(each.rows),
            sentence(Reason(each.code, each.column, each.detail, each.detail), texts.lang),
            hint(each.code, texts.lang),
            str(each.first_line),
        ]
        for each in sorted(warnings, key=lambda warning: -warning.rows)
    ]
