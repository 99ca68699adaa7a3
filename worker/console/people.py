"""Who somebody is, and what they may do."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response


class Role(StrEnum):
    """What somebody may do; each role includes those before it."""

    VIEWER = "viewer"  #: look, with personal data masked
    OPERATOR = "operator"  #: pause, cancel, retry, upload
    APPROVER = "approver"  #: approve, decide about unclear rows


_ORDER = list(Role)
#: So many fields a form may have, and so long each may be.
_MOST_FIELDS, _FIELD_BYTES = 1000, 1 << 16


@dataclass(frozen=True)
class Person:
    """Somebody who uses the console."""

    name: str  #: as the ledger's history knows them
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether they may do what needs a role."""
        return _ORDER.index(self.role) >= _ORDER.index(role)


class NotAllowed(Exception):
    """Somebody wants to do what their role does not include."""

    def __init__(self, needed: Role) -> None:
        super().__init__(needed)
        self.needed = needed


def require(request: Request, role: Role) -> None:
    """Raise NotAllowed unless whoever asks has a role."""
    if not request.state.person.may(role):
        raise NotAllowed(role)


Deed = Callable[[Request, FormData], Response]


def needs(role: Role) -> Callable[[Deed], Callable[[Request], Awaitable[Response]]]:
    """Make an endpoint of what somebody does by a form; it runs in a thread. Raises NotAllowed before it reads it."""

    def endpoint_of(deed: Deed) -> Callable[[Request], Awaitable[Response]]:
        @functools.wraps(deed)
        async def endpoint(request: Request) -> Response:
            require(request, role)
            async with request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES) as form:
                return await run_in_threadpool(deed, request, form)

        return endpoint

    return endpoint_of
