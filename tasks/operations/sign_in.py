"""Somebody signs in to the console, is known there for hours, and signs out, here or everywhere.

A session's secret is random and new at each sign-in; the ledger keeps its digest only.
"""

from __future__ import annotations

import hashlib
import secrets

from tasks.ledger import Session
from tasks.operations.four_eyes import person_key
from tasks.services import Services

__all__ = ["SESSION_SECONDS", "Session", "session_of", "sign_in", "sign_out", "sign_out_everywhere"]

SESSION_SECONDS = 12 * 3600.0


def sign_in(services: Services, name: str, role: str, *, way: str) -> str:
    """Begin a session, and return its secret, which nobody else gets to know; `way` is how they proved who they are."""
    secret = secrets.token_urlsafe(32)
    services.ledger.sessions.begin(_digest(secret), name, person_key(name), role, seconds=SESSION_SECONDS, way=way)
    return secret


def session_of(services: Services, secret: str) -> Session | None:
    """Return the session with this secret, unless it is over or was ended."""
    return services.ledger.sessions.find(_digest(secret))


def sign_out(services: Services, secret: str, *, who: str) -> None:
    """End one session."""
    services.ledger.sessions.end(_digest(secret), who)


def sign_out_everywhere(services: Services, name: str, *, who: str) -> int:
    """End every session of a person; return how many."""
    return services.ledger.sessions.end_all(person_key(name), who)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
