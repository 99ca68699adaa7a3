"""Pages of whatever is between a caller and elepay: HTML, no errorCode (docs/reference/elepay-api.md §5.2)."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

from simulator.answers import Answer
from simulator.profile import Profile

HTML_TYPE = b"text/html"
#: Where pages that redirect point to. elepay has no such path: whoever follows is counted as `unknownPath`.
SIGN_IN_PATH = b"/sign-in"

_TITLES = {200: "Sign in", 520: "Web Server Returned an Unknown Error"}
_WITHOUT_BODY = frozenset({204, 304})
_WITH_RETRY_AFTER = frozenset({429, 503})


def page(status: int, profile: Profile) -> Answer:
    """Return a page with this status; redirects carry Location, 429 and 503 Retry-After."""
    headers: list[tuple[bytes, bytes]] = []
    if 300 <= status < 400:
        headers.append((b"location", SIGN_IN_PATH))
    if status in _WITH_RETRY_AFTER:
        headers.append((b"retry-after", retry_after(profile, time.time())))
    title = _TITLES.get(status) or f"{status} {_phrase(status)}"
    html = f"<html>\r\n<head><title>{title}</title></head>\r\n<body><center><h1>{title}</h1></center></body>\r\n</html>"
    body = b"" if status in _WITHOUT_BODY else html.encode()
    return Answer(status, body, str(status), HTML_TYPE, tuple(headers))


def retry_after(profile: Profile, now: float) -> bytes:
    """Return the value of a Retry-After header in the profile's form; `now` is in epoch seconds."""
    match profile.retry_after_form:
        case "date":
            return formatdate(now + profile.retry_after_seconds, usegmt=True).encode()
        case "fraction":
            return b"%d.5" % profile.retry_after_seconds
    return b"%d" % profile.retry_after_seconds


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
