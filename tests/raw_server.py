"""Servers of raw bytes: they answer what no server should."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import unquote

Answer = bytes | Callable[[socket.socket], None]


class Listener:
    """A socket on the loopback that counts who connects, and closes each connection at once."""

    def __init__(self) -> None:
        self.connections = 0
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.close()


class RawServer(Listener):
    """A server that answers each request with exactly these bytes, or does to the connection what it is told."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        super().__init__()

    @property
    def heads(self) -> list[dict[str, str]]:
        """The headers of each request, names in lower case; "" is the request line."""
        heads = []
        for request in self.requests:
            first, *lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
            named = (line.partition(":") for line in lines)
            heads.append({"": first, **{name.lower(): value.strip() for name, _, value in named}})
        return heads

    def body(self, at: int = -1) -> Any:
        """The JSON body of a request."""
        return json.loads(self.requests[at].partition(b"\r\n\r\n")[2])

    def _serve(self, connection: socket.socket) -> None:
        with closing(connection), suppress(OSError):
            while (request := read_request(connection)) is not None:
                self.requests.append(request)
                if callable(self.answer):
                    self.answer(connection)
                    return
                connection.sendall(self.answer)
                if b"connection: close" in self.answer.lower():
                    return


def read_request(connection: socket.socket) -> bytes | None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return None
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
        0,
    )
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            return None
        body += part
    return head + b"\r\n\r\n" + body


def http(status: int, content: object = b"", *headers: str, length: int | None = None) -> bytes:
    """The bytes of an answer."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def source_of(**fields: Any) -> dict[str, Any]:
    return {"id": "src_1", "liveMode": False, "paymentMethod": "creditcard", "status": "pending", **fields}


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    number: int  #: 0 is the first of the server
    connection: int  #: 0 is the first of the server
    request: bytes

    @property
    def customer(self) -> str:
        return unquote(self.request.split(b" ", 2)[1].decode().split("/")[2].partition("?")[0])

    @property
    def body(self) -> Any:
        return json.loads(self.request.partition(b"\r\n\r\n")[2])


class Scripted(RawServer):
    """A server that keeps connections open and answers each request by a function: bytes, and pauses in seconds."""

    def __init__(self, reply: Callable[[Asked], list[bytes | float]]) -> None:
        self.reply = reply
        self.asked: list[Asked] = []
        self.closed_by_client = 0
        super().__init__(b"")

    def _serve(self, connection: socket.socket) -> None:
        number = self.connections - 1
        with closing(connection), suppress(OSError):
            try:
                while (request := read_request(connection)) is not None:
                    self.asked.append(Asked(len(self.asked), number, request))
                    for part in self.reply(self.asked[-1]):
                        if isinstance(part, bytes):
                            connection.sendall(part)
                        else:
                            time.sleep(part)
            finally:
                self.closed_by_client += 1

    @property
    def lines(self) -> list[int]:
        """Which connection each request came on."""
        return [one.connection for one in self.asked]


def created(asked: Asked, status: int = 201, **fields: Any) -> bytes:
    """A create's answer that names its request; a field that is None is left out."""
    source = source_of(
        **{
            "id": f"src_{asked.number}",
            "customerId": asked.customer,
            "paymentMethod": asked.body["paymentMethod"],
            "metadata": asked.body["metadata"],
            **fields,
        }
    )
    return http(status, {name: value for name, value in source.items() if value is not None})
