"""How much may be sent, and how slowly."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.console.safety.refusals import RequestRefused, refuse

FORM_BYTES = 1 << 20
#: A body must be whole after this; one of a file must also not pause for longer than a form may take.
FORM_SECONDS, FILE_SECONDS = 30.0, 1200.0
#: Files that are sent at the same time: each lies on the disk until it is checked.
FILES_AT_ONCE = 4
#: What is read of a body that nobody wants any more: no more than this, for no longer, and not after such a pause.
_UNWANTED_BYTES, _UNWANTED_SECONDS, _PAUSE_SECONDS = 16 << 20, 10.0, 1.0


class AnsweredAtTheEnd:
    """Read the rest of a body, if it is not long, before its request is answered.

    Whoever still sends when the connection ends sees no answer: a browser says that the connection was reset, nginx
    that the gateway is bad.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on, and answer when the body has come to its end."""
        ended = scope["type"] != "http" or scope["method"] in ("GET", "HEAD")

        async def receive_on() -> Message:
            nonlocal ended
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        async def send_at_the_end(message: Message) -> None:
            if message["type"] == "http.response.start" and not ended:
                await _discard(receive_on)
            await send(message)

        await self._app(scope, receive_on, send_at_the_end)


async def _discard(receive: Receive) -> None:
    left = _UNWANTED_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_UNWANTED_SECONDS):
            while left > 0:
                message = await asyncio.wait_for(receive(), _PAUSE_SECONDS)
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


class BoundedBodies:
    """Read no more of a body than it may have, and wait for it no longer than it may take.

    Files come to one address only; every other body is a form.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        file_path: str,
        file_bytes: int,
        form_seconds: float = FORM_SECONDS,
        file_seconds: float = FILE_SECONDS,
    ) -> None:
        self._app, self._file_path, self._file_bytes = app, file_path, file_bytes
        self._form_seconds, self._file_seconds = form_seconds, file_seconds
        self._files = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Go on with a bounded body, or refuse."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_file = scope["path"] == self._file_path
        most = self._file_bytes if is_file else FORM_BYTES
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await refuse(scope, receive, send, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_much_sent")
        elif is_file and self._files >= FILES_AT_ONCE:
            await refuse(scope, receive, send, HTTPStatus.SERVICE_UNAVAILABLE, "too_many_files_sent")
        else:
            self._files += is_file
            try:
                await self._app(scope, self._bounded(receive, most, is_file=is_file), send)
            finally:
                self._files -= is_file

    def _bounded(self, receive: Receive, most: int, *, is_file: bool) -> Receive:
        left = most
        ended = False
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + (self._file_seconds if is_file else self._form_seconds)

        async def receive_bounded() -> Message:
            nonlocal left, ended
            if ended:  # what follows a body is the end of the connection, for which a long answer waits
                return await receive()
            try:
                async with asyncio.timeout(min(self._form_seconds, ends_at - loop.time())):
                    message = await receive()
            except TimeoutError:
                raise RequestRefused(HTTPStatus.REQUEST_TIMEOUT, "sent_too_slowly") from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_much_sent")
            ended = not message.get("more_body", False)
            return message

        return receive_bounded
