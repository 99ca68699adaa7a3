"""Each request gets its person, or is sent to the sign-in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tasks.operations.sign_in import session_of
from tasks.services import Services
from worker.console.people import Person, Role
from worker.console.safety.refusals import refuse
from worker.console.safety.session_cookie import session_secret

SIGN_IN = "/sign-in"
_OPEN = ("/static/", SIGN_IN)

Identify = Callable[[HTTPConnection], Awaitable[Person | None]]


class KnownPeople:
    """Say who asks, on `request.state.person`; let nobody else reach a page.

    Somebody who is not known is sent to the sign-in, if there is one.
    """

    def __init__(self, app: ASGIApp, identify: Identify, *, has_sign_in: bool) -> None:
        self._app, self._identify, self._has_sign_in = app, identify, has_sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on with a person, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        if scope["path"].startswith(_OPEN):
            state["person"] = Person("", Role.VIEWER)
            await self._app(scope, receive, send)
            return
        person = await self._identify(HTTPConnection(scope))
        if person is not None:
            state["person"] = person
            await self._app(scope, receive, send)
        elif self._has_sign_in and scope["method"] in ("GET", "HEAD"):
            wanted = quote(scope["path"])
            await RedirectResponse(f"{SIGN_IN}?next={wanted}", HTTPStatus.SEE_OTHER)(scope, receive, send)
        else:
            await refuse(scope, receive, send, HTTPStatus.UNAUTHORIZED, "not_signed_in")


async def everybody_looks(_connection: HTTPConnection) -> Person:
    """Say that everybody is the same person, who may only look."""
    return Person("", Role.VIEWER)


def by_session(services: Services) -> Identify:
    """Return what knows people by their sessions."""

    async def identify(connection: HTTPConnection) -> Person | None:
        secret = session_secret(connection)
        if not secret:
            return None
        session = await run_in_threadpool(session_of, services, secret)
        return session and Person(session.name, Role(session.role))

    return identify
