"""Requests under way: one thread writes and reads them all, each on a connection of its own.

A thread for each request costs more than the request itself: most of its time goes into waking up and waiting for its
turn (docs/speed.md). Here nobody waits: a *flight* is told to the thread, leaves when its time has come, and whoever
began it is called when it has landed.

1. take in what is new: flights, and connections that were made meanwhile
2. let every flight leave whose time has come: on an idle connection, or on a new one once it is made
3. read what has arrived; a flight whose answer is whole lands
4. end what takes too long, wherever it hangs
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import selectors
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import httptools
import structlog

from tasks.errors import ElepayError, Fenced, NotSent, Unclear

log = structlog.get_logger("onboard")

#: An answer longer than this is not elepay's: a source is a few hundred bytes and a list a few hundred sources.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: How often overdue requests are looked for.
LATE_EVERY_SECONDS = 0.25
_CHUNK_BYTES = 64 * 1024
#: Connections that are made at the same time.
_CONNECTING = 32
_HEADERS = {
    name.encode(): name for name in ("content-encoding", "content-length", "date", "retry-after", "transfer-encoding")
}
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Deadlines(NamedTuple):
    """How long one request may take, in seconds."""

    connect: float
    read: float  #: longest silence
    total: float  #: everything, to the last byte of the answer


class Answer(NamedTuple):
    """An answer, whole."""

    status: int
    headers: dict[str, str]  #: those that somebody reads, names in lower case
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
    """One request. httptools calls the `on_` methods while its answer is read."""

    request: bytes  #: head and body
    #: Called once, by the thread of all flights, before the connection is released: it must not block. False: the
    #: connection must not be used again.
    completed: Callable[[Answer | ElepayError], bool | None]
    may_leave: Callable[[], bool] = lambda: True  #: asked just before each write
    leaves_at: float = 0.0  #: by the monotonic clock
    fresh: bool = False  #: leaves on a newly made connection, which is closed after it
    ends_at: float = 0.0
    moved_at: float = 0.0
    unsent: memoryview | None = None  #: None: nothing has left
    conn: _Conn | None = None
    over: bool = False
    status: int | None = None  #: once the head of its answer is whole
    headers: dict[str, str] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    answer: Answer | None = None  #: once it is complete
    reusable: bool = False  #: the connection may carry another request, as far as HTTP is concerned

    def on_message_begin(self) -> None:
        """Note surplus bytes: what follows a complete answer belongs to nobody, and does not change it."""
        if self.answer is not None:
            self.reusable = False
            self.headers, self.parts = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that somebody reads."""
        name = name.lower()
        if name in _HEADERS:
            self.headers[_HEADERS[name]] = value.decode("latin-1")

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self.parts.append(part)

    def on_headers_complete(self) -> None:
        """Note that the head is whole."""
        assert self.conn is not None, "it is read from there"
        assert self.conn.parser is not None, "it calls"
        self.status = self.conn.parser.get_status_code()

    def on_message_complete(self) -> None:
        """Keep the answer; but an interim answer (RFC 9110, 15.2) is not the answer."""
        if self.status is not None and self.status < 200:
            self.status = None
            self.headers.clear()
            self.parts.clear()
        elif self.answer is None:
            assert self.conn is not None, "it is read from there"
            assert self.conn.parser is not None, "it calls"
            self.reusable = self.conn.parser.should_keep_alive()
            self.complete()

    def complete(self) -> None:
        """Keep what was read as the answer."""
        assert self.status is not None, "the parser has read it"
        self.answer = Answer(self.status, self.headers, b"".join(self.parts))


class _Conn:
    """A connection and, while it is not idle, its flight."""

    __slots__ = ("connection", "epoch", "exchange", "parser", "sock", "unread", "waits_to_write")

    def __init__(self, connection: Connection, epoch: object) -> None:
        assert connection.sock is not None, "it was just made"
        self.connection, self.sock, self.epoch = connection, connection.sock, epoch
        self.unread: Callable[[], int] = getattr(self.sock, "pending", int)  # bytes that TLS has unpacked already
        self.exchange: Exchange | None = None
        self.parser: httptools.HttpResponseParser | None = None
        self.waits_to_write = False


