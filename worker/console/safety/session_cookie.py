"""The cookie of a session: its secret, for this browser and this name only."""

from __future__ import annotations

from starlette.requests import HTTPConnection
from starlette.responses import Response

from tasks.operations.sign_in import SESSION_SECONDS
from worker.console.safety.request_checks import is_loopback

#: With the prefix browsers take it from this very name only, and only encrypted; loopback has no certificate.
_SAFE_NAME, _LOOPBACK_NAME = "__Host-onboard", "onboard_session"


def cookie_name(connection: HTTPConnection, purpose: str = "") -> str:
    """Return the name of the cookie for the name that was asked for."""
    return (_LOOPBACK_NAME if _is_near(connection) else _SAFE_NAME) + purpose


def session_secret(connection: HTTPConnection) -> str:
    """Return the secret of the session that a browser shows, or ""."""
    return connection.cookies.get(cookie_name(connection), "")


def give_cookie(
    response: Response, connection: HTTPConnection, value: str, *, purpose: str = "", seconds: float = SESSION_SECONDS
) -> None:
    """Give a browser a cookie."""
    response.set_cookie(
        cookie_name(connection, purpose),
        value,
        max_age=int(seconds),
        path="/",
        httponly=True,
        samesite="lax",
        secure=not _is_near(connection),
    )


def take_cookie(response: Response, connection: HTTPConnection, *, purpose: str = "") -> None:
    """Let a browser forget a cookie."""
    response.delete_cookie(
        cookie_name(connection, purpose),
        path="/",
        httponly=True,
        samesite="lax",
        secure=not _is_near(connection),
    )


def _is_near(connection: HTTPConnection) -> bool:
    return is_loopback(connection.headers.get("host", ""))
