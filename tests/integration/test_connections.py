"""When a connection ends, and which is used again (docs/reference/elepay-api.md §5)."""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from factories import KEY, wait_until
from pydantic import SecretStr
from raw_calls import DEADLINES, EMPTY, Client, clients, closed_by_client, create, error, failure, said
from raw_server import Asked, Listener, RawServer, Scripted, created, http, read_request, source_of
from tls import certificate, tls_server

from tasks.elepay.client import ElepayApi, SourceList
from tasks.errors import ElepayError, NotSent
from tasks.models import Source, SourceRequest


@pytest.fixture
def client() -> Iterator[Client]:
    """Clients that are closed at the end."""
    with clients() as connect:
        yield connect


# ---------------------------------------------------------------------- the end of a connection


@pytest.mark.parametrize(
    "surplus",
    [b"x", b"H", b"\0" * 9, http(500), http(201, {"id": "src_9"}), b"HTTP/1.1 103 Early\r\n\r\n", b"0\r\n\r\n"],
)
@pytest.mark.parametrize("framing", ["length", "chunks", "error"])
def test_surplus_bytes_change_no_answer_and_end_its_connection(client: Client, surplus: bytes, framing: str) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        if framing == "error":
            return [error(request_id=f"req_{asked.number}") + surplus]
        head, _, body = created(asked).partition(b"\r\n\r\n")
        if framing == "length":
            return [head + b"\r\n\r\n" + body + surplus]
        head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
        return [head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) + surplus]

    with Scripted(reply) as server:
        api = client(server)
        expected = ["M005000"] * 3 if framing == "error" else ["src_0", "src_1", "src_2"]
        assert [said(create(api, number)) for number in range(3)] == expected
        assert server.lines == [0, 1, 2]


def test_surplus_bytes_on_an_idle_connection_end_it(client: Client) -> None:
    with Scripted(lambda asked: [created(asked), 0.05, b"x"]) as server:
        api = client(server)
        for number in range(3):
            assert said(create(api, number)) == f"src_{number}"
            closed_by_client(server, number + 1)
        assert server.lines == [0, 1, 2]


@pytest.mark.parametrize(
    ("version", "headers", "lines"),
    [
        (b"HTTP/1.0", [], [0, 1]),
        (b"HTTP/1.0", ["Connection: Keep-Alive"], [0, 0]),
        (b"HTTP/1.1", ["Connection: Close"], [0, 1]),
        (b"HTTP/1.1", ["Connection: x, close"], [0, 1]),
        (b"HTTP/1.1", [], [0, 0]),
    ],
)
def test_a_connection_is_used_again_only_if_its_answer_allows_it(
    client: Client, version: bytes, headers: list[str], lines: list[int]
) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        head, _, body = created(asked).partition(b"\r\n\r\n")
        more = "".join(f"\r\n{header}" for header in headers).encode()
        return [head.replace(b"HTTP/1.1", version) + more + b"\r\n\r\n" + body]

    with Scripted(reply) as server:
        api = client(server)
        assert [said(create(api, number)) for number in range(2)] == ["src_0", "src_1"]
        assert server.lines == lines


def test_an_answer_of_http_1_0_ends_with_its_connection(client: Client) -> None:
    def serve(connection: socket.socket) -> None:
        body = json.dumps(source_of()).encode()
        connection.sendall(b"HTTP/1.0 201 Created\r\n\r\n" + body)

    with RawServer(serve) as server:
        assert said(create(client(server), 0)) == "src_1"


def test_surplus_bytes_in_a_record_of_tls_end_the_connection(trusted_certificate: Path) -> None:
    lines: list[int] = []

    def serve(connection: ssl.SSLSocket) -> None:
        line = lines[-1] + 1 if lines else 0
        while (request := read_request(connection)) is not None:
            asked = Asked(len(lines), line, request)
            lines.append(line)
            answer = created(asked)
            connection.sendall(answer + answer)

    with closing(tls_server(trusted_certificate, serve)) as listening:
        url = f"https://localhost:{listening.getsockname()[1]}"
        api = ElepayApi(url, SecretStr(KEY), DEADLINES, trust_env=True)
        assert [said(create(api, number)) for number in range(3)] == ["src_0", "src_1", "src_2"]
        api.close()
    assert lines == [0, 1, 2]


