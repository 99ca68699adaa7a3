"""Failures after which a source may have been created."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import threading
import time
from collections.abc import Callable

import pytest
from elepay_calls import HASTY, REQUEST, client, failure_of, in_drops, reset
from factories import Simulator, wait_until
from raw_server import RawServer, http, source_of

from tasks.elepay.exchange import MAX_ANSWER_BYTES
from tasks.elepay.http_transport import Deadlines
from tasks.errors import (
    Unclear,
)
from tasks.models import Source


def cut_body(connection: socket.socket) -> None:
    connection.sendall(http(201, b'{"id": "src_1"', length=500))


def cut_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b'f\r\n{"id": "src_1"}\r\n')


def cut_in_a_chunk(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + b'ff\r\n{"id": "src_1"}')


def reset_in_the_body(connection: socket.socket) -> None:
    connection.sendall(http(201, b'{"id": ', length=500))
    time.sleep(0.1)
    reset(connection)


def no_http(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


def too_much(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n")
    sent = 0
    while sent < 4 * MAX_ANSWER_BYTES:
        connection.sendall(b" " * 65536)
        sent += 65536


def too_much_unpacked(connection: socket.socket) -> None:
    packed = gzip.compress(b" " * (8 * MAX_ANSWER_BYTES))
    connection.sendall(http(201, packed, "Content-Encoding: gzip"))


def broken_gzip(connection: socket.socket) -> None:
    connection.sendall(http(201, b"this is not gzip", "Content-Encoding: gzip"))


@pytest.mark.parametrize(
    "misbehave",
    [
        reset,
        cut_body,
        cut_chunks,
        cut_in_a_chunk,
        reset_in_the_body,
        no_http,
        too_much,
        too_much_unpacked,
        broken_gzip,
    ],
)
def test_an_answer_that_breaks_off_or_never_ends_is_unclear(
    calls: Callable[..., Source], misbehave: Callable[[socket.socket], None]
) -> None:
    with RawServer(misbehave) as server:
        assert type(failure_of(calls, server.url)) is Unclear
        assert len(server.requests) == 1, "it was sent once"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"src_1"',
        b"{}",
        b"<html><body>Created</body></html>",
        b'{"id": null}',
        b'{"id": ""}',
        b'{"id": 7}',
        json.dumps({"id": "s" * 65}).encode(),
        b"\xff\xfe\x00",
        b'{"id": "src_1"}garbage',
        b'{"id": NaN}',
    ],
)
def test_a_201_that_names_no_source_is_unclear(calls: Callable[..., Source], content: bytes) -> None:
    with RawServer(http(201, content)) as server:
        failure = failure_of(calls, server.url)
        assert (type(failure), failure.code) == (Unclear, "unreadable_answer")


def test_silence_is_unclear_after_the_read_timeout(calls: Callable[..., Source]) -> None:
    over = threading.Event()
    with RawServer(lambda _: over.wait(20) and None) as server:
        failure = failure_of(calls, server.url, deadlines=Deadlines(1, 0.3, 20))
        over.set()
    assert (type(failure), failure.code) == (Unclear, "read_timeout")


@pytest.mark.parametrize("part", ["body", "headers"])
def test_a_dripping_answer_ends_at_the_total_deadline(calls: Callable[..., Source], part: str) -> None:
    whole = {"body": http(201, b" " * 400), "headers": http(201, source_of(), f"X-Slow: {'x' * 400}")}[part]
    head = whole.index(b"\r\n\r\n") + 4 if part == "body" else 20

    def answer(connection: socket.socket) -> None:
        connection.sendall(whole[:head])
        in_drops(8, whole[head:])(connection)

    with RawServer(answer) as server:
        started = time.monotonic()
        failure = failure_of(calls, server.url, deadlines=Deadlines(1, 1, 1.5))
        took = time.monotonic() - started
    assert (type(failure), failure.code) == (Unclear, "read_timeout")
    assert took < 6, "the deadline was 1.5 s, the answer took 8 s"


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(calls: Callable[..., Source]) -> None:
    with RawServer(http(201, source_of(), "Connection: close")) as server:
        api = client(server.url)
        assert [api.create_source(REQUEST, "ref_1").id for _ in range(3)] == ["src_1"] * 3
        api.close()
        assert server.connections == 3


def test_a_frozen_server_is_unclear_and_goes_on_later(calls: Callable[..., Source]) -> None:
    with Simulator() as frozen:
        process = frozen._process
        assert calls(frozen.url).id
        process.send_signal(signal.SIGSTOP)
        try:
            failure = failure_of(calls, frozen.url, deadlines=HASTY)
        finally:
            process.send_signal(signal.SIGCONT)
        assert (type(failure), failure.code) == (Unclear, "read_timeout")
        wait_until(lambda: frozen.statistics()["created"] == 2, what="the request that was given up")
