"""Python's cycle collector, kept from looking again and again at what stays or has no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Collect no cycles meanwhile: many rows are held at once, and there are none among them.

    It took a quarter of the time of intake and of the reports (docs/reference/reports.md). Threads may do this side by
    side: whoever found the collector on turns it on again.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_from_now_on() -> None:
    """Let cycles be collected, but not among what is loaded by now.

    It stays, and looking through it again and again would make rows late. Until this is called modules load with the
    collector at rest, which is a fifth quicker.
    """
    gc.freeze()
    gc.enable()