class Transport(Protocol):
    """Carries requests to elepay and their answers back."""

    def start(self, *exchanges: Exchange) -> None:
        """Let requests leave when their times have come; each ends with one call of its `landed`."""

    def renew(self) -> None:
        """Let no connection that is open now carry another request."""

    @property
    def failed(self) -> bool:
        """True if nothing can leave any more, by a failure of this program."""

    def close(self) -> None:
        """Close every connection; what is under way ends as unclear."""


class HttpTransport:
    """The requests of one process; `start` may be called by any thread.

    `connect` returns an open connection or raises an ElepayError; it runs in threads of its own.
    """

    def __init__(self, connect: Callable[[], Connection], deadlines: Deadlines) -> None:
        self._connect, self._deadlines = connect, deadlines
        self._selector = selectors.DefaultSelector()
        self._awake, self._to_wake = socket.socketpair()
        self._awake.setblocking(False)
        self._to_wake.setblocking(False)
        self._selector.register(self._awake, selectors.EVENT_READ)
        self._new: deque[Exchange] = deque()
        self._made: deque[tuple[Exchange, Connection | ElepayError, object]] = deque()
        self._waiting: list[tuple[float, int, Exchange]] = []  # heap by `leaves_at`
        self._under_way: set[Exchange] = set()
        self._idle: list[_Conn] = []
        self._epoch = object()  # connections of an earlier epoch carry no further request
        self._numbers = itertools.count()
        self._late_at = 0.0
        self._closed = self._told_to_close = self._woken = False
        self._connectors = ThreadPoolExecutor(_CONNECTING, thread_name_prefix="connect")
        self._thread = threading.Thread(target=self._run, name="flights", daemon=True)
        self._thread.start()

    def start(self, *exchanges: Exchange) -> None:
        """Let them leave when their times have come."""
        self._new.extend(exchanges)
        self._wake()
        if self._closed:  # nobody may be left to see them
            self._take_in()
            self._give_up()

    def renew(self) -> None:
        """Let no connection that is open now carry another request; what is under way ends as it would.

        A request that is started after the return leaves on a connection that is made after the call.
        """
        self._epoch = object()
        self._wake()

    @property
    def failed(self) -> bool:
        """True if the thread has ended by a failure: nothing leaves any more."""
        return not self._thread.is_alive() and not self._told_to_close

    def close(self) -> None:
        """Close every connection; what is under way ends as unclear."""
        self._told_to_close = self._closed = True
        self._wake()
        self._thread.join(5)
        self._connectors.shutdown(wait=False, cancel_futures=True)

    def _wake(self) -> None:
        """Let the thread look at what is new; one byte is enough until it has begun to look."""
        if self._woken:
            return
        try:
            self._woken = True
            self._to_wake.send(b"\0")
        except OSError:  # closed: nobody is there
            pass
        except BaseException:  # Ctrl-C before the byte was sent: the next request must wake the thread
            self._woken = False
            raise

    # ------------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        except BaseException:
            log.exception("requests failed")
            raise
        finally:
            self._closed = True
            self._take_in()
            self._give_up()
            self._selector.close()
            self._awake.close()
            self._to_wake.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._awake.recv(4096)
                self._woken = False  # before it looks: what comes from now on wakes it again
            else:
                self._safely(self._move, key.data, key.data.exchange)
        self._take_in()
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            exchange = heapq.heappop(self._waiting)[2]
            self._safely(self._depart, exchange, exchange)
        if now >= self._late_at:
            self._late_at = now + LATE_EVERY_SECONDS
            self._end_late(now)

    def _patience(self) -> float | None:
        """Return how long to wait for something to happen, in seconds; None: as long as it takes."""
        if not self._waiting and not self._under_way:
            return None
        next_at = min(self._late_at, self._waiting[0][0]) if self._waiting else self._late_at
        return max(0.0, next_at - time.monotonic())

    def _take_in(self) -> None:
        while self._new:
            exchange = self._new.popleft()
            heapq.heappush(self._waiting, (exchange.leaves_at, next(self._numbers), exchange))
        while self._made:
            self._use(*self._made.popleft())
        while self._idle and self._idle[0].epoch is not self._epoch:  # the oldest come first
            self._drop(self._idle.pop(0))

    def _use(self, exchange: Exchange, made: Connection | ElepayError, epoch: object) -> None:
        """Let a flight leave on the connection that was made for it; keep the connection if the flight is over."""
        if isinstance(made, ElepayError):
            self._finish(exchange, made)
            return
        if self._closed:
            made.close()
            self._finish(exchange, NotSent("connection_failed"))
            return
        conn = _Conn(made, epoch)
        conn.sock.setblocking(False)
        self._selector.register(conn.sock, selectors.EVENT_READ, conn)
        if exchange.over:
            self._release(conn)
        elif epoch is self._epoch:
            conn.exchange = exchange
            self._safely(self._attach, conn, exchange)
        else:  # it was renewed meanwhile
            self._drop(conn)
            self._connectors.submit(self._make, exchange)

    def _safely(self, step: Callable[[Any], None], what: Exchange | _Conn, exchange: Exchange | None) -> None:
        """Let a failure of this program end one flight and not all of them."""
        try:
            step(what)
        except Exception as error:  # noqa: BLE001 - a bug must not leave a row without an outcome
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - its text may quote data
            if exchange is not None:
                if exchange.conn is not None:
                    self._drop(exchange.conn)
                self._finish(exchange, Unclear("internal_error"))

    def _depart(self, exchange: Exchange) -> None:
        exchange.moved_at = time.monotonic()
        exchange.ends_at = exchange.moved_at + self._deadlines.total
        self._under_way.add(exchange)
        while self._idle and not exchange.fresh:
            conn = self._idle.pop()
            if conn.epoch is self._epoch and conn.connection.is_connected:
                conn.exchange = exchange
                self._attach(conn)
                return
            self._drop(conn)
        self._connectors.submit(self._make, exchange)

    def _make(self, exchange: Exchange) -> None:
        """Make a connection, in a thread of its own."""
        epoch = self._epoch
        try:
            made: Connection | ElepayError = self._connect()
        except ElepayError as error:
            made = error
        except Exception as error:  # noqa: BLE001 - the door of a thread: nothing has left
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - may quote
            made = NotSent("connection_failed")
        self._made.append((exchange, made, epoch))
        self._wake()

    def _attach(self, conn: _Conn) -> None:
        assert conn.exchange is not None, "it was just given to it"
        conn.exchange.conn, conn.parser = conn, None
        self._write(conn.exchange, conn)

    def _write(self, exchange: Exchange, conn: _Conn) -> None:
        """Write what is left of the request, if it may leave."""
        if not exchange.may_leave():
            if exchange.unsent is None:
                self._release(conn)
                self._finish(exchange, Fenced("held_back"))
            else:
                self._break(exchange, conn)
            return
        if exchange.unsent is None:
            exchange.unsent = memoryview(exchange.request)
        try:
            exchange.unsent = exchange.unsent[conn.sock.send(exchange.unsent) :]
        except _NOT_NOW:
            pass
        except OSError:
            self._break(exchange, conn)
            return
        exchange.moved_at = time.monotonic()
        if bool(exchange.unsent) is not conn.waits_to_write:
            conn.waits_to_write = not conn.waits_to_write
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if conn.waits_to_write else 0)
            self._selector.modify(conn.sock, events, conn)

    def _move(self, conn: _Conn) -> None:
        """Something has happened on a line."""
        exchange = conn.exchange
        if exchange is None:  # the other side closes it, or says what nobody asked for
            if conn in self._idle:
                self._idle.remove(conn)
            self._drop(conn)
            return
        if exchange.unsent:
            self._write(exchange, conn)
        while not exchange.over:
            try:
                received = conn.sock.recv(_CHUNK_BYTES)
            except _NOT_NOW:
                return
            except OSError:
                self._break(exchange, conn)
                return
            self._read(exchange, conn, received)
            if not conn.unread():  # no selector reports them
                return

    def _read(self, exchange: Exchange, conn: _Conn, received: bytes) -> None:
        exchange.moved_at = time.monotonic()
        exchange.size += len(received)
        try:
            if received:
                conn.parser = conn.parser or httptools.HttpResponseParser(exchange)
                conn.parser.feed_data(received)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            exchange.reusable = False
            if exchange.answer is None:  # else the fault is in what follows the answer
                self._break(exchange, conn)
                return
        if not received:
            framed = exchange.headers.keys() & {"content-length", "transfer-encoding"}
            if exchange.status is None or framed:
                self._break(exchange, conn)
                return
            exchange.complete()  # the end of the connection is the end of the answer (RFC 9112, 6.3)
        if exchange.size > MAX_ANSWER_BYTES:
            self._break(exchange, conn, late=True)
        elif exchange.answer is not None:
            self._complete(exchange, conn, exchange.answer)

    # ------------------------------------------------------------------ how it ends

    def _complete(self, exchange: Exchange, conn: _Conn, answer: Answer) -> None:
        """Hand over an answer; whoever reads it says whether its connection can be trusted with another request."""
        trusted = self._finish(exchange, answer)
        if trusted and exchange.reusable and not (exchange.fresh or exchange.unsent or conn.unread()):
            self._release(conn)
        else:
            self._drop(conn)

    def _release(self, conn: _Conn) -> None:
        conn.exchange = conn.parser = None
        if conn.epoch is self._epoch:
            self._idle.append(conn)
        else:
            self._drop(conn)

    def _drop(self, conn: _Conn) -> None:
        conn.exchange = None
        with contextlib.suppress(KeyError, ValueError, OSError):
            self._selector.unregister(conn.sock)
        with contextlib.suppress(OSError):
            conn.connection.close()

    def _break(self, exchange: Exchange, conn: _Conn, *, late: bool = False) -> None:
        """End a flight that has left, without knowing what became of it."""
        self._drop(conn)
        status = exchange.status
        self._finish(
            exchange,
            Unclear("read_timeout", http_status=status) if late else Unclear("connection_reset", http_status=status),
        )

    def _finish(self, exchange: Exchange, result: Answer | ElepayError) -> bool:
        """End a flight; return whether its connection may be used again."""
        self._under_way.discard(exchange)
        if exchange.over:
            return False
        exchange.over, exchange.conn = True, None
        try:
            return exchange.completed(result) is not False
        except Exception as error:  # noqa: BLE001 - as in `_safely`
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - as there
            return False

    def _end_late(self, now: float) -> None:
        """End what takes too long: timeouts of sockets start anew with every byte, and a row's lease relies on this."""
        for exchange in [one for one in self._under_way if now > min(one.ends_at, one.moved_at + self._deadlines.read)]:
            if exchange.conn is not None:
                self._break(exchange, exchange.conn, late=True)
            elif now > exchange.ends_at:
                self._finish(exchange, NotSent("connect_timeout"))

    def _give_up(self) -> None:
        for exchange in list(self._under_way):
            if exchange.conn is not None:
                self._break(exchange, exchange.conn)
            else:
                self._finish(exchange, NotSent("connection_failed"))
        while self._waiting:
            self._finish(heapq.heappop(self._waiting)[2], NotSent("connection_failed"))
        while self._idle:
            self._drop(self._idle.pop())
