"""The ASGI application: reads requests, lets the faults strike, answers. The fast path is plain ASGI and orjson."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from simulator.operations import Elepay
from simulator.profile import Profile
from simulator.routing import Request, operation_of
from simulator.strikes import carry_out
from simulator.validation import MAX_BODY_BYTES
from simulator.wire import CONNECTION, Connection, send_answer

_HEADERS = (b"authorization", b"content-type", b"accept-language")


class Api:
    """elepay and its control room behind one ASGI callable.

    `control` answers everything below `/_sim/`; what it does to `elepay` is seen by the next request.
    """

    def __init__(self, profile: Profile, seed: int) -> None:
        self.elepay = Elepay(profile, seed)
        self.control: ASGIApp | None = None
        self._epoch = time.time() - time.monotonic()

    def reset(self, profile: Profile, seed: int) -> None:
        """Forget every source and every count, and begin again."""
        self.elepay = Elepay(profile, seed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        raw_path: bytes = scope["raw_path"]
        if self.control is not None and raw_path.startswith(b"/_sim/"):
            await self.control(scope, receive, send)
            return
        connection: Connection = scope["extensions"][CONNECTION]
        operation, customer_id, source_id = operation_of(scope["method"], raw_path)
        elepay = self.elepay
        elepay.tally.arrived(operation, self._epoch + connection.arrived_at)
        body = await _read_body(receive) if operation == "createSource" else b""
        if body is None:
            return
        authorization, content_type, language = _wanted_headers(scope["headers"])
        outcome = elepay.handle(
            Request(
                operation,
                customer_id,
                source_id,
                scope["query_string"],
                authorization,
                content_type,
                language,
                body,
            )
        )
        profile = elepay.profile
        delay_ms = profile.latency_ms + profile.jitter_ms * outcome.strike.jitter
        if delay_ms:
            await asyncio.sleep(delay_ms / 1000)
        if outcome.strike.fault is None:
            elepay.tally.answers[outcome.answer.label] += 1
            await send_answer(send, outcome.answer)
        else:
            await carry_out(outcome, elepay, connection, receive, send)
        if operation == "createSource" and connection.cycle is not None and connection.cycle.response_complete:
            elepay.answered(customer_id, outcome)
        connection.cycle = None  # it leads back to this scope: without that, each request waits for the collector


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, or None if the caller went away; what is too long to be accepted is not kept."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        if len(body) <= MAX_BODY_BYTES:
            body += message.get("body", b"")
    return None if message["type"] == "http.disconnect" else body


def _wanted_headers(headers: Any) -> tuple[bytes, bytes, bytes]:
    found = {name: value for name, value in headers if name in _HEADERS}
    return found.get(b"authorization", b""), found.get(b"content-type", b""), found.get(b"accept-language", b"")
