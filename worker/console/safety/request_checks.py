"""The Host that was asked for, and where a form comes from."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from worker.console.safety.refusals import refuse

#: By these names a browser on this machine reaches the console, whatever the port.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_HARMLESS = ("GET", "HEAD")
_METHODS = (*_HARMLESS, "POST")


class CheckedRequests:
    """Let through only what asks for one of our names, and only forms that stand on pages of that name.

    A page elsewhere whose name leads to this machine (DNS rebinding) asks for its own name. A browser says where a form
    comes from by `Sec-Fetch-Site` or `Origin`; what says neither comes from no page.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on, or refuse."""
        if scope["type"] != "http":
            if scope["type"] != "websocket":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not self._is_ours(headers):
            await refuse(scope, receive, send, HTTPStatus.MISDIRECTED_REQUEST, "not_our_name")
        elif scope["method"] not in _METHODS:
            await refuse(scope, receive, send, HTTPStatus.METHOD_NOT_ALLOWED, "no_such_page")
        elif scope["method"] not in _HARMLESS and not _is_from_our_page(headers):
            await refuse(scope, receive, send, HTTPStatus.FORBIDDEN, "form_from_elsewhere")
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, headers: Headers) -> bool:
        named = headers.getlist("host")
        return len(named) == 1 and (named[0].lower() in self._hosts or is_loopback(named[0]))


def is_loopback(host: str) -> bool:
    """Return whether a Host names this machine itself, with any port."""
    try:
        parts = urlsplit(f"//{host}")
        port, name = parts.port, parts.hostname or ""
    except ValueError:
        return False
    written = f"[{name}]" if ":" in name else name
    return written in LOOPBACK_NAMES and host.lower() in (written, f"{written}:{port}")


def _is_from_our_page(headers: Headers) -> bool:
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if len(sites) > 1 or len(origins) > 1 or not (sites or origins):
        return False
    if sites and sites[0] != "same-origin":
        return False
    return not origins or urlsplit(origins[0]).netloc.lower() == headers["host"].lower()
