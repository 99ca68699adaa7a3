"""One request and its answer: the bytes that leave, and what the bytes that arrive say; no sockets, no threads."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import httptools

from tasks.errors import ElepayError

#: A longer answer is not elepay's: a source is a few hundred bytes, the list of all payment methods some thousand ...
MAX_ANSWER_BYTES = 512 * 1024
#: ... and a list of sources a few hundred sources.
MAX_LIST_BYTES = 8 * 1024 * 1024

_HEADERS = {
    name.encode(): name for name in ("content-encoding", "content-length", "date", "retry-after", "transfer-encoding")
}


class Deadlines(NamedTuple):
    """How long one request may take, in seconds."""

    connect: float
    read: float  #: longest silence
    total: float  #: everything, to the last byte of the answer


class Answer(NamedTuple):
    """A complete answer."""

    status: int
    headers: dict[str, str]  #: those that are read anywhere, names in lower case
    content: bytes


class Connection(Protocol):
    """An open connection (urllib3's)."""

    sock: socket.socket | None

    @property
    def is_connected(self) -> bool:
        """False once the other side has closed it."""

    def close(self) -> None:
        """Close it."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One request and its answer. httptools calls the `on_` methods while the answer is read."""

    request: bytes  #: head and body
    #: Called once, by the thread that all exchanges share, before the connection is released: it must not block.
    #: False: the connection must not be used again.
    completed: Callable[[Answer | ElepayError], bool | None]
    may_leave: Callable[[], bool] = lambda: True  #: asked just before each write
    leaves_at: float = 0.0  #: by the monotonic clock
    fresh: bool = False  #: leaves on a newly made connection, which is closed after it
    most_bytes: int = MAX_ANSWER_BYTES  #: its answer, head and all, is no longer
    ends_at: float = 0.0
    moved_at: float = 0.0
    unsent: memoryview | None = None  #: None: nothing has left
    parser: httptools.HttpResponseParser | None = None
    over: bool = False
    status: int | None = None  #: once the head of its answer is complete
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    answer: Answer | None = None  #: once it is complete
    reusable: bool = False  #: the connection may carry another request, as far as HTTP is concerned

    def on_message_begin(self) -> None:
        """Note surplus bytes: what follows a complete answer belongs to no request, and does not change it."""
        if self.answer is not None:
            self.reusable = False
            self.headers, self.parts = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that is read anywhere."""
        name = name.lower()
        if name in _HEADERS:
            self.headers[_HEADERS[name]] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self.parts.append(part)

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        assert self.parser is not None, "it calls"
        self.status = self.parser.get_status_code()

    def on_message_complete(self) -> None:
        """Keep the answer; but an interim answer (RFC 9110, 15.2) is not the answer."""
        if self.status is not None and self.status < 200:
            self.status = None
            self.headers.clear()
            self.parts.clear()
        elif self.answer is None:
            assert self.parser is not None, "it calls"
            self.reusable = self.parser.should_keep_alive()
            self._keep_answer()

    def end(self) -> None:
        """Let nothing more happen to it; the parser and this object hold each other."""
        self.over, self.parser = True, None

    def read(self, received: bytes) -> bool:
        """Read what has arrived (nothing: the connection has ended); return False if that is no answer."""
        self.size += len(received)
        if received:
            return self._parse(received)
        framed = self.headers.keys() & {"content-length", "transfer-encoding"}
        if self.status is None or self.status < 200 or framed:
            return False
        self._keep_answer()  # the end of the connection is the end of the answer (RFC 9112, 6.3)
        return True

    def _parse(self, received: bytes) -> bool:
        try:
            self.parser = self.parser or httptools.HttpResponseParser(self)
            self.parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.reusable = False
            return self.answer is not None  # then the fault is in what follows the answer
        return True

    def _keep_answer(self) -> None:
        """Keep what was read as the answer."""
        assert self.status is not None, "the parser has read it"
        self.answer = Answer(self.status, self.headers, b"".join(self.parts))
