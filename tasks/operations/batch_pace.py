"""How fast a batch was sent, second by second, and how fast elepay answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tasks.models import Batch
from tasks.operations.report import timeline_points
from tasks.reports.report_data import TimelinePoint
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class BatchPace:
    """What was sent when, and how long answers took."""

    batch: Batch
    points: tuple[TimelinePoint, ...]
    latencies: Mapping[int, int]  #: milliseconds -> answers
    requests_per_second: float | None  #: the limit; None: none is set


def pace(services: Services, batch_id: int) -> BatchPace:
    """Return the pace of a batch; it looks at every row. Raises LedgerError if there is none with this number."""
    ledger = services.ledger
    batch = ledger.batches.get(batch_id)
    sent = ledger.queries.sent_per_second(batch_id)
    return BatchPace(
        batch,
        timeline_points(ledger, batch_id, sent),
        ledger.queries.latencies(batch_id),
        services.settings.requests_per_second or None,
    )
