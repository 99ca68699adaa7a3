"""The same as Celery tasks: a few lines each. Messages carry numbers, never data."""

from __future__ import annotations

import threading
import time

from celery import shared_task

from tasks.memory_limits import is_out_of_memory
from tasks.models import Slice
from tasks.operations import batch_lifecycle
from tasks.operations.follow_up import follow_up
from tasks.operations.retention import tidy
from tasks.services import Services
from tasks.settings import load_settings

#: The fleet's queue; slices are short enough that nothing needs to overtake. Those of commands have a number behind it.
QUEUE = "onboard"

#: For how long one message to follow up works at most.
FOLLOW_UP_SECONDS = 25.0
#: What beat sends, and how often. Each is safe to be done twice at once, and expires when the next is due.
SCHEDULE = {"onboard.follow_up": 30.0, "onboard.tidy": 3600.0}
#: Every task, and how many numbers its message carries.
ARGUMENTS = {"onboard.slice": 3, "onboard.follow_up": 0, "onboard.tidy": 0}

#: Set when a slice found no memory: this process is of no use any more and should be started again.
out_of_memory = threading.Event()

_lock = threading.Lock()
_services: Services | None = None


def built_services() -> Services:
    """Return what this process works with, built once."""
    global _services  # noqa: PLW0603 - one object a process, like the send loop in it
    with _lock:
        if _services is None:
            _services = Services(load_settings())
        return _services


def send(one: Slice) -> None:
    """Put the message of a slice on the queue of this process: the fleet's, or that of its command."""
    onboard_slice.apply_async(args=tuple(one), ignore_result=True, retry=False)


@shared_task(name="onboard.slice", acks_late=True, ignore_result=True)
def onboard_slice(batch_id: int, first_record: int, last_record: int) -> None:
    """Onboard what is due in a range of records, then dispatch the next slices."""
    services = built_services()
    try:
        batch_lifecycle.onboard_slice(
            services.send_loop, services.ledger, services.sampler, Slice(batch_id, first_record, last_record)
        )
        batch_lifecycle.dispatch(services.ledger, send, services.settings.window)
    except Exception as error:
        if is_out_of_memory(error):
            out_of_memory.set()
        raise


def reap() -> None:
    """Take back what dead workers hold and dispatch what is due; every worker does so by itself, without a message."""
    services = built_services()
    settings = services.settings
    batch_lifecycle.reap(
        services.ledger,
        look_up_delay_seconds=settings.look_up_delay_seconds,
    )
    batch_lifecycle.dispatch(services.ledger, send, settings.window)


@shared_task(name="onboard.follow_up", ignore_result=True)
def onboard_follow_up() -> None:
    """Ask elepay what became of pending sources, as far as they are due."""
    services = built_services()
    ends = time.monotonic() + FOLLOW_UP_SECONDS
    follow_up(services, ends=ends, stopping=lambda: services.send_loop.draining)


@shared_task(name="onboard.tidy", ignore_result=True)
def onboard_tidy() -> None:
    """Drop what belongs to batches that ended long ago."""
    services = built_services()
    if services.settings.keep_days:
        tidy(services)
