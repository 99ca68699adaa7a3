"""What lists of batches show of each: its counts, its headline, when it will be done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from starlette.requests import Request

from tasks import stop_texts
from tasks.models import Batch, BatchState, StopCode
from tasks.operations.batch_status import BatchStatus, batch_status, waits_for_next_night
from tasks.operations.batch_status import status_of as status_with_counts
from tasks.operations.status import Forecast, forecast
from tasks.reports.html_report import Part, parts
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Headline, Standing, verdict
from worker.console.page_texts import kept_of, services_of, texts_of

#: Stops that people end on a batch's page.
_WITH_A_BUTTON = (StopCode.PERSON, StopCode.DEADLINE, StopCode.CANARY, StopCode.APPROVAL, StopCode.BREAKER)
#: Our words for the lines of the reconciliation.
COUNTED = ("created", "skipped", "invalid", "refused", "unclear", "open")


class BatchLine(NamedTuple):
    """One batch of a list."""

    batch: Batch
    status: BatchStatus
    counts: list[tuple[str, str, int]]  #: our word for the state, its name for people, rows
    parts: list[Part]  #: of its bar
    why: str  #: why it does not go on
    forecast: Forecast | None
    goes_on_at: float | None  #: its nightly window is closed until then

    @property
    def is_unusable(self) -> bool:
        """True of a file that could not be read: it has no rows."""
        return self.batch.state is BatchState.UNUSABLE


#: States in which rows move only by what people do elsewhere.
_ENDED = (BatchState.FINISHED, BatchState.CANCELLED, BatchState.UNUSABLE)


def status_of(request: Request, batch: Batch) -> BatchStatus:
    """Return a batch that was just read, with its counts, those of skipped rows too, at most a moment old.

    Never those of another state: the page of a batch that has stopped is not refreshed any more.
    """
    services = services_of(request)
    kept = kept_of(request).get(
        ("status", batch.id, batch.state), lambda: batch_status(services, batch.id, count_skipped=True)
    )
    return replace(kept, batch=batch)


def counted(request: Request, batch: Batch) -> BatchStatus:
    """Return a batch that was just read, with its counts; of one that has ended they may be a minute old."""
    services = services_of(request)
    kept = kept_of(request).get(
        ("counted", batch.id, batch.state),
        lambda: status_with_counts(services, batch),
        hardly_changes=batch.state in _ENDED,
    )
    return replace(kept, batch=batch)


def lines_of(request: Request, batches: Iterable[Batch]) -> list[BatchLine]:
    """Return the lines of some batches."""
    return [line_of(request, counted(request, batch)) for batch in batches]


def line_of(request: Request, status: BatchStatus) -> BatchLine:
    """Return what is shown of one batch."""
    services, texts, batch = services_of(request), texts_of(request), status.batch
    counts = counts_of(status, texts)
    why = _why(batch, texts)
    goes_on_at = waits_for_next_night(services, batch)
    done = kept_of(request).get(("forecast", batch.id, batch.state), lambda: forecast(services, status))
    return BatchLine(batch, status, counts, parts(counts), why, done, goes_on_at)


def _why(batch: Batch, texts: Texts) -> str:
    """Return why a batch does not go on, where there is a button for it without the command that does the same."""
    if batch.stop and batch.stop.code in _WITH_A_BUTTON:
        return texts(f"stopped_{batch.stop.code}", **batch.stop.values)
    return stop_texts.sentence(batch.stop, texts.lang)


def counts_of(status: BatchStatus, texts: Texts) -> list[tuple[str, str, int]]:
    """Return the lines of the reconciliation."""
    return [(state, texts(f"state_{state}"), int(getattr(status.counts, state))) for state in COUNTED]


def headline_of(status: BatchStatus, texts: Texts) -> Headline:
    """Return how a batch stands, in the words of its reports."""
    standing = Standing(number=status.batch.id, skipped=status.skipped, work=status.work, listed_below=False)
    return verdict(status.batch.state, status.counts, texts, standing)


def forecast_in_words(line: BatchLine, texts: Texts) -> str:
    """Return when a batch will be done, in words; nothing where nobody knows."""
    found, minute = line.forecast, texts("time_minute_zone")
    if line.goes_on_at is not None:
        return texts("forecast_night", count=line.status.counts.open, time=texts.time(line.goes_on_at, minute))
    if found is None:
        return ""
    rate = texts.rate(found.rows_per_second)
    if found.closes_at is not None:
        said = texts("forecast_left", count=found.left_at_closing, rate=rate, time=texts.time(found.closes_at, minute))
    else:
        time_of_end = texts.time(found.done_at, minute)
        said = texts("forecast", count=line.status.counts.open, rate=rate, time=time_of_end)
    if found.deadline_at is None or not found.misses_deadline:
        return said
    return texts("forecast_late", forecast=said, time=texts.time(found.deadline_at, minute))
