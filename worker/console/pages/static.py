"""Style sheets and scripts: these files and no others, whatever an address says."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import tasks.reports

_OWN = Path(__file__).parent.parent / "static"
_REPORTS = Path(tasks.reports.__file__).parent
_STYLE, _SCRIPT = "text/css", "text/javascript"
#: Name -> where it is, and what it is.
_FILES = {
    "report.css": (_REPORTS / "report.css", _STYLE),
    "console.css": (_OWN / "console.css", _STYLE),
    "console.js": (_OWN / "console.js", _SCRIPT),
    "htmx-4.0.1.min.js": (_OWN / "htmx-4.0.1.min.js", _SCRIPT),
}


def static(request: Request) -> Response:
    """Return one of the files."""
    found = _FILES.get(request.path_params["name"])
    if found is None:
        return Response(status_code=404)
    path, kind = found
    return Response(path.read_bytes(), media_type=kind, headers={"Cache-Control": "max-age=600"})


ROUTES = [Route("/static/{name}", static)]
