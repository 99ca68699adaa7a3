"""How much may be sent, and how slowly."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.console.safety.refusals import RequestRefused, refuse

FORM_BYTES = 1 << 20
#: A body must be whole after this; one of a file must also not pause for longer than a form may take.
FORM_SECONDS, FILE_SECONDS = 30.0, 1200.0
#: Files that are sent at the same time: each lies on the disk until it is checked.
FILES_AT_ONCE = 4


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
