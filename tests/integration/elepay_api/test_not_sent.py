"""Failures after which nothing was sent."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from elepay_calls import CREATED, HASTY, REQUEST, client, failure_of, reset
from factories import wait_until
from raw_server import RawServer, http, read_request, source_of
from tls import certificate, tls_server

from tasks.errors import (
    Fenced,
    NotSent,
    Unclear,
)
from tasks.models import Source, SourceRequest


def test_a_refused_connection_was_not_sent(calls: Callable[..., Source]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    failure = failure_of(calls, f"http://127.0.0.1:{port}")
    assert (type(failure), failure.code, failure.http_status) == (NotSent, "connection_refused", None)


def test_a_request_that_may_not_leave_once_its_connection_is_there_is_held_back(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:

        def connected_and_too_late() -> bool:
            wait_until(lambda: server.connections == 1, 5, "the connection")
            return False

        failure = failure_of(calls, server.url, may_leave=connected_and_too_late)
        assert (type(failure), failure.code) == (Fenced, "held_back")
        assert server.requests == []


def test_a_request_that_may_not_leave_any_more_in_its_middle_is_unclear(calls: Callable[..., Source]) -> None:
    """More than the socket takes at once: the second write is one too many."""
    answers = iter([True, False])
    received: list[bytes] = []
    long = SourceRequest("cus_1", "creditcard", "ios", "x" * 30_000_000)

    def meet(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with closing(connection), suppress(OSError):
            while part := connection.recv(1 << 20):
                received.append(part)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        reader = threading.Thread(target=meet, args=(listening,), daemon=True)
        reader.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        failure = failure_of(calls, url, long, may_leave=lambda: next(answers))
        reader.join(10)
    assert (type(failure), failure.code) == (Unclear, "connection_reset")
    assert 0 < sum(map(len, received)) < 30_000_000


def test_a_request_longer_than_the_socket_takes_at_once_arrives_whole(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        calls(server.url, SourceRequest("cus_1", "creditcard", "ios", "x" * 10_000_000))
        assert len(server.body()["description"]) == 10_000_000


def test_a_failure_of_our_own_ends_one_request_and_not_the_others(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        api = client(server.url)
        failure = failure_of(api.create_source, REQUEST, "ref_1", may_leave=lambda: 1 // 0)
        assert (type(failure), failure.code) == (Unclear, "internal_error")
        assert api.create_source(REQUEST, "ref_2").id == "src_1"
        api.close()
        assert len(server.requests) == 1


def test_an_interim_answer_is_not_taken_for_the_answer(calls: Callable[..., Source]) -> None:
    with RawServer(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + CREATED) as server:
        assert calls(server.url).id == "src_1"


def test_an_answer_in_chunks_or_to_the_end_of_the_connection_is_whole(calls: Callable[..., Source]) -> None:
    body = json.dumps(source_of()).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    with RawServer(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks) as server:
        assert calls(server.url).id == "src_1"
    with RawServer(b"HTTP/1.1 201 Created\r\nConnection: close\r\n\r\n" + body) as server:
        assert calls(server.url).id == "src_1"
    with RawServer(http(201, gzip.compress(body), "Content-Encoding: gzip")) as server:
        assert calls(server.url).id == "src_1"


def test_a_client_that_was_closed_sends_nothing(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        api = client(server.url)
        api.close()
        assert type(failure_of(api.create_source, REQUEST, "ref_1")) is NotSent
        assert server.requests == []


def test_a_name_without_address_was_not_sent(calls: Callable[..., Source]) -> None:
    failure = failure_of(calls, "https://no-such-host.invalid")
    assert (type(failure), failure.code) == (NotSent, "name_not_resolved")


def test_a_connect_timeout_was_not_sent(calls: Callable[..., Source]) -> None:
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    waiting: list[socket.socket] = []
    with closing(full):
        for _ in range(4):  # the queue of connections is full; further ones are left without an answer
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            with suppress(BlockingIOError):
                waiting[-1].connect(full.getsockname())
        failure = failure_of(calls, f"http://127.0.0.1:{full.getsockname()[1]}", deadlines=HASTY)
    for one in waiting:
        one.close()
    assert (type(failure), failure.code) == (NotSent, "connect_timeout")


def test_a_certificate_that_nobody_vouches_for_was_not_sent(
    calls: Callable[..., Source], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = tls_server(certificate(tmp_path_factory), lambda _: None)
    with closing(server):
        failure = failure_of(calls, f"https://localhost:{server.getsockname()[1]}")
    assert (type(failure), failure.code) == (NotSent, "certificate_not_trusted")


def test_requests_and_answers_longer_than_a_record_of_tls_arrive_whole(trusted_certificate: Path) -> None:
    asked: list[bytes] = []

    def serve(connection: ssl.SSLSocket) -> None:
        while (request := read_request(connection)) is not None:
            asked.append(request)
            answer = http(201, source_of(id=f"src_{len(asked)}", note="x" * (10 if len(asked) % 2 else 200_000)))
            for begin in range(0, len(answer), 7001):
                connection.sendall(answer[begin : begin + 7001])

    with closing(tls_server(trusted_certificate, serve)) as listening:
        api = client(f"https://localhost:{listening.getsockname()[1]}", trust_env=True)
        for number in range(6):
            request = SourceRequest("cus_1", "creditcard", "ios", "y" * (10 if number % 3 else 300_000))
            assert api.create_source(request, f"ref_{number}").id == f"src_{number + 1}"
        api.close()
    assert [len(request) > 300_000 for request in asked] == [True, False, False] * 2


@pytest.mark.parametrize("how", ["plain text", "reset", "closed", "silent"])
def test_a_failed_tls_handshake_was_not_sent(calls: Callable[..., Source], how: str) -> None:
    gone = threading.Event()

    def meet(listening: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listening.accept()
            with closing(connection):
                if how == "silent":
                    gone.wait(20)
                    return
                connection.recv(65536)
                if how == "plain text":
                    connection.sendall(http(400, b"this is not TLS"))
                if how == "reset":
                    reset(connection)

    with closing(socket.create_server(("localhost", 0))) as listening:
        threading.Thread(target=meet, args=(listening,), daemon=True).start()
        failure = failure_of(calls, f"https://localhost:{listening.getsockname()[1]}", deadlines=HASTY)
        gone.set()
    assert type(failure) is NotSent, failure.code
