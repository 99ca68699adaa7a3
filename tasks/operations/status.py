"""What the ledger knows: the newest batches, one batch, unfinished ones that nobody works on, the fleet's rate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tasks.errors import RateLimitUnavailable
from tasks.ledger import LookUpsToCome
from tasks.models import Batch, BatchState
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, status_of, waits_for_next_night
from tasks.services import Services

#: The pace of a forecast is that of so long a time.
PACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FleetRate:
    """What the fleet may send now."""

    limit: float  #: requests a second
    rate: float  #: the same, as far as elepay lets it
    paused_seconds: float  #: for so long nothing is sent


class AtWork(NamedTuple):
    """Who sends a batch now."""

    workers: tuple[tuple[str, int], ...]  #: host and pid of each
    command: tuple[str, int] | None  #: the command whose workers they are; None: the fleet's, or those of a watcher

    @property
    def hosts(self) -> tuple[str, ...]:
        """The machines of the workers."""
        return tuple(dict.fromkeys(host for host, _ in self.workers))


class Forecast(NamedTuple):
    """When a running batch is done, if it goes on as in the last minute."""

    rows_per_second: float
    done_at: float  #: if no window closes before
    deadline_at: float | None
    closes_at: float | None  #: when the nightly window closes, if that is before
    left_at_closing: int  #: rows that then wait for the next night

    @property
    def misses_deadline(self) -> bool:
        """Whether it is not done at its deadline, at which it is paused."""
        return self.deadline_at is not None and (self.done_at > self.deadline_at or self.left_at_closing > 0)


@dataclass(frozen=True, slots=True)
class BatchDetail:
    """One batch, with what it waits for."""

    status: BatchStatus
    look_ups_to_come: LookUpsToCome | None  #: of a running batch
    rate: FleetRate | None
    at_work: AtWork | None  #: of a running batch
    forecast: Forecast | None  #: of a running batch of which rows left in the last minute
    goes_on_at: float | None  #: its rows wait for the nightly window to open


@dataclass(frozen=True, slots=True)
class BatchList:
    """The newest batches, newest first."""

    batches: tuple[BatchStatus, ...]
    rate: FleetRate | None
    open_rows: int  #: rows that need a person, over all batches
    forecasts: Mapping[int, Forecast]  #: batch -> when it is done


def show_batch(services: Services, batch_id: int) -> BatchDetail:
    """Return one batch. Raises LedgerError if there is none with this number."""
    rate = fleet_rate(services)
    batch_lifecycle.end_dead_workers(services.ledger)
    status = batch_status(services, batch_id, count_skipped=True)
    if status.batch.state is not BatchState.RUNNING:
        return BatchDetail(status, None, rate, None, None, None)
    to_come = services.ledger.queries.look_ups_to_come(batch_id)
    at_work, done = _at_work(services, status.batch), forecast(services, status, to_come)
    return BatchDetail(status, to_come, rate, at_work, done, waits_for_next_night(services, status.batch))


def _at_work(services: Services, batch: Batch) -> AtWork:
    leases = services.ledger.workers
    command = None if batch.runner is None else leases.command(batch.runner)
    return AtWork(tuple(leases.at_work_for(batch.runner)), command)


def forecast(services: Services, status: BatchStatus, to_come: LookUpsToCome | None = None) -> Forecast | None:
    """Return when the rest of a batch is done at the pace of the last minute; None if nothing left in it."""
    if status.batch.state is not BatchState.RUNNING or not status.batch.is_worked_on:
        return None
    ledger, batch, now = services.ledger, status.batch, services.ledger.now()
    recent = ledger.queries.sent_since(batch.id, now - PACE_SECONDS)
    if recent.first_at is None or not (status.counts.open or to_come):
        return None
    pace = recent.rows / max(now - recent.first_at, 1.0)
    done_at = max(now + status.counts.open / pace, to_come.last_at if to_come else 0.0)
    closes_at = services.settings.window.span_with(ledger.dispatch.window_of(batch.id), now).closes_at
    left = math.ceil((done_at - closes_at) * pace) if closes_at < done_at else 0
    return Forecast(pace, done_at, batch.deadline_at, closes_at if left else None, min(left, status.counts.open))


def is_at_rest(services: Services, batch_id: int) -> bool:
    """Return whether a batch will not move any more without a person. Raises LedgerError if there is none."""
    batch_lifecycle.end_dead_workers(services.ledger)
    if services.ledger.batches.get(batch_id).state is BatchState.INTERRUPTED:
        return True
    return batch_lifecycle.is_over(services.ledger, batch_id)


def list_batches(services: Services) -> BatchList:
    """Return the newest batches, with the fleet's current rate if it has a Redis."""
    rate = fleet_rate(services)
    batch_lifecycle.end_dead_workers(services.ledger)
    ledger = services.ledger
    listed = tuple(status_of(services, batch) for batch in ledger.batches.newest())
    forecasts = {each.batch.id: done for each in listed if (done := forecast(services, each)) is not None}
    return BatchList(listed, rate, ledger.open_work.count().rows, forecasts)


def list_left_alone(services: Services, but: Collection[int]) -> tuple[BatchStatus, ...]:
    """Return the unfinished batches, oldest first, that nobody works on, but for some."""
    ledger = services.ledger
    return tuple(
        status_of(services, batch)
        for batch in ledger.batches.unfinished()
        if batch.id not in but and not batch.is_worked_on
    )


def is_fleet_at_work(services: Services) -> bool:
    """Return whether any worker of the fleet, or of a watcher, is there to send what is accepted now."""
    batch_lifecycle.end_dead_workers(services.ledger)
    return services.ledger.workers.is_fleet_at_work()


def fleet_rate(services: Services) -> FleetRate | None:
    """Return the fleet's rate; None without a Redis of its own (a private one lives only during a run)."""
    if services.settings.redis_url is None:
        return None
    try:
        current = services.rate_limit.current()
    except RateLimitUnavailable:
        return None
    return FleetRate(current.limit, current.rate, current.paused_seconds)
