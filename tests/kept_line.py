"""One kept connection to the simulator, read byte by byte: no client library repairs or hides anything."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from factories import KEY, Simulator


class Heard(NamedTuple):
    """One answer."""

    status: int
    version: str
    headers: dict[str, str]
    body: bytes
    raw: bytes

    @property
    def source(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content


class Line:
    """One kept connection to the simulator."""

    def __init__(self, simulator: Simulator) -> None:
        self._socket = socket.create_connection(("127.0.0.1", int(simulator.url.rpartition(":")[2])), timeout=5)
        self._held = b""

    def close(self) -> None:
        self._socket.close()

    def create(self, customer: str, reference: str = "r1", method: str = "creditcard", **headers: str) -> Heard:
        self.ask_create(customer, reference, method, **headers)
        return self.hear()

    def ask_create(self, customer: str, reference: str = "r1", method: str = "creditcard", **headers: str) -> None:
        fields = {"paymentMethod": method, "resource": "web", "metadata": {"onboarding_ref": reference}}
        self.ask("POST", f"/customers/{customer}/sources", json.dumps(fields).encode(), **headers)

    def list(self, customer: str, query: str = "") -> dict[str, Any]:
        heard = self.get(f"/customers/{customer}/sources{query}")
        assert heard.status == 200
        return heard.source

    def get(self, path: str) -> Heard:
        self.ask("GET", path)
        return self.hear()

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "host: elepay", f"authorization: Bearer {KEY}", "accept-language: en"]
        lines += [f"content-length: {len(body)}", "content-type: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def hear(self) -> Heard:
        while b"\r\n\r\n" not in self._held:
            self._receive()
        head = self._held.partition(b"\r\n\r\n")[0].decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        ends = len(head) + 4 + int(headers.get("content-length", 0))
        while len(self._held) < ends:
            self._receive()
        raw, self._held = self._held[:ends], self._held[ends:]
        version, status = first.split(" ")[:2]
        return Heard(int(status), version, headers, raw[len(head) + 4 :], raw)

    def more(self, seconds: float = 0.2) -> bytes:
        """Return what comes within so many seconds without having been asked for."""
        self._socket.settimeout(seconds)
        try:
            while True:
                self._receive()
        except TimeoutError:
            held, self._held = self._held, b""
            return held
        finally:
            self._socket.settimeout(5)

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the simulator")
        self._held += data