def test_a_proxy_that_answers_connect_in_http_1_0_works(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificate(tmp_path_factory)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "cert"))
    asked: list[Asked] = []

    def serve(connection: ssl.SSLSocket) -> None:
        while (request := read_request(connection)) is not None:
            asked.append(Asked(len(asked), 0, request))
            connection.sendall(created(asked[-1]))

    with closing(tls_server(folder, serve)) as listening, ConnectProxy() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        api = ElepayApi(f"https://localhost:{listening.getsockname()[1]}", SecretStr(KEY), DEADLINES, trust_env=True)
        assert [said(create(api, number)) for number in range(3)] == ["src_0", "src_1", "src_2"]
        assert len(proxy.heads) == 1, "one tunnel carries them all"
        api.renew_connections()
        assert said(create(api, 3)) == "src_3"
        assert len(proxy.heads) == 2
        api.close()
    assert all(head.startswith(b"CONNECT localhost:") and KEY.encode() not in head for head in proxy.heads)


class ConnectProxy(Listener):
    """A proxy that answers CONNECT in HTTP/1.0, without keep-alive, and then passes bytes on."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        super().__init__()

    def _serve(self, connection: socket.socket) -> None:
        head = read_request(connection)
        assert head is not None
        self.heads.append(head)
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        with closing(connection), closing(socket.create_connection((host, int(port)))) as upstream:
            connection.sendall(b"HTTP/1.0 200 Connection established\r\n\r\n")
            other = {connection: upstream, upstream: connection}
            while True:
                for ready in select.select(list(other), [], [], 20)[0]:
                    part = ready.recv(65536)
                    if not part:
                        return
                    other[ready].sendall(part)


# ---------------------------------------------------------------------- fresh connections


def test_a_fresh_list_comes_on_a_connection_of_its_own(client: Client) -> None:
    with Scripted(lambda asked: [EMPTY if b"GET" in asked.request[:4] else created(asked)]) as server:
        api = client(server)
        create(api, 0)
        assert api.list_sources("cus_1", "creditcard", fresh=True) == SourceList([], complete=True)
        assert api.list_sources("cus_1", "creditcard", fresh=True) == SourceList([], complete=True)
        closed_by_client(server, 2)
        assert api.list_sources("cus_1", "creditcard") == SourceList([], complete=True)
        create(api, 1)
        assert server.lines == [0, 1, 2, 0, 0], "others go on, and those of fresh lists are closed"


def test_a_fresh_list_without_connection_was_not_sent(client: Client) -> None:
    with Scripted(lambda asked: [created(asked)]) as server:
        api = client(server)
        create(api, 0)
        server.__exit__()
        found = failure(api.list_sources, "cus_1", "creditcard", fresh=True)
        assert (type(found), found.code) == (NotSent, "connection_refused")


def test_no_idle_connection_is_used_after_a_renewal(client: Client) -> None:
    with Scripted(lambda asked: [created(asked)]) as server:
        api = client(server)
        create(api, 0)
        api.renew_connections()
        closed_by_client(server, 1)
        create(api, 1)
        create(api, 2)
        assert server.lines == [0, 1, 1]
        api.renew_connections()
        assert said(create(api, 3)) == "src_3", "without a pause between renewal and request"
        assert server.lines == [0, 1, 1, 2]


def test_requests_under_way_end_on_their_connections_and_those_carry_no_more(client: Client) -> None:
    go_on = threading.Event()

    def reply(asked: Asked) -> list[bytes | float]:
        if asked.number < 5:
            go_on.wait(10)
        return [created(asked)]

    with Scripted(reply) as server:
        api = client(server)
        done: list[Source | ElepayError] = []
        for number in range(5):
            api.begin_create(SourceRequest(f"cus_{number}", "creditcard", "ios"), f"ref_{number}", done.append)
        wait_until(lambda: len(server.asked) == 5, 5, "the requests")
        api.renew_connections()
        assert said(create(api, 5)) == "src_5"
        go_on.set()
        wait_until(lambda: len(done) == 5, 5, "the answers")
        assert sorted(map(said, done)) == [f"src_{number}" for number in range(5)]
        closed_by_client(server, 5)
        for number in range(6, 9):
            create(api, number)
        assert set(server.lines[5:]) == {5}
