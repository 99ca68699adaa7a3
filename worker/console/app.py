"""The application: routes of the pages, middleware of the safety, and a sentence for whatever was raised."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from tasks.errors import OnboardingError
from tasks.operations.access_history import record_refusal
from tasks.services import Services
from worker.console.kept_answers import KeptAnswers
from worker.console.long_deeds import LongDeeds
from worker.console.page_texts import texts_of
from worker.console.pages import batch, batches, decide, find, me, open_work, rows, static, tonight, upload
from worker.console.people import NotAllowed, Role
from worker.console.safety.composition import is_read_only, middleware_of, routes_of
from worker.console.safety.refusals import RequestRefused, refusal, sorry
from worker.failures import failure_of

_PAGES = (tonight, batches, batch, rows, decide, find, open_work, upload, me, static)


def build_app(services: Services, middleware: Sequence[Middleware] | None = None) -> Starlette:
    """Return the application that shows what these services know; `middleware` stands in the place of ours."""
    app = Starlette(
        routes=[*(route for pages in _PAGES for route in pages.ROUTES), *routes_of(services)],
        middleware=middleware_of(services) if middleware is None else middleware,
        exception_handlers={
            RequestRefused: _request_refused,
            HTTPException: _no_such_page,
            NotAllowed: _not_allowed,
            OnboardingError: _refused,
        },
    )
    app.state.services = services
    app.state.kept = kept = KeptAnswers()
    app.state.long_deeds = LongDeeds(ended=kept.forget)
    app.state.read_only = is_read_only(services)
    app.state.has_sessions = bool(routes_of(services))
    return app


def _request_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return refusal(request, error.status_code, error.key)


def _no_such_page(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
    return sorry(request, status, texts_of(request)("no_such_page"))


def _not_allowed(request: Request, error: Exception) -> Response:
    texts = texts_of(request)
    needed = error.needed if isinstance(error, NotAllowed) else Role.APPROVER
    batch_id = request.path_params.get("batch", 0)
    record_refusal(
        request.app.state.services, request.url.path, needed, who=request.state.person.name, batch_id=batch_id
    )
    return sorry(request, HTTPStatus.FORBIDDEN, texts("not_allowed", role=texts(f"role_{needed}")))


def _refused(request: Request, error: Exception) -> Response:
    sentence = failure_of(error).message.in_language(texts_of(request).lang)
    if request.method == "POST":
        return sorry(request, HTTPStatus.CONFLICT, sentence)
    out_of_reach = error.__cause__ is not None  # what a driver or the system has raised
    return sorry(request, HTTPStatus.SERVICE_UNAVAILABLE if out_of_reach else HTTPStatus.NOT_FOUND, sentence)
