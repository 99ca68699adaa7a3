"""What runs, waits and is stopped now."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.operations.status import list_batches
from worker.console.page_texts import page, services_of


def tonight(request: Request) -> Response:
    """Show what goes on."""
    return page(request, "tonight.html.j2", batches=list_batches(services_of(request)).batches)


ROUTES = [Route("/", tonight)]
