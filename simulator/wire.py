"""How answers get onto a connection, and bytes that do not belong there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol, cast

from starlette.types import Send

from simulator.answers import Answer

#: Where the server leaves the `Connection` of a request, among the scope's extensions.
CONNECTION = "simulator.connection"

_VERSION = b"HTTP/1.1 "
_OLD_VERSION = b"HTTP/1.0 "
_WITHOUT_BODY = frozenset({204, 304})
#: How soon bytes that would cut an answer in two are tried again.
_NEXT_TRY_SECONDS = 0.02


class Cycle(Protocol):
    """What uvicorn knows of one request and its answer, as far as faults need it."""

    transport: asyncio.Transport
    response_started: bool
    response_complete: bool


class _Serving(Protocol):
    cycle: Cycle


@dataclass(slots=True)
class Connection:
    """What a fault needs to know of the connection under a request."""

    transport: asyncio.Transport
    arrived_at: float  #: seconds of the monotonic clock
    cycle: Cycle | None = None


class Recorder:
    """A transport for one answer: keeps what is written, and says HTTP/1.0 if wanted."""

    def __init__(self, connection: Connection, *, old_version: bool = False) -> None:
        self.written = b""
        self._transport = connection.transport
        self._old_version = old_version
        if connection.cycle is not None:
            connection.cycle.transport = cast("asyncio.Transport", self)

    def write(self, data: bytes) -> None:
        """Write, and keep what was written."""
        if self._old_version and not self.written:
            data = data.replace(_VERSION, _OLD_VERSION, 1)
        self.written += data
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return True once the connection is being closed."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close the connection in order."""
        self._transport.close()


async def send_answer(send: Send, answer: Answer) -> None:
    """Send an answer."""
    await start_answer(send, answer)
    await send({"type": "http.response.body", "body": answer.body})


async def start_answer(send: Send, answer: Answer) -> None:
    """Send the status and the headers of an answer."""
    headers: list[tuple[bytes, bytes]] = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    ]
    if answer.status in _WITHOUT_BODY:
        headers = [*answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})


def write_surplus(transport: asyncio.Transport, data: bytes) -> None:
    """Write bytes that belong to no answer; later if an answer is under way, and never if the connection is gone."""
    if transport.is_closing():
        return
    cycle = cast("_Serving", transport.get_protocol()).cycle
    if cycle.response_started and not cycle.response_complete:
        write_surplus_later(transport, data, _NEXT_TRY_SECONDS)
    else:
        transport.write(data)


def write_surplus_later(transport: asyncio.Transport, data: bytes, seconds: float) -> None:
    """Write bytes that belong to no answer so many seconds from now, without keeping anybody waiting."""
    asyncio.get_running_loop().call_later(seconds, write_surplus, transport, data)
