"""File events of the operating system, by watchfiles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import watchfiles


def events_in(folder: Path) -> Iterator[object]:
    """Yield soon after something changed in a folder, not below it. May raise any exception, e.g. on network shares."""
    yield from watchfiles.watch(
        folder, watch_filter=None, recursive=False, raise_interrupt=False, debounce=200, step=50
    )
