"""Somebody signs out, here or everywhere."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tasks.operations.sign_in import sign_out, sign_out_everywhere
from worker.console.page_texts import services_of
from worker.console.safety.known_people import SIGN_IN
from worker.console.safety.session_cookie import session_secret, take_cookie


def here(request: Request) -> Response:
    """End this session."""
    sign_out(services_of(request), session_secret(request), who=request.state.person.name)
    return _signed_out(request)


def everywhere(request: Request) -> Response:
    """End every session of this person."""
    name = request.state.person.name
    sign_out_everywhere(services_of(request), name, who=name)
    return _signed_out(request)


def _signed_out(request: Request) -> Response:
    response = RedirectResponse(f"{SIGN_IN}?said=signed_out", HTTPStatus.SEE_OTHER)
    take_cookie(response, request)
    return response


ROUTES = [
    Route("/sign-out", here, methods=["POST"]),
    Route("/sign-out-everywhere", everywhere, methods=["POST"]),
]
