"""A page in the language of whoever asked for it: its words, its template, the messages above it."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

import tasks.reports
from tasks.models import counted_as
from tasks.reason_texts import LANGUAGES, hint, title
from tasks.reports.html_report import commands_marked
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import title_of
from tasks.services import Services
from worker.console.kept_answers import KeptAnswers
from worker.console.long_deeds import LongDeeds
from worker.console.people import Person, Role

#: The cookie that keeps the language somebody chose; it says nothing about them.
LANGUAGE_COOKIE = "onboard_lang"
_YEAR_SECONDS = 365 * 86_400


def services_of(request: Request) -> Services:
    """Return what this console works with."""
    services: Services = request.app.state.services
    return services


def kept_of(request: Request) -> KeptAnswers:
    """Return the answers that this console keeps for a moment."""
    kept: KeptAnswers = request.app.state.kept
    return kept


def long_deeds_of(request: Request) -> LongDeeds:
    """Return what this console does behind people's backs."""
    deeds: LongDeeds = request.app.state.long_deeds
    return deeds


def person_of(request: Request) -> Person:
    """Return who asks."""
    person: Person = request.state.person
    return person


def sees_personal_data(request: Request) -> bool:
    """Return whether whoever asks sees customers and cells whole: no viewer does, and nobody where they are masked."""
    is_known = hasattr(request.state, "person")  # what is refused before anybody knows who asks has words, too
    return is_known and person_of(request).may(Role.OPERATOR) and not services_of(request).settings.mask_customers


def texts_of(request: Request) -> Texts:
    """Return the words of the pages, in the language of whoever asked; customers as they may see them."""
    zone, sees = services_of(request).settings.time_zone, sees_personal_data(request)
    return Texts(_language(request), zone, _console_texts(), mask_customers=not sees)


def _language(request: Request) -> str:
    """Return the language that was chosen on the page, else before, else the first that the browser names."""
    for chosen in (request.query_params.get("lang"), request.cookies.get(LANGUAGE_COOKIE)):
        if chosen in LANGUAGES:
            return str(chosen)
    for named in request.headers.get("accept-language", "").split(","):
        if (short := named.strip()[:2].lower()) in LANGUAGES:
            return short
    return LANGUAGES[0]


def page(request: Request, template: str, *, status: int = HTTPStatus.OK, **values: Any) -> Response:
    """Return a page made from a template, which is given `values` beside what every page shows."""
    texts = texts_of(request)
    said = request.query_params.get("said", "")
    shown = (
        _environment()
        .get_template(template)
        .render(
            t=texts,
            person=person_of(request),
            shows_references=not services_of(request).settings.mask_customers,
            Role=Role,
            live=services_of(request).settings.live,
            address=services_of(request).account.address,
            account=services_of(request).account,
            path=request.url.path,
            other_language=_in_other_language(request, texts.lang),
            now=time.time(),
            state_class=counted_as,
            read_only=request.app.state.read_only,
            said=f"said_{said}" if f"said_{said}" in _console_texts() else "",
            said_count=whole_number(request.query_params.get("count")),
            **values,
        )
    )
    response = HTMLResponse(shown, status)
    if request.query_params.get("lang") in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE,
            texts.lang,
            max_age=_YEAR_SECONDS,
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
    return response


def back_to(request: Request, path: str, said: str, **values: object) -> Response:
    """Send somebody back to a page after what they did, with a message: the text `said_SAID`."""
    kept_of(request).forget()
    query = urlencode({"said": said, **values})
    return RedirectResponse(f"{path}?{query}", HTTPStatus.SEE_OTHER)


def _in_other_language(request: Request, lang: str) -> str:
    """Return the address of the same page in the other language, relative to it: no path can lead elsewhere."""
    kept = [
        (name, value) for name, value in request.query_params.multi_items() if name not in ("lang", "said", "count")
    ]
    other = next(each for each in LANGUAGES if each != lang)
    return f"?{urlencode([*kept, ('lang', other)])}"


def whole_number(text: str | None) -> int:
    """Return a number that somebody has typed or a link carries; 0 for whatever is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else 0


@cache
def _console_texts() -> Mapping[str, list[str]]:
    return tomllib.loads(Path(__file__).with_name("texts.toml").read_text("utf-8"))


@cache
def _environment() -> Environment:
    reports = Path(tasks.reports.__file__).parent  # bars and charts are the same as in the reports
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).with_name("templates"), reports]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["commands"] = commands_marked
    environment.globals.update(title_of=title_of, title=title, hint=hint)
    return environment
