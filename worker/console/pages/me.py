"""Who somebody is to the console, and what they may do."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from worker.console.page_texts import page


def me(request: Request) -> Response:
    """Show it."""
    return page(request, "me.html.j2", has_sessions=request.app.state.has_sessions)


ROUTES = [Route("/me", me)]
