"""Every batch, newest first, by state, mode and day."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.models import BatchState
from tasks.operations import browse
from worker.console.page_texts import page, services_of, texts_of, whole_number
from worker.console.pages.batch_lines import forecast_in_words, lines_of

_MODES = {"test": False, "live": True}


class Asked(NamedTuple):
    """What somebody has asked for, as the form shows it again."""

    state: str
    mode: str
    day: str

    @property
    def query(self) -> str:
        """The same for a link."""
        return urlencode({name: value for name, value in self._asdict().items() if value})


def batches(request: Request) -> Response:
    """List batches."""
    given, texts = request.query_params, texts_of(request)
    asked = _asked(request)
    found = browse.batches(services_of(request), _filter(request, asked), whole_number(given.get("before")) or None)
    return page(
        request,
        "batches.html.j2",
        lines=lines_of(request, found.batches),
        before=found.before,
        asked=asked,
        states=[state.value for state in BatchState],
        forecast_in_words=lambda line: forecast_in_words(line, texts),
    )


def _asked(request: Request) -> Asked:
    given = request.query_params
    state, mode, day = (given.get(name, "") for name in Asked._fields)
    known = state in [each.value for each in BatchState]
    return Asked(state if known else "", mode if mode in _MODES else "", day if _day(day) else "")


def _filter(request: Request, asked: Asked) -> browse.BatchFilter:
    since = until = None
    if day := _day(asked.day):
        begins = day.replace(tzinfo=ZoneInfo(services_of(request).settings.time_zone))
        since, until = begins.timestamp(), (begins + timedelta(days=1)).timestamp()
    state = BatchState(asked.state) if asked.state else None
    return browse.BatchFilter(state, _MODES.get(asked.mode), since, until)


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - its zone is that of the settings
    except ValueError:
        return None


ROUTES = [Route("/batches", batches)]
