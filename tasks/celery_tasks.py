"""The same as Celery tasks: a few lines each. Messages carry numbers, never data."""

from __future__ import annotations

import threading

from celery import shared_task

from tasks import onboarding
from tasks.models import Slice
from tasks.resources import Resources
from tasks.settings import load_settings

#: The one queue; slices are short enough that nothing needs to overtake.
QUEUE = "onboard"

_lock = threading.Lock()
_resources: Resources | None = None


def resources() -> Resources:
    """Return what this process works with, built once."""
    global _resources  # noqa: PLW0603 - one object a process, like the wave loop in it
    with _lock:
        if _resources is None:
            _resources = Resources(load_settings())
        return _resources


def send(one: Slice) -> None:
    """Put the message of a slice on the queue."""
    onboard_slice.apply_async(args=tuple(one), queue=QUEUE, ignore_result=True, retry=False)


@shared_task(name="onboard.slice", acks_late=True, ignore_result=True)
def onboard_slice(batch_id: int, first_record: int, last_record: int) -> None:
    """Onboard what is due in a range of records, then ring for the next slices."""
    ours = resources()
    onboarding.onboard_slice(ours.waves, ours.ledger, Slice(batch_id, first_record, last_record))
    onboarding.ring(ours.ledger, send, ours.settings.window)


@shared_task(name="onboard.sweep", ignore_result=True, expires=10)
def sweep() -> None:
    """Take back what dead workers hold and ring for what is due."""
    ours = resources()
    settings = ours.settings
    onboarding.sweep(
        ours.ledger,
        total_timeout_seconds=settings.total_timeout_seconds,
        look_up_delay_seconds=settings.look_up_delay_seconds,
    )
    onboarding.ring(ours.ledger, send, settings.window)
