"""The ASGI application: reads requests, lets the faults strike, answers. The fast path is plain ASGI and orjson."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from simulator.answers import Answer
from simulator.operations import Elepay, Outcome, Request, operation_of
from simulator.profile import Profile
from simulator.validation import MAX_BODY_BYTES

#: Where the server leaves the transport and the time of arrival for us, among the scope's extensions.
CONNECTION = "simulator.connection"
#: How the statistics call a request that got no answer.
NO_ANSWER = "none"

_DRIPS = 10
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
        connection = scope["extensions"][CONNECTION]
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
            await _answer(send, outcome.answer)
        else:
            await _Strike(elepay, connection.transport, receive, send).carry_out(outcome)


class _Strike:
    """How a fault looks to the one who called."""

    def __init__(self, elepay: Elepay, transport: asyncio.Transport, receive: Receive, send: Send) -> None:
        self._elepay = elepay
        self._transport = transport
        self._receive = receive
        self._send = send

    async def carry_out(self, outcome: Outcome) -> None:
        """Count the fault, then answer, or not."""
        fault, profile = outcome.strike.fault or "", self._elepay.profile
        self._elepay.tally.faults[fault] += 1
        answer = outcome.answer
        match fault:
            case "drop_before_commit" | "commit_then_drop_connection":
                await self._drop(reset=outcome.strike.spare < 0.5)
                return
            case "hang_before_commit":
                await self._gone_after(profile.hang_seconds)
                await self._drop(reset=True)
                return
            case "commit_then_hang":
                if await self._gone_after(profile.hang_seconds):
                    self._count(NO_ANSWER)
                    return
            case "late_commit":
                await asyncio.sleep(profile.late_commit_seconds)
                answer = outcome.late() if outcome.late else answer
            case "malformed_201":
                await self._malformed(answer, outcome.strike.spare)
                return
            case "slow_drip":
                await self._drip(answer, profile.drip_seconds)
                return
        self._count(answer.label)
        await _answer(self._send, answer)

    def _count(self, label: str) -> None:
        self._elepay.tally.answers[label] += 1

    async def _gone_after(self, seconds: float) -> bool:
        """Wait, and return True as soon as the caller has gone away."""
        try:
            async with asyncio.timeout(seconds):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True

    async def _drop(self, *, reset: bool, count: bool = True) -> None:
        """Close the connection without a further byte, by a reset or in order."""
        if count:
            self._count(NO_ANSWER)
        if reset:
            self._transport.abort()
        else:
            self._transport.close()
        await self._gone_after(1.0)

    async def _malformed(self, answer: Answer, spare: float) -> None:
        """Answer with a body that is cut, that is no JSON, or that ends before its own length."""
        self._count(answer.label)
        if spare < 1 / 3:
            await _answer(self._send, answer._replace(body=answer.body[: len(answer.body) // 2]))
        elif spare < 2 / 3:
            await _answer(self._send, answer._replace(body=b"<html><body>Created</body></html>"))
        else:
            await _start(self._send, answer)
            half = answer.body[: len(answer.body) // 2]
            await self._send({"type": "http.response.body", "body": half, "more_body": True})
            await self._drop(reset=False, count=False)

    async def _drip(self, answer: Answer, seconds: float) -> None:
        """Answer in ten pieces; stop when the caller has gone away."""
        self._count(answer.label)
        await _start(self._send, answer)
        piece = -(-len(answer.body) // _DRIPS)
        for start in range(0, len(answer.body), piece):
            if await self._gone_after(seconds / _DRIPS):
                return
            more = start + piece < len(answer.body)
            part = answer.body[start : start + piece]
            await self._send({"type": "http.response.body", "body": part, "more_body": more})


async def _answer(send: Send, answer: Answer) -> None:
    await _start(send, answer)
    await send({"type": "http.response.body", "body": answer.body})


async def _start(send: Send, answer: Answer) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    ]
    if answer.status == 204:
        headers = []
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})


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
