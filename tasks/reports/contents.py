"""The contents of the reports of one batch, put together once for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.reports.aggregates import Aggregates
from tasks.reports.check_headline import check_headline
from tasks.reports.i18n import Texts
from tasks.reports.latency_chart import percentiles
from tasks.reports.recommendations import Headline, Recommendations, Standing, advise, verdict
from tasks.reports.report_data import ReportFacts


@dataclass(frozen=True, slots=True)
class ReportContents:
    """Facts, counts and words of one batch."""

    facts: ReportFacts
    aggregates: Aggregates
    texts: Texts
    verdict: Headline
    advice: list[Recommendations]  #: what people must do, the action that concerns most rows first
    changed: list[Recommendations]  #: what people may look at: rows that are known with other content
    codes: dict[str, int]
    by_method: dict[str, dict[str, int]]
    attempts: dict[int, int]
    latency_ms: dict[str, float]
    written_at: float

    @classmethod
    def of(cls, facts: ReportFacts, aggregates: Aggregates, texts: Texts, written_at: float) -> ReportContents:
        """Put the contents together, once all rows were counted.

        What needs a person now is what the rows say: of a batch under way they are younger than the counts.
        """
        if facts.work is not None:
            facts = replace(facts, work=replace(facts.work, open=aggregates.failures))
        return cls(
            facts,
            aggregates,
            texts,
            _headline(facts, aggregates, texts),
            advise(facts, aggregates.tasks, texts),
            advise(facts, aggregates.changed_tasks, texts),
            codes=aggregates.codes,
            by_method=aggregates.by_method,
            attempts=aggregates.attempts,
            latency_ms=percentiles(facts.latency_histogram),
            written_at=written_at,
        )


def _headline(facts: ReportFacts, aggregates: Aggregates, texts: Texts) -> Headline:
    if facts.check is not None:
        skipped = {code: count for (state, code), count in aggregates.codes_by_state.items() if state == "skipped"}
        return check_headline(facts.check, aggregates.counts, skipped, texts)
    standing = Standing(facts.stands, facts.batch.id, aggregates.changed, goes_on_at=facts.goes_on_at, work=facts.work)
    return verdict(facts.batch.state, aggregates.counts, texts, standing)
