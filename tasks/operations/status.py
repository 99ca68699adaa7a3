"""What the ledger knows: the newest batches, one batch, unfinished ones that nobody works on, the fleet's rate."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tasks.errors import RateLimitUnavailable
from tasks.ledger import LookUpsToCome
from tasks.models import BatchState
from tasks.operations import batch_lifecycle
from tasks.operations.batch_status import BatchStatus, batch_status, status_of
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class FleetRate:
    """What the fleet may send now."""

    limit: float  #: requests a second
    rate: float  #: the same, as far as elepay lets it
    paused_seconds: float  #: for so long nothing is sent


@dataclass(frozen=True, slots=True)
class BatchDetail:
    """One batch, with what it waits for."""

    status: BatchStatus
    look_ups_to_come: LookUpsToCome | None  #: of a running batch
    rate: FleetRate | None


@dataclass(frozen=True, slots=True)
class BatchList:
    """The newest batches, newest first."""

    batches: tuple[BatchStatus, ...]
    rate: FleetRate | None


def show_batch(services: Services, batch_id: int) -> BatchDetail:
    """Return one batch. Raises LedgerError if there is none with this number."""
    rate = fleet_rate(services)
    batch_lifecycle.end_dead_workers(services.ledger)
    status = batch_status(services, batch_id, count_skipped=True)
    runs = status.batch.state is BatchState.RUNNING
    return BatchDetail(status, services.ledger.queries.look_ups_to_come(batch_id) if runs else None, rate)


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
    return BatchList(tuple(status_of(services, batch) for batch in ledger.batches.newest()), rate)


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
