"""What runs, waits and is stopped now, and what waits for a person over all nights."""

from __future__ import annotations

import os
import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.models import BatchState
from tasks.operations import browse
from tasks.operations.open_work import list_open_work
from tasks.operations.status import fleet_rate, is_fleet_at_work
from tasks.reports.open_groups import OpenGroup
from worker.console.page_texts import kept_of, page, services_of, texts_of
from worker.console.pages.batch_lines import forecast_in_words, lines_of
from worker.inboxes.local_folder import Paths
from worker.inboxes.names import NameKind, kind_of

#: Batches that ended so recently are shown.
_RECENT_SECONDS = 24 * 3600.0
_GROUPS_SHOWN = 6
#: Seconds between two refreshments while something runs.
_EVERY_SECONDS = 5

#: In the order in which they are shown.
_UNFINISHED = (BatchState.RUNNING, BatchState.INTERRUPTED, BatchState.PAUSED, BatchState.HALTED, BatchState.READING)


def tonight(request: Request) -> Response:
    """Show what goes on."""
    services, texts = services_of(request), texts_of(request)
    going = sorted(browse.unfinished(services), key=lambda batch: _UNFINISHED.index(batch.state))
    recent = browse.batches(services, browse.BatchFilter(since=time.time() - _RECENT_SECONDS)).batches
    groups = open_groups(request)
    return page(
        request,
        "tonight.html.j2",
        going=lines_of(request, going),
        recent=lines_of(request, [batch for batch in recent if batch.state not in _UNFINISHED]),
        groups=groups[:_GROUPS_SHOWN],
        more_groups=max(len(groups) - _GROUPS_SHOWN, 0),
        open_rows=sum(group.rows for group in groups),
        is_fleet_at_work=is_fleet_at_work(services),
        rate=fleet_rate(services),
        files_waiting=_files_waiting(services.settings.drop_folder),
        forecast_in_words=lambda line: forecast_in_words(line, texts),
        every=_EVERY_SECONDS if any(batch.state in (BatchState.RUNNING, BatchState.READING) for batch in going) else 0,
    )


def open_groups(
    request: Request, batch_id: int | None = None, state: BatchState | None = None
) -> tuple[OpenGroup, ...]:
    """Return what needs a person, at most a moment old."""
    services = services_of(request)
    return kept_of(request).get(("open", batch_id, state), lambda: list_open_work(services, batch_id))


def _files_waiting(drop_folder: Path) -> int | None:
    """Return how many files lie in the inbox of the drop folder; None: there is no such folder here."""
    try:
        with os.scandir(Paths.below(drop_folder).inbox) as found:
            return sum(entry.is_file() and kind_of(entry.name) is NameKind.FILE for entry in found)
    except OSError:
        return None


ROUTES = [Route("/", tonight)]
