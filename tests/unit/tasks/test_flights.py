"""Answers in pieces: wherever the network cuts them, the same is read."""

from __future__ import annotations

import socket
import time

import pytest

from tasks.errors import ElepayError, NotSent, Unclear
from tasks.flights import Answer, Connection, Deadlines, Flight, Flights

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


def ask(pair: Pair) -> tuple[Flights, list[Answer | ElepayError]]:
    """One request on its way."""
    landed: list[Answer | ElepayError] = []

    def connect() -> Connection:
        return pair  # type: ignore[return-value]

    flights = Flights(connect, Deadlines(1.0, 5.0, 5.0))
    flights.start(Flight(b"GET / HTTP/1.1\r\n\r\n", landed.append))
    assert pair.there.recv(100) == b"GET / HTTP/1.1\r\n\r\n"
    return flights, landed


def wait_for(landed: list[Answer | ElepayError]) -> Answer | ElepayError:
    for _ in range(5000):
        if landed:
            return landed[0]
        time.sleep(0.001)
    raise AssertionError("nothing landed")


@pytest.mark.parametrize("answer", [HEAD + BODY, CHUNKS, INTERIM + HEAD + BODY])
def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes) -> None:
    for cut in range(1, len(answer)):
        pair = Pair()
        flights, landed = ask(pair)
        pair.there.sendall(answer[:cut])
        if cut % 3 == 0:
            time.sleep(0.002)  # two reads, most likely
        assert landed == []
        pair.there.sendall(answer[cut:])
        found = wait_for(landed)
        assert isinstance(found, Answer)
        assert (found.status, found.content) == (201, BODY)
        flights.close()
        pair.there.close()


@pytest.mark.parametrize("answer", [HEAD + BODY, CHUNKS])
def test_an_answer_that_ends_too_early_is_unclear_wherever_it_ends(answer: bytes) -> None:
    for cut in range(len(answer)):
        pair = Pair()
        flights, landed = ask(pair)
        pair.there.sendall(answer[:cut])
        pair.there.close()
        found = wait_for(landed)
        assert isinstance(found, Unclear)
        assert found.code == "connection_reset"
        flights.close()
    assert len(answer) > 50


def test_what_waits_when_the_client_closes_is_told_so() -> None:
    landed: list[Answer | ElepayError] = []
    flights = Flights(lambda: 1 // 0, Deadlines(1.0, 5.0, 5.0))  # type: ignore[arg-type, return-value]
    flights.start(Flight(b"x", landed.append, leaves_at=time.monotonic() + 60), Flight(b"y", landed.append))
    assert isinstance(wait_for(landed), NotSent)
    flights.close()
    flights.start(Flight(b"z", landed.append))
    assert [type(one) for one in landed] == [NotSent] * 3
    assert not flights.failed
