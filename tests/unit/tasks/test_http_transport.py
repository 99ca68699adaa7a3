"""Answers in pieces: wherever the network cuts them, the same is read."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tasks.elepay.exchange import Answer, Connection, Deadlines, Exchange
from tasks.elepay.http_transport import HttpTransport, Waker
from tasks.errors import ElepayError, NotSent, Unclear

BODY = b'{"id": "src_1"}'
HEAD = b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\nX-Odd: a: b\r\n\r\n" % len(BODY)
CHUNKS = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n%b\r\nb\r\n%b\r\n0\r\n\r\n" % (
    BODY[:4],
    BODY[4:],
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


class Pair:
    """A connection of which the test has the other end."""

    def __init__(self) -> None:
        self.sock, self.there = socket.socketpair()
        self.there.settimeout(5)
        self.is_connected = True

    def close(self) -> None:
        self.sock.close()


def ask(pair: Pair) -> tuple[HttpTransport, list[Answer | ElepayError]]:
    """One request on its way."""
    completed: list[Answer | ElepayError] = []

    def connect() -> Connection:
        return pair  # type: ignore[return-value]

    transport = HttpTransport(connect, Deadlines(1.0, 5.0, 5.0))
    transport.start(Exchange(b"GET / HTTP/1.1\r\n\r\n", completed.append))
    assert pair.there.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
    return transport, completed


def wait_for(completed: list[Answer | ElepayError]) -> Answer | ElepayError:
    for _ in range(5000):
        if completed:
            return completed[0]
        time.sleep(0.001)
    raise AssertionError("nothing was completed")


@pytest.mark.parametrize("answer", [HEAD + BODY, CHUNKS, INTERIM + HEAD + BODY])
def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes) -> None:
    for cut in range(1, len(answer)):
        pair = Pair()
        transport, completed = ask(pair)
        pair.there.sendall(answer[:cut])
        if cut % 3 == 0:
            time.sleep(0.002)  # two reads, most likely
        assert completed == []
        pair.there.sendall(answer[cut:])
        found = wait_for(completed)
        assert isinstance(found, Answer)
        assert (found.status, found.content) == (201, BODY)
        transport.close()
        pair.there.close()


@pytest.mark.parametrize("answer", [HEAD + BODY, CHUNKS])
def test_an_answer_that_ends_too_early_is_unclear_wherever_it_ends(answer: bytes) -> None:
    for cut in range(len(answer)):
        pair = Pair()
        transport, completed = ask(pair)
        pair.there.sendall(answer[:cut])
        pair.there.close()
        found = wait_for(completed)
        assert isinstance(found, Unclear)
        assert found.code == "connection_reset"
        transport.close()
    assert len(answer) > 50


def test_what_waits_when_the_client_closes_ends_as_not_sent() -> None:
    completed: list[Answer | ElepayError] = []
    transport = HttpTransport(lambda: 1 // 0, Deadlines(1.0, 5.0, 5.0))  # type: ignore[arg-type, return-value]
    transport.start(Exchange(b"x", completed.append, leaves_at=time.monotonic() + 60), Exchange(b"y", completed.append))
    assert isinstance(wait_for(completed), NotSent)
    transport.close()
    transport.start(Exchange(b"z", completed.append))
    assert [type(one) for one in completed] == [NotSent] * 3
    assert not transport.failed


class Wire(Pair):
    """A pair that knows, as urllib3's connection does, that something has arrived."""

    is_connected = property(lambda self: not select.select([self.sock], [], [], 0)[0])  # type: ignore[assignment]

    def __init__(self) -> None:
        self.sock, self.there = socket.socketpair()
        self.there.settimeout(5)


class Wires:
    """Connections that are made one after the other; `gate` holds them up."""

    def __init__(self) -> None:
        self.made: list[Wire] = []
        self.begun = 0
        self.gate = threading.Event()
        self.gate.set()

    def connect(self) -> Connection:
        self.begun += 1
        self.gate.wait(5)
        self.made.append(Wire())
        return self.made[-1]


@pytest.fixture
def wires() -> Iterator[Wires]:
    """Wires of which both ends are closed at the end."""
    made = Wires()
    yield made
    for wire in made.made:
        wire.sock.close()
        wire.there.close()


def wait_for_many(completed: list[Answer | ElepayError], number: int) -> None:
    for _ in range(5000):
        if len(completed) >= number:
            return
        time.sleep(0.001)
    raise AssertionError("not enough was completed")


def answer(wire: Wire, content: bytes = BODY, surplus: bytes = b"") -> None:
    """Answer one request."""
    assert wire.there.recv(100)
    wire.there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content) + surplus)


