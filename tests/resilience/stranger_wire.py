"""What the stranger hears and says: requests, answers, faults, and the sources that it has."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

JSON = "application/json;charset=utf-8"
SIGN_IN_PAGE = "<!DOCTYPE html><html><title>Sign in</title><body><form>Guest network</form></body></html>"
REASONS = {200: "OK", 201: "Created", 303: "See Other", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}


@dataclass(frozen=True)
class Fault:
    """One kind of misbehaviour: what it does, how often, to which requests, and whether a create is executed.

    Kinds of answers to creates: `repeat` (the honest one, and the same bytes once more), `earlier` (an earlier source
    instead of the row's own), `earlier error` (an error body that another create got), `error` (an error of elepay's
    own), `status` (a bare status or a page), `close` (none, the connection closes), `http/1.0` (an HTTP/1.0 answer on a
    connection that stays open), `surplus` (the honest one with more bytes behind it). With `delay_seconds`, `error` and
    `http/1.0` are repeated, too.
    """

    kind: str
    share: float = 1.0
    on: str = "creates"  #: `creates`, `lists` or `everything`
    executed: bool = True
    status: int = 0
    body: str = ""
    content_type: str = "text/html"
    headers: tuple[tuple[str, str], ...] = ()
    code: str = "M005000"  #: of `error`
    delay_seconds: float = 0.0  #: from the answer to its repetition, if there is one
    late_seconds: float = 0.0  #: from the answer to the execution
    only_id: bool = False  #: of `earlier`: the row's own body with another id
    undelivered: bool = False  #: of `earlier`: also a source whose own answer never came back
    same_connection: bool = False  #: of `earlier error`: only what this connection has carried
    reset: bool = False  #: of `close`: a reset, not an orderly end
    times: int = 1_000_000  #: at most so many strikes on one reference

    def strikes(self, request: Request) -> bool:
        """Return whether requests of this sort are meant at all."""
        return self.on == "everything" or (self.on == "creates") == request.is_create


@dataclass(frozen=True)
class Source:
    """A source that was really made."""

    number: int  #: sources are numbered as they are made
    source_id: str
    customer: str
    method: str
    resource: str
    reference: str
    metadata: dict[str, str]
    description: str | None
    made_at: float

    def body(self, *, metadata: bool = True, customer: bool = True) -> dict[str, Any]:
        """Return the source as an answer shows it."""
        found: dict[str, Any] = {
            "id": self.source_id,
            "object": "source",
            "liveMode": False,
            "paymentMethod": self.method,
            "resource": self.resource,
            "status": "pending",
            "extra": {},
            "credential": f"credential of {self.source_id}",
        }
        if customer:
            found["customerId"] = self.customer
        if metadata:
            found["metadata"] = self.metadata
            found["description"] = self.description
        return found


@dataclass(frozen=True)
class Request:
    """One request as it was read from its connection."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def parts(self) -> list[str]:
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def is_create(self) -> bool:
        return self.method == "POST" and len(self.parts) == 3 and self.parts[::2] == ["customers", "sources"]

    @property
    def reference(self) -> str:
        metadata = self.body.get("metadata") or {}
        return str(metadata.get("onboarding_ref", ""))


@dataclass
class Answer:
    """What goes back for one request."""

    status: int
    body: str = ""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    version: str = "1.1"

    @classmethod
    def of(cls, status: int, content: object) -> Answer:
        return cls(status, json.dumps(content, ensure_ascii=False))

    def to_bytes(self) -> bytes:
        body = self.body.encode()
        lines = [
            f"HTTP/{self.version} {self.status} {REASONS.get(self.status, 'Status')}",
            f"Content-Length: {len(body)}",
            *([f"Content-Type: {self.content_type}"] if body else []),
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Connection:
    """One kept-alive connection and the error bodies that it has carried."""

    socket: socket.socket
    errors: list[str] = field(default_factory=list)


class Closed(Exception):
    """The connection is to be closed now."""


METHODS = [
    {
        "paymentMethod": method,
        "resources": ["ios", "android", "web"],
        "channelProperties": {"isSupportSource": True, "isSupportMultipleSource": True},
    }
    for method in ("creditcard", "paypay")
]


def operation_of(request: Request) -> str:
    if request.is_create:
        return "create"
    return "list" if request.parts[-1] == "sources" else request.parts[-1]


def read_request(stream: BinaryIO) -> Request | None:
    """Read the next request; None at the end of the connection."""
    line = stream.readline(65_536)
    if not line.strip():
        return None
    method, target, _ = line.decode("ascii").split()
    at = time.monotonic()
    headers: dict[str, str] = {}
    while (line := stream.readline(65_536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    address = urlsplit(target)
    return Request(method, address.path, parse_qs(address.query), headers, json.loads(body) if body else {}, at)
