"""What Prometheus reads: every metric with its name and its sentence; no label ever holds data of a file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tasks.ledger import OpenCounts, Overview
from tasks.metrics_registry import LATENCY_SECONDS, Counted
from tasks.models import BatchState, RowState, counted_as
from tasks.send.rate_limit import CurrentRate

#: States of batches that are shown: those that are unfinished.
_BATCH_STATES = (BatchState.READING, BatchState.RUNNING, BatchState.PAUSED, BatchState.HALTED)
#: States of rows that need a person; `waiting`, shown as open: those of cancelled batches.
_OPEN_WORK_STATES = (RowState.INVALID, RowState.REFUSED, RowState.UNCLEAR, RowState.WAITING)


@dataclass(frozen=True, slots=True)
class Observation:
    """What one process knows at one moment; None: the ledger (or Redis) has not answered lately."""

    counted: Counted
    overview: Overview | None = None
    unattended: int | None = None  #: batches for which nobody does anything
    rate: CurrentRate | None = None
    ready: Mapping[str, bool] = field(default_factory=dict)
    pulses: Mapping[str, float] = field(default_factory=dict)  #: part -> when it last came round, epoch seconds
    open_work: OpenCounts | None = None


def render(observed: Observation) -> bytes:
    """Return the page that Prometheus reads."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Collected(observed))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, observed: Observation) -> None:
        self._observed = observed

    def collect(self) -> Iterable[Metric]:
        return families(self._observed)


def families(observed: Observation) -> Iterator[Metric]:
    """Yield every metric of ours."""
    yield from _of_this_process(observed)
    yield _gauge("onboard_ready", "1 if this part answers, else 0.", "part", observed.ready)
    yield _gauge(
        "onboard_pulse_timestamp_seconds", "When this part of the process last came round.", "part", observed.pulses
    )
    if observed.rate is not None:
        yield from _of_the_rate(observed.rate)
    if observed.overview is not None:
        yield from _of_the_ledger(observed.overview)
    if observed.open_work is not None:
        yield from _of_open_work(observed.open_work)
    if observed.unattended is not None:
        yield GaugeMetricFamily(
            "onboard_unattended_batches",
            "Batches whose command is gone, or with rows that are due and that nobody takes.",
            observed.unattended,
        )


def _of_open_work(counts: OpenCounts) -> Iterator[Metric]:
    rows = {counted_as(state): counts.by_state.get(state, 0) for state in _OPEN_WORK_STATES}
    yield _gauge("onboard_open_work_rows", "Rows that need a person, over all batches, each once.", "state", rows)
    yield GaugeMetricFamily(
        "onboard_open_work_oldest_timestamp_seconds",
        "Since when the oldest of them has needed a person; 0: there is none.",
        counts.since or 0.0,
    )
    yield GaugeMetricFamily(
        "onboard_undecided_rows", "Unclear rows that only a person can settle.", rows[RowState.UNCLEAR.value]
    )


def _of_this_process(observed: Observation) -> Iterator[Metric]:
    counted = observed.counted
    yield _counter(
        "onboard_requests", "Requests to create a source, by what came of them.", "outcome", counted.requests
    )
    yield _counter("onboard_look_ups", "Look-ups of unclear rows, by what they found.", "finding", counted.look_ups)
    yield CounterMetricFamily("onboard_waves", "Commits of the sending loop.", value=counted.commits)
    ends = [*map(str, LATENCY_SECONDS), "+Inf"]
    buckets = list(zip(ends, map(float, itertools.accumulate(counted.latencies)), strict=True))
    yield HistogramMetricFamily(
        "onboard_answer_seconds", "How long elepay took to answer.", buckets=buckets, sum_value=counted.latency_seconds
    )


def _of_the_rate(rate: CurrentRate) -> Iterator[Metric]:
    yield GaugeMetricFamily("onboard_limit_requests_per_second", "What the operator allows the fleet.", rate.limit)
    yield GaugeMetricFamily("onboard_rate_requests_per_second", "What the fleet may do now.", rate.rate)
    yield GaugeMetricFamily("onboard_rate_paused_seconds", "For so long the fleet sends nothing.", rate.paused_seconds)


def _of_the_ledger(overview: Overview) -> Iterator[Metric]:
    rows = {state.value: overview.rows.get(state, 0) for state in RowState}
    yield _gauge("onboard_rows", "Rows of unfinished batches.", "state", rows)
    batches = {state.value: overview.batches.get(state, 0) for state in _BATCH_STATES}
    yield _gauge("onboard_batches", "Unfinished batches.", "state", batches)
    yield GaugeMetricFamily(
        "onboard_oldest_open_row_timestamp_seconds",
        "When the oldest unfinished batch with an open row was accepted; 0: there is none.",
        overview.oldest_open_at or 0.0,
    )
    yield GaugeMetricFamily(
        "onboard_last_finished_timestamp_seconds",
        "When a batch last came to its end; 0: none did yet.",
        overview.last_finished_at or 0.0,
    )
    yield GaugeMetricFamily(
        "onboard_failing_news",
        "Notifications that a channel could not deliver yet and that are tried again.",
        overview.failing,
    )


def _gauge(name: str, says: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric


def _counter(name: str, says: str, label: str, values: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(name, says, labels=[label])
    for key, value in values.items():
        metric.add_metric([key], value)
    return metric
