"""Whatever a page raises becomes a sentence; what it says itself may quote a row, and is neither shown nor logged."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.console.page_texts import texts_of
from worker.console.safety.refusals import sorry
from worker.failures import failure_of

log = structlog.get_logger("onboard")


class CaughtFailures:
    """Let no exception reach the server, which would log all of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on; answer with a sentence if that fails before an answer has begun."""
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except Exception as error:  # noqa: BLE001 - the door of the console
            failure = failure_of(error)
            log.error("page failed", path=scope.get("path", ""), error=failure.code)  # noqa: TRY400 - without its text
            if has_begun:
                raise ConnectionAbortedError from None  # the answer is broken off, and the browser notices
            request = Request(scope)
            sentence = failure.message.in_language(texts_of(request).lang)
            response = sorry(request, HTTPStatus.INTERNAL_SERVER_ERROR, sentence)
            await response(scope, receive, send)
