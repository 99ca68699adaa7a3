"""A customer, a source or a reference, found over all batches, exactly as it is written."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tasks.operations.find import find as find_rows
from worker.console.looks import note_looks
from worker.console.page_texts import page, services_of

_MOST_CHARS = 300


def find(request: Request) -> Response:
    """Show a form, and what was found."""
    wanted = request.query_params.get("wanted", "").strip()[:_MOST_CHARS]
    found = find_rows(services_of(request), wanted) if wanted else ()
    note_looks(request, [(row.batch_id, row.record) for row in found])
    return page(request, "find.html.j2", wanted=wanted, found=found)


ROUTES = [Route("/find", find)]
