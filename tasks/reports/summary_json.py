"""`summary.json`: what the run came to, for machines.

The names are stable; new ones may come, none goes. Times are ISO 8601 in UTC, counts are rows unless said otherwise.

=================  =====================================================================================================
format             1
check              true: the file was only checked and nothing was sent; `open` rows are those that a run would send
batch              id (null for a check), name, state (`checked` for a check), state_reason, live, parent, parent_id
verdict            kind (done, needs_you, running, stopped, cancelled, unusable, check), text, more
books              records, created, skipped, invalid, refused, unclear, open, balance, need_a_person
work               what became of rows that needed a person: open, dismissed, and by batch resolved, under_way,
                   carried_over; null for a check
times              accepted_at, started_at, finished_at, written_at, seconds (of the run), goes_on_at (rows wait for the
                   nightly window; else null)
rate               limit_requests_per_second, rows_per_second, throttled
                   (answers), used (rows per second by the limit, 1 is all of it)
codes              code -> rows that carry it, the most frequent first
to_do              what people must do: state, code, column (or payment method), rows, alone (rows with nothing else in
                   the way), lines (the first ones), kind (of work: contact the customer, correct the file, decide,
                   clear_up with elepay, send); ordered by rows
changed            the same of rows that are known with other content, which nobody must do anything about
by_itself          rows that need nobody: waiting (sent now, or when the batch goes on), looked_up, under_way (in a
                   later batch)
source_statuses    elepay's word -> created rows
adopted            created rows whose source was found by look-up
by_method          payment method -> state -> rows
attempts           number of attempts -> rows
latency_ms         p50, p95, p99, max
warnings           code, column, rows, first_line, detail
file               name, sha256, encoding, delimiter, newline, bom, columns; null if it could not be read
reports            name -> file beside this one
versions           program -> version
=================  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from tasks import stop_texts
from tasks.reports.aggregates import Aggregates
from tasks.reports.contents import ReportContents
from tasks.reports.i18n import iso_time
from tasks.reports.recommendations import Recommendations
from tasks.reports.report_data import ReportFacts


def summarise(contents: ReportContents, reports: Mapping[str, str]) -> bytes:
    """Return the text of `summary.json`; `reports` is name -> file beside it."""
    facts, aggregates = contents.facts, contents.aggregates
    summary = {
        "format": 1,
        "check": facts.check is not None,
        "batch": _batch(facts, contents.texts.lang),
        "verdict": contents.verdict._asdict(),
        "books": counts_of(aggregates),
        "work": None if facts.work is None else asdict(facts.work),
        "times": _times(facts, contents.written_at),
        "rate": _rate(facts),
        "codes": contents.codes,
        "to_do": [{**_to_do(each), "kind": each.kind} for each in contents.advice],
        "changed": [_to_do(each) for each in contents.changed],
        "by_itself": {
            "waiting": aggregates.waiting,
            "looked_up": aggregates.looked_up,
            "under_way": sum(facts.work.under_way.values()) if facts.work else 0,
        },
        "source_statuses": aggregates.source_statuses,
        "adopted": aggregates.adopted,
        "by_method": contents.by_method,
        "attempts": contents.attempts,
        "latency_ms": contents.latency_ms,
        "warnings": [warning._asdict() for warning in facts.warnings],
        "file": _file(facts),
        "reports": dict(reports),
        "versions": dict(facts.versions),
    }
    return orjson.dumps(summary, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)


def counts_of(aggregates: Aggregates) -> dict[str, Any]:
    """Return the counts as they stand in `summary.json` and the manifest."""
    counts = aggregates.counts
    return {**asdict(counts), "balance": counts.balance, "need_a_person": aggregates.failures}


def _batch(facts: ReportFacts, lang: str) -> dict[str, Any]:
    batch = facts.batch
    return {
        "id": None if facts.check else batch.id,
        "name": batch.name,
        "state": "checked" if facts.check else batch.state.value,
        "state_reason": stop_texts.sentence(batch.stop, lang),
        "live": batch.account.live,
        "parent": facts.parent,
        "parent_id": batch.parent_id,
    }


def _times(facts: ReportFacts, written_at: float) -> dict[str, Any]:
    start, end = facts.started_at, facts.finished_at
    return {
        "accepted_at": _iso(facts.batch.created_at),
        "started_at": _iso(start),
        "finished_at": _iso(end),
        "written_at": _iso(written_at),
        "goes_on_at": _iso(facts.goes_on_at),
        "seconds": None if start is None or end is None else round(end - start, 3),
    }


def _iso(at: float | None) -> str | None:
    return None if at is None else iso_time(at)


def _rate(facts: ReportFacts) -> dict[str, Any]:
    limit, reached = facts.requests_per_second, facts.rows_per_second
    return {
        "limit_requests_per_second": limit,
        "rows_per_second": reached,
        "throttled": sum(point.throttled for point in facts.timeline),
        "used": None if not limit or reached is None else round(reached / limit, 4),
    }


def _to_do(advice: Recommendations) -> dict[str, Any]:
    task = advice.task
    return {**task.key._asdict(), "rows": task.rows, "alone": task.alone, "lines": task.lines}


def _file(facts: ReportFacts) -> dict[str, Any] | None:
    fmt = facts.file_format
    if fmt is None:
        return None
    return {
        "name": facts.batch.name,
        "sha256": facts.batch.sha256,
        "encoding": fmt.encoding,
        "delimiter": fmt.delimiter,
        "newline": fmt.newline,
        "bom": fmt.has_bom,
        "columns": list(fmt.header),
    }