def test_what_arrives_between_an_answer_and_the_next_request_is_not_its_answer(wires: Wires) -> None:
    """It arrives while the connection becomes idle, and the next request leaves before any selector reports it."""
    completed: list[Answer | ElepayError] = []
    transport = HttpTransport(wires.connect, Deadlines(1.0, 5.0, 5.0))

    def first(result: Answer | ElepayError) -> None:
        wires.made[0].there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
        transport.start(Exchange(b"second", completed.append))
        completed.append(result)

    transport.start(Exchange(b"first", first))
    for number in range(2):
        wait_until_made(wires, number + 1)
        answer(wires.made[number], b"%d" % number)
    wait_for_many(completed, 2)
    assert [one.content for one in completed if isinstance(one, Answer)] == [b"0", b"1"]
    transport.close()


def wait_until_made(wires: Wires, number: int) -> None:
    for _ in range(5000):
        if len(wires.made) >= number:
            return
        time.sleep(0.001)
    raise AssertionError("no such connection")


@pytest.mark.parametrize("verdict", [None, True, False])
def test_whoever_reads_an_answer_decides_about_its_connection_before_the_next_request(
    wires: Wires, verdict: bool | None
) -> None:
    completed: list[Answer | ElepayError] = []
    transport = HttpTransport(wires.connect, Deadlines(1.0, 5.0, 5.0))

    def read(result: Answer | ElepayError) -> bool | None:
        if not completed:
            transport.start(Exchange(b"second", read))
        completed.append(result)
        return verdict

    transport.start(Exchange(b"first", read))
    wait_until_made(wires, 1)
    answer(wires.made[0])
    if verdict is False:
        wait_until_made(wires, 2)
    answer(wires.made[-1])
    wait_for_many(completed, 2)
    assert len(wires.made) == (2 if verdict is False else 1)
    transport.close()


def test_a_reader_that_fails_ends_the_connection(wires: Wires) -> None:
    completed: list[Answer | ElepayError] = []
    transport = HttpTransport(wires.connect, Deadlines(1.0, 5.0, 5.0))
    transport.start(Exchange(b"first", lambda _: 1 // 0))  # type: ignore[arg-type, return-value]
    wait_until_made(wires, 1)
    answer(wires.made[0])
    assert wires.made[0].there.recv(1) == b""
    transport.start(Exchange(b"second", completed.append))
    wait_until_made(wires, 2)
    answer(wires.made[1])
    assert isinstance(wait_for(completed), Answer)
    transport.close()


def test_a_connection_that_was_being_made_at_a_renewal_is_made_again(wires: Wires) -> None:
    completed: list[Answer | ElepayError] = []
    wires.gate.clear()
    transport = HttpTransport(wires.connect, Deadlines(5.0, 5.0, 5.0))
    transport.start(Exchange(b"first", completed.append))
    while not wires.begun:
        time.sleep(0.001)
    transport.renew()
    wires.gate.set()
    wait_until_made(wires, 2)
    assert wires.made[0].there.recv(1) == b"", "nothing was sent on it"
    answer(wires.made[1])
    assert isinstance(wait_for(completed), Answer)
    transport.close()


def test_connections_are_renewed_by_any_thread_while_requests_are_in_flight(wires: Wires) -> None:
    completed: list[Answer | ElepayError] = []
    stop = threading.Event()
    served: set[int] = set()

    def serve() -> None:
        while not stop.is_set():
            for wire in [one for one in wires.made if id(one) not in served]:
                served.add(id(wire))
                threading.Thread(target=serve_one, args=(wire,), daemon=True).start()
            time.sleep(0.001)

    def serve_one(wire: Wire) -> None:
        try:
            while wire.there.recv(100):
                wire.there.sendall(HEAD + BODY)
        except OSError:
            pass

    transport = HttpTransport(wires.connect, Deadlines(5.0, 5.0, 5.0))
    threads = [threading.Thread(target=serve)]
    threads += [threading.Thread(target=lambda: [transport.renew() for _ in range(50)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        transport.start(Exchange(b"x", completed.append), Exchange(b"y", completed.append, fresh=True))
    wait_for_many(completed, 400)
    stop.set()
    for thread in threads:
        thread.join(5)
    assert all(isinstance(one, Answer) for one in completed)
    assert len(transport._idle) < 400
    transport.close()


class InterruptedOnce:
    """A socket in whose first `send` Ctrl-C comes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.interrupts = sock, [KeyboardInterrupt]

    def setblocking(self, _flag: bool) -> None: ...

    def send(self, content: bytes) -> int:
        if self.interrupts:
            raise self.interrupts.pop()
        return self.sock.send(content)

    def close(self) -> None:
        self.sock.close()


def test_a_wake_that_is_interrupted_does_not_silence_the_next() -> None:
    here, there = socket.socketpair()
    waker = Waker(lambda: (here, InterruptedOnce(there)))  # type: ignore[arg-type, return-value]
    with pytest.raises(KeyboardInterrupt):
        waker.wake()
    waker.wake()
    assert waker.sock.recv(10) == b"\0"
    waker.close()


def test_one_byte_wakes_the_thread_until_it_has_looked() -> None:
    waker = Waker()
    waker.wake()
    waker.wake()
    assert waker.sock.recv(10, socket.MSG_PEEK) == b"\0"
    waker.clear()
    waker.wake()
    assert waker.sock.recv(10) == b"\0"
    waker.close()
