"""Everybody is the same person, who may only look."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from worker.console.people import Person, Role


class EverybodyLooks:
    """Let whoever asks look, and do nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the person, and go on."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["person"] = Person("", Role.VIEWER)
        await self._app(scope, receive, send)
