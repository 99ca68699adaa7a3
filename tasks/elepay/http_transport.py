"""Requests in flight: one thread writes and reads them all, each on a connection of its own.

A thread for each request costs more than the request itself: most of its time goes into waking up and waiting for its
turn (docs/engineering/speed.md). Here no caller waits: an *exchange* (a request and its answer) is handed to the
thread, leaves when its time has come, and its `completed` is called with the answer.

1. take over what is new: exchanges, and connections that were made meanwhile
2. let every exchange leave whose time has come: on an idle connection, or on a new one once it is made
3. read what has arrived; an exchange whose answer is complete ends
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
from typing import Any, Protocol

import structlog

from tasks.elepay.exchange import Answer, Connection, Deadlines, Exchange
from tasks.errors import ElepayError, Fenced, NotSent, Unclear

__all__ = ["Answer", "Connection", "Deadlines", "Exchange", "HttpTransport", "Transport"]

log = structlog.get_logger("onboard")

#: How often overdue requests are looked for.
LATE_EVERY_SECONDS = 0.25
_CHUNK_BYTES = 64 * 1024
#: Connections that are made at the same time.
_CONNECTING = 32
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Conn:
    """A connection and, while it is not idle, its exchange."""

    __slots__ = ("connection", "epoch", "exchange", "sock", "unread", "waits_to_write")

    def __init__(self, connection: Connection, epoch: object) -> None:
        assert connection.sock is not None, "it was just made"
        self.connection, self.sock, self.epoch = connection, connection.sock, epoch
        self.unread: Callable[[], int] = getattr(self.sock, "pending", int)  # bytes that TLS has unpacked already
        self.exchange: Exchange | None = None
        self.waits_to_write = False


class Transport(Protocol):
    """Carries requests to elepay and their answers back."""

    def start(self, *exchanges: Exchange) -> None:
        """Let requests leave when their times have come; each ends with one call of its `completed`."""

    def renew(self) -> None:
        """Let no connection that is open now carry another request."""

    @property
    def failed(self) -> bool:
        """True if nothing can leave any more, by a failure of this program."""

    def close(self) -> None:
        """Close every connection; what is in flight ends as unclear."""


class Waker:
    """Wakes the thread that waits for `sock` to become readable; any thread may call `wake`."""

    def __init__(self, pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair) -> None:
        self.sock, self._other = pair()
        self.sock.setblocking(False)
        self._other.setblocking(False)
        self._is_woken = False

    def wake(self) -> None:
        """Let the thread look at what is new; one byte is enough until it has begun to look."""
        if self._is_woken:
            return
        try:
            self._is_woken = True
            self._other.send(b"\0")
        except OSError:  # closed: no thread is there
            pass
        except BaseException:  # Ctrl-C before the byte was sent: the next request must wake the thread
            self._is_woken = False
            raise

    def clear(self) -> None:
        """Let the next `wake` write again."""
        self.sock.recv(4096)
        self._is_woken = False

    def close(self) -> None:
        """Close both ends."""
        self.sock.close()
        self._other.close()


class HttpTransport:
    """The requests of one process; `start` may be called by any thread.

    `connect` returns an open connection or raises an ElepayError; it runs in threads of its own.
    """

    def __init__(self, connect: Callable[[], Connection], deadlines: Deadlines) -> None:
        self._connect, self._deadlines = connect, deadlines
        self._selector = selectors.DefaultSelector()
        self._waker = Waker()
        self._selector.register(self._waker.sock, selectors.EVENT_READ)
        self._new: deque[Exchange] = deque()
        self._made: deque[tuple[Exchange, Connection | ElepayError, object]] = deque()
        self._waiting: list[tuple[float, int, Exchange]] = []  # heap by `leaves_at`
        self._in_flight: dict[Exchange, _Conn | None] = {}  # None: its connection is being made
        self._idle: list[_Conn] = []
        self._epoch = object()  # connections of an earlier epoch carry no further request
        self._numbers = itertools.count()
        self._late_at = 0.0
        self._closed = self._closing = False
        self._connectors = ThreadPoolExecutor(_CONNECTING, thread_name_prefix="connect")
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def start(self, *exchanges: Exchange) -> None:
        """Let them leave when their times have come."""
        self._new.extend(exchanges)
        self._waker.wake()
        if self._closed:  # the thread may have ended
            self._take_over()
            self._end_all()

    def renew(self) -> None:
        """Let no connection that is open now carry another request; what is in flight ends as it would.

        A request that is started after the return leaves on a connection that is made after the call.
        """
        self._epoch = object()
        self._waker.wake()

    @property
    def failed(self) -> bool:
        """True if the thread has ended by a failure: nothing leaves any more."""
        return not self._thread.is_alive() and not self._closing

    def close(self) -> None:
        """Close every connection; what is in flight ends as unclear."""
        self._closing = self._closed = True
        self._waker.wake()
        self._thread.join(5)
        self._connectors.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
        except BaseException:
            log.exception("requests failed")
            raise
        finally:
            self._closed = True
            self._take_over()
            self._end_all()
            self._selector.close()
            self._waker.close()

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._waker.clear()  # before it looks: what comes from now on wakes it again
            else:
                self._safely(self._on_ready, key.data, key.data.exchange)
        self._take_over()
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            exchange = heapq.heappop(self._waiting)[2]
            self._safely(self._leave, exchange, exchange)
        if now >= self._late_at:
            self._late_at = now + LATE_EVERY_SECONDS
            self._end_late(now)

    def _patience(self) -> float | None:
        """Return how long to wait for something to happen, in seconds; None: as long as it takes."""
        if not self._waiting and not self._in_flight:
            return None
        next_at = min(self._late_at, self._waiting[0][0]) if self._waiting else self._late_at
        return max(0.0, next_at - time.monotonic())

    def _take_over(self) -> None:
        while self._new:
            exchange = self._new.popleft()
            heapq.heappush(self._waiting, (exchange.leaves_at, next(self._numbers), exchange))
        while self._made:
            self._use(*self._made.popleft())
        while self._idle and self._idle[0].epoch is not self._epoch:  # the oldest come first
            self._drop(self._idle.pop(0))

    def _use(self, exchange: Exchange, made: Connection | ElepayError, epoch: object) -> None:
        """Let an exchange leave on the connection that was made for it; keep the connection if the exchange is over."""
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
        """Let a failure of this program end one exchange and not all of them."""
        try:
            step(what)
        except Exception as error:  # noqa: BLE001 - a bug must not leave a row without an outcome
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - its text may quote data
            if exchange is not None:
                conn = self._in_flight.get(exchange)
                if conn is not None:
                    self._drop(conn)
                self._finish(exchange, Unclear("internal_error"))

    def _leave(self, exchange: Exchange) -> None:
        exchange.moved_at = time.monotonic()
        exchange.ends_at = exchange.moved_at + self._deadlines.total
        self._in_flight[exchange] = None
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
        self._waker.wake()

    def _attach(self, conn: _Conn) -> None:
        assert conn.exchange is not None, "it was just given to it"
        self._in_flight[conn.exchange] = conn
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

    def _on_ready(self, conn: _Conn) -> None:
        """Write, read or drop a connection on which something has happened."""
        exchange = conn.exchange
        if exchange is None:  # the other side closes it, or sends what no request asked for
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
        if not exchange.read(received):
            self._break(exchange, conn)
        elif exchange.size > exchange.most_bytes:
            self._break(exchange, conn, "unreadable_answer")
        elif exchange.answer is not None:
            self._complete(exchange, conn, exchange.answer)

    def _complete(self, exchange: Exchange, conn: _Conn, answer: Answer) -> None:
        """Hand over an answer; whoever reads it says whether its connection can be trusted with another request."""
        trusted = self._finish(exchange, answer)
        if trusted and exchange.reusable and not (exchange.fresh or exchange.unsent or conn.unread()):
            self._release(conn)
        else:
            self._drop(conn)

    def _release(self, conn: _Conn) -> None:
        conn.exchange = None
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

    def _break(self, exchange: Exchange, conn: _Conn, code: str = "connection_reset") -> None:
        """End an exchange whose request has left, without knowing what became of it."""
        self._drop(conn)
        self._finish(exchange, Unclear(code, http_status=exchange.status))

    def _finish(self, exchange: Exchange, result: Answer | ElepayError) -> bool:
        """End an exchange; return whether its connection may be used again."""
        self._in_flight.pop(exchange, None)
        if exchange.over:
            return False
        exchange.end()
        try:
            return exchange.completed(result) is not False
        except Exception as error:  # noqa: BLE001 - as in `_safely`
            log.error("unexpected failure", error=type(error).__name__)  # noqa: TRY400 - as there
            return False

    def _end_late(self, now: float) -> None:
        """End what takes too long: timeouts of sockets start anew with every byte, and a row's lease relies on this."""
        read = self._deadlines.read
        late = [each for each in self._in_flight.items() if now > min(each[0].ends_at, each[0].moved_at + read)]
        for exchange, conn in late:
            if conn is not None:
                self._break(exchange, conn, "read_timeout")
            elif now > exchange.ends_at:
                self._finish(exchange, NotSent("connect_timeout"))

    def _end_all(self) -> None:
        for exchange, conn in list(self._in_flight.items()):
            if conn is not None:
                self._break(exchange, conn)
            else:
                self._finish(exchange, NotSent("connection_failed"))
        while self._waiting:
            self._finish(heapq.heappop(self._waiting)[2], NotSent("connection_failed"))
        while self._idle:
            self._drop(self._idle.pop())
