"""The client against the simulator, and against servers that answer what no server should."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from factories import KEY, Simulator, wait_until
from pydantic import SecretStr
from raw_server import RawServer, http, read_request, source_of
from tls import certificate, tls_server

from tasks.elepay.client import ElepayApi, SourceList
from tasks.elepay.http_transport import MAX_ANSWER_BYTES, Deadlines
from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Fenced,
    Halted,
    Maintenance,
    MethodClosed,
    NotSent,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.models import Source, SourceRequest

#: Generous where an answer is expected; tests of a deadline bring their own.
DEADLINES = Deadlines(connect=5, read=20, total=30)
HASTY = Deadlines(connect=1, read=1, total=2)
REQUEST = SourceRequest("cus_1", "creditcard", "ios", "Membership", {"frontUrl": "https://example.com"}, {"plan": "a"})
SECRET_WORDS = (KEY, "cus_1", "TARO", "YAMADA", "4242", "cred_")

CREATED = http(201, source_of())


def reset(connection: socket.socket) -> None:
    """End the connection by a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def in_drops(seconds: float, what: bytes) -> Callable[[socket.socket], None]:
    """Answer byte by byte, never silent for long, until `seconds` have passed or the caller has gone."""

    def drip(connection: socket.socket) -> None:
        for byte in what:
            connection.sendall(bytes([byte]))
            time.sleep(seconds / len(what))

    return drip


def client(url: str, deadlines: Deadlines = DEADLINES, key: str = KEY, **more: Any) -> ElepayApi:
    return ElepayApi(url, SecretStr(key), deadlines, **more)


@pytest.fixture
def calls() -> Iterator[Callable[..., Any]]:
    """Call create_source at an address with a client that is closed at the end."""
    opened: list[ElepayApi] = []

    def create(
        url: str,
        request: SourceRequest = REQUEST,
        deadlines: Deadlines = DEADLINES,
        key: str = KEY,
        trust_env: bool = False,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Source:
        opened.append(client(url, deadlines, key, trust_env=trust_env))
        return opened[-1].create_source(request, "ref_1", may_leave=may_leave)

    yield create
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    """One simulator for this file; starting one for each test would take most of the time."""
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    """It as if just started."""
    running.post("reset", profile="clean", seed=1)
    return running


def failure_of(create: Callable[..., Any], *arguments: Any, **more: Any) -> ElepayError:
    """The error of a call, after a look that it says nothing that is secret."""
    with pytest.raises(ElepayError) as caught:
        create(*arguments, **more)
    error = caught.value
    assert error.__cause__ is None, "a cause is printed with the error, and quotes address and customer"
    assert error.__suppress_context__ or error.__context__ is None
    told = f"{error} {error!r} {error.args} {vars(error)}"
    for word in SECRET_WORDS:
        assert word not in told
    return error


# ---------------------------------------------------------------------- what elepay answers


def test_a_source_is_created_with_our_reference_and_everything_of_the_row(
    simulator: Simulator, calls: Callable[..., Source]
) -> None:
    source = calls(simulator.url)
    assert source.id.startswith("src_")
    assert (source.status, source.live_mode, source.payment_method) == ("pending", False, "creditcard")
    assert source.reference == "ref_1"
    with RawServer(CREATED) as server:
        calls(server.url)
        assert server.body() == {
            "paymentMethod": "creditcard",
            "resource": "ios",
            "description": "Membership",
            "extra": {"frontUrl": "https://example.com"},
            "metadata": {"plan": "a", "onboarding_ref": "ref_1"},
        }
        calls(server.url, SourceRequest("cus_1", "creditcard", "ios"))
        assert server.body() == {
            "paymentMethod": "creditcard",
            "resource": "ios",
            "metadata": {"onboarding_ref": "ref_1"},
        }


def test_any_status_of_a_new_source_is_taken_as_it_is(simulator: Simulator, calls: Callable[..., Source]) -> None:
    simulator.control(status_on_create="active")
    assert calls(simulator.url).status == "active"
    with RawServer(http(201, source_of(status="frozen", liveMode=None))) as server:
        assert (calls(server.url).status, calls(server.url).live_mode) == ("frozen", None)


@pytest.mark.parametrize(
    ("knobs", "error", "code"),
    [
        ({"disabled_methods": ["creditcard"]}, MethodClosed, "M001001"),
        ({"source_methods": ["paypay"]}, MethodClosed, "M002005"),
        ({"missing_prefix": "cus_"}, Refused, "M002003"),
        ({"accepted_keys": ["sk_test_other"]}, Halted, "M004001"),
        ({"accepted_keys": ["sk_test_other"], "strict401": True}, Halted, "M004001"),
        ({"throttled": 1.0}, Throttled, "M005000"),
        ({"http_429_with_retry_after": 1.0}, Throttled, "http_429"),
        ({"S002000_window": 1.0}, Maintenance, "S002000"),
        ({"S002001_window": 1.0, "S002001_methods": ["creditcard"]}, Maintenance, "S002001"),
        ({"refuse": {"U003005": 1.0}}, Refused, "U003005"),
        ({"refuse": {"U005000": 1.0}}, TryLater, "U005000"),
        ({"refuse": {"M002010": 1.0}}, AlreadyThere, "M002010"),
        ({"refuse": {"U009000": 1.0}}, Unclear, "U009000"),
        ({"refuse": {"M999999": 1.0}}, Refused, "M999999"),
        ({"refuse": {"S999999": 1.0}}, Unclear, "S999999"),
        ({"commit_then_500_S001000": 1.0}, Unclear, "S001000"),
        ({"html_502": 1.0}, Unclear, "http_502"),
        ({"html_502_after_commit": 1.0}, Unclear, "http_502"),
        ({"empty_201": 1.0}, Unclear, "unreadable_answer"),
        ({"drop_before_commit": 1.0}, Unclear, "connection_reset"),
        ({"commit_then_drop_connection": 1.0}, Unclear, "connection_reset"),
    ],
)
@pytest.mark.parametrize("nulls", [True, False])
def test_every_answer_says_what_to_do(
    simulator: Simulator,
    calls: Callable[..., Source],
    knobs: dict[str, Any],
    error: type[ElepayError],
    code: str,
    nulls: bool,
) -> None:
    simulator.control(nulls_in_errors=nulls, **knobs)
    failure = failure_of(calls, simulator.url)
    assert type(failure) is error
    assert failure.code == code
    assert (failure.http_status is None) == (code == "connection_reset")
    if code[0] in "MSU":
        assert failure.request_id is not None
        assert failure.request_id.startswith("req_")


def test_every_form_of_a_malformed_201_is_unclear(simulator: Simulator) -> None:
    simulator.control(malformed_201=1.0)
    api = client(simulator.url)
    for number in range(20):
        with pytest.raises(Unclear):
            api.create_source(SourceRequest(f"cus_m{number}", "creditcard", "ios"), f"ref_{number}")
    api.close()
    assert simulator.statistics()["created"] == 20


def test_a_parameter_and_a_retry_after_reach_the_one_who_decides(
    simulator: Simulator, calls: Callable[..., Source]
) -> None:
    failure = failure_of(calls, simulator.url, SourceRequest("cus_1", "creditcard", "nowhere"))
    assert (type(failure), failure.code, failure.parameter) == (Refused, "M002002", "resource")
    simulator.control(http_429_with_retry_after=1.0, retry_after_seconds=7)
    assert failure_of(calls, simulator.url).retry_after_seconds == 7.0


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("999999999", 3600.0),
        ("0.5", 0.5),
        ("-5", 0.0),
        ("9" * 400, 3600.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
        ("Wednesday, 21-Oct-26 07:28:00 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Thu, 21 Oct 2027 07:28:00 GMT", 3600.0),
        ("", None),
        ("soon", None),
        ("5 minutes", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("\u0665".encode().decode("latin-1"), None),
        ("Wed, 99 Oct 2026 07:28:00 GMT", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_a_retry_after_is_bounded_and_nonsense_in_it_is_ignored(
    calls: Callable[..., Source], told: str, seconds: float | None
) -> None:
    date = "Date: Wed, 21 Oct 2026 07:27:30 GMT"
    with RawServer(http(400, {"errorCode": "M005000"}, f"Retry-After: {told}", date)) as server:
        assert failure_of(calls, server.url).retry_after_seconds == seconds


@pytest.mark.parametrize("date", [[], ["Date: yesterday"]])
def test_a_date_to_retry_after_counts_from_our_clock_if_the_answer_has_no_date(
    calls: Callable[..., Source], date: list[str]
) -> None:
    until = formatdate(time.time() + 100, usegmt=True)
    with RawServer(http(429, b"", f"Retry-After: {until}", *date)) as server:
        seconds = failure_of(calls, server.url).retry_after_seconds
    assert seconds is not None
    assert 80 < seconds <= 100


@pytest.mark.parametrize(
    ("fields", "status", "error", "code"),
    [
        ({"code": "9_elepay_creditcard_10101"}, 400, Refused, "U004000"),
        ({"code": "9_000_000_40029", "errorCode": None}, 400, AlreadyThere, "M002010"),
        ({"code": "9_000_000_40029", "errorCode": "M005000"}, 400, Throttled, "M005000"),
        ({"code": "9_000_000_99999"}, 400, Unclear, "http_400"),
        ({"code": "9_000_000_99999"}, 429, Throttled, "http_429"),
        ({"code": "40029"}, 400, Unclear, "http_400"),
        ({"code": "8_000_000_40029"}, 400, Unclear, "http_400"),
        ({"code": "9_000_000_40029 "}, 400, Unclear, "http_400"),
        ({"code": "9_000_000_4002\u0669"}, 400, Unclear, "http_400"),
        ({"errorCode": "nonsense", "code": "9_0_0_40028"}, 400, MethodClosed, "M001004"),
        ({"errorCode": "M00500\u0660"}, 429, Throttled, "http_429"),
        ({"errorCode": 5000}, 403, Halted, "http_403"),
        ({}, 400, Unclear, "http_400"),
        ({}, 401, Halted, "http_401"),
        ({}, 404, Halted, "http_404"),
        ({}, 413, Refused, "http_413"),
        ({}, 500, Unclear, "http_500"),
        ({}, 414, Refused, "http_414"),
        ({}, 431, Refused, "http_431"),
        ({}, 303, Halted, "http_303"),
        ({}, 405, Halted, "http_405"),
        ({}, 407, Halted, "http_407"),
        ({}, 503, Throttled, "http_503"),
        ({}, 504, Unclear, "http_504"),
    ],
)
def test_the_code_decides_then_its_old_form_then_the_http_status(
    calls: Callable[..., Source], fields: dict[str, Any], status: int, error: type[ElepayError], code: str
) -> None:
    with RawServer(http(status, {"message": "Declined for TARO YAMADA", **fields})) as server:
        failure = failure_of(calls, server.url)
        assert (type(failure), failure.code, failure.http_status) == (error, code, status)


def test_a_free_text_in_place_of_an_identifier_is_not_passed_on(calls: Callable[..., Source]) -> None:
    fields = {"errorCode": "M002002", "parameterName": "name of TARO YAMADA", "requestId": "x" * 500}
    with RawServer(http(400, fields)) as server:
        failure = failure_of(calls, server.url)
        assert (failure.parameter, failure.request_id) == (None, None)


# ---------------------------------------------------------------------- nothing was sent


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


# ---------------------------------------------------------------------- it may have been executed


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


# ---------------------------------------------------------------------- how it is asked


def test_the_headers_name_key_language_and_ourselves(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        calls(server.url)
        (head,) = server.heads
    assert head[""] == "POST /customers/cus_1/sources HTTP/1.1"
    assert head["authorization"] == f"Bearer {KEY}"
    assert head["accept-language"] == "en"
    assert head["user-agent"].startswith("elepay-onboarding/")
    assert head["content-type"] == "application/json;charset=utf-8"
    assert head["host"] == f"127.0.0.1:{server.port}"
    assert KEY not in head[""]


@pytest.mark.parametrize(
    ("customer", "segment"),
    [
        ("a/b", "a%2Fb"),
        ("a?b#c", "a%3Fb%23c"),
        ("a b", "a%20b"),
        ("a%2Fb", "a%252Fb"),
        ("../payment-methods", "..%2Fpayment-methods"),
        ("会員", "%E4%BC%9A%E5%93%A1"),
        ("a&b=c;d", "a%26b%3Dc%3Bd"),
        ("a\\b", "a%5Cb"),
        ("a@b:c", "a%40b%3Ac"),
    ],
)
def test_an_id_stays_one_segment_of_the_path(calls: Callable[..., Source], customer: str, segment: str) -> None:
    with RawServer(CREATED) as server:
        calls(server.url, SourceRequest(customer, "creditcard", "ios"))
        assert server.heads[0][""] == f"POST /customers/{segment}/sources HTTP/1.1"
        api = client(server.url)
        with pytest.raises(Unclear):
            api.list_sources(customer, "a&b")
        assert server.heads[1][""] == f"GET /customers/{segment}/sources?paymentMethod=a%26b HTTP/1.1"
        assert "content-length" not in server.heads[1]
        server.answer = http(200, {"id": customer, "status": "pending"})
        assert api.retrieve_source_status(customer) == "pending"
        assert server.heads[2][""] == f"GET /sources/{segment}/status HTTP/1.1"
        api.close()


def test_ids_with_odd_characters_arrive_as_they_are(simulator: Simulator) -> None:
    api = client(simulator.url)
    odd = "a/b?c#d%2F 会"
    created = api.create_source(SourceRequest(odd, "creditcard", "ios"), "ref_1")
    assert [source.id for source in api.list_sources(odd, "creditcard").sources] == [created.id]
    api.close()


def test_an_address_with_a_path_is_kept(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        calls(f"{server.url}/gateway/elepay/")
        assert server.heads[0][""] == "POST /gateway/elepay/customers/cus_1/sources HTTP/1.1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(calls: Callable[..., Source], status: int) -> None:
    with RawServer(CREATED) as other, RawServer(http(status, b"", f"Location: {other.url}/x")) as server:
        failure = failure_of(calls, server.url)
        assert (type(failure), failure.code) == (Halted, f"http_{status}")
        assert (len(server.requests), len(other.requests)) == (1, 0)


def test_proxies_of_the_environment_are_ignored_unless_asked_for(
    calls: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with RawServer(CREATED) as server, RawServer(http(407)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert calls(server.url).id == "src_1"
        assert proxy.requests == []
        failure = failure_of(calls, server.url, trust_env=True)
        assert (type(failure), failure.code) == (Halted, "http_407")
        assert len(proxy.requests) == 1
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert calls(server.url, trust_env=True).id == "src_1"


def test_credentials_of_a_netrc_do_not_replace_the_key(
    calls: Callable[..., Source], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(CREATED) as server:
        calls(server.url)
        assert server.heads[0]["authorization"] == f"Bearer {KEY}"


def test_one_connection_serves_many_requests_also_after_errors(calls: Callable[..., Source]) -> None:
    with RawServer(CREATED) as server:
        api = client(server.url)
        for at, answer in enumerate([201, 400, 502, 201] * 3):
            fields = source_of(id=f"src_{at}") if answer == 201 else {"errorCode": "M005000", "requestId": f"req_{at}"}
            server.answer = http(answer, fields)
            with suppress(ElepayError):
                api.create_source(REQUEST, f"ref_{at}")
        api.close()
        assert (len(server.requests), server.connections) == (12, 1)


def test_one_client_serves_many_threads(simulator: Simulator) -> None:
    simulator.control(latency_ms=20)
    api = client(simulator.url)
    ids: list[str] = []

    def create(thread: int) -> None:
        for number in range(10):
            request = SourceRequest(f"cus_{thread}_{number}", "creditcard", "ios")
            ids.append(api.create_source(request, f"ref_{thread}_{number}").id)

    threads = [threading.Thread(target=create, args=(thread,)) for thread in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    api.close()
    assert len(set(ids)) == 200
    assert simulator.statistics()["references"] == {"total": 200, "doubled": [], "doubled_count": 0}


# ---------------------------------------------------------------------- what is kept of an answer


def test_neither_credential_nor_card_data_is_kept(simulator: Simulator, calls: Callable[..., Source]) -> None:
    simulator.control(credential_in_lists=True, credential_on_retrieve=True)
    told = repr(calls(simulator.url))
    api = client(simulator.url)
    told += repr(api.list_sources("cus_1", "creditcard"))
    told += repr(api)
    api.close()
    for word in ("credential", "TARO", "cardInfo", "last4", "Membership", KEY):
        assert word not in told


def test_a_list_is_complete_only_if_elepay_says_so(simulator: Simulator) -> None:
    api = client(simulator.url)
    for number in range(3):
        api.create_source(REQUEST, f"ref_{number}")
    api.create_source(SourceRequest("cus_1", "paypay", "ios"), "other")
    listed = api.list_sources("cus_1", "creditcard")
    assert listed.complete
    assert [source.reference for source in listed.sources] == ["ref_0", "ref_1", "ref_2"]
    assert all(source.has_metadata for source in listed.sources)
    simulator.control(list_truncate_at=2)
    listed = api.list_sources("cus_1", "creditcard")
    assert (len(listed.sources), listed.complete) == (2, False)
    simulator.control(list_truncate_at=None, list_metadata=False)
    listed = api.list_sources("cus_1", "creditcard")
    assert [(source.reference, source.has_metadata) for source in listed.sources] == [(None, False)] * 3
    assert api.list_sources("cus_2", "creditcard") == SourceList([], complete=True)
    api.close()


@pytest.mark.parametrize(
    ("content", "complete"),
    [
        ({"total": 1, "sources": [source_of()]}, True),
        ({"total": 2, "sources": [source_of()]}, False),
        ({"sources": [source_of()]}, False),
        ({"total": "1", "sources": [source_of()]}, False),
        ({"total": None, "sources": []}, False),
        ({"total": 0, "sources": []}, True),
        ({"total": 2, "sources": [source_of(), None]}, False),
        ({"total": 1, "sources": [{"status": "x"}]}, False),
    ],
)
def test_a_list_whose_count_does_not_fit_is_incomplete(content: dict[str, Any], complete: bool) -> None:
    with RawServer(http(200, content)) as server:
        api = client(server.url)
        assert api.list_sources("cus_1", "creditcard").complete is complete
        api.close()


@pytest.mark.parametrize("content", [{}, {"total": 0}, {"sources": None}, {"total": 1, "sources": {"id": "src_1"}}, []])
def test_a_list_that_is_none_is_unclear(content: Any) -> None:
    with RawServer(http(200, content)) as server:
        api = client(server.url)
        failure = failure_of(api.list_sources, "cus_1", "creditcard")
        assert (type(failure), failure.code) == (Unclear, "unreadable_answer")
        api.close()


def test_metadata_of_a_strange_shape_carries_no_reference() -> None:
    sources = [source_of(metadata=odd) for odd in (None, [], "onboarding_ref", {}, {"onboarding_ref": 5}, {"a": "b"})]
    with RawServer(http(200, {"total": 6, "sources": sources})) as server:
        api = client(server.url)
        listed = api.list_sources("cus_1", "creditcard")
        api.close()
    assert [source.reference for source in listed.sources] == [None] * 6
    assert [source.has_metadata for source in listed.sources] == [False, False, False, False, True, True]


def test_the_status_is_asked_for_by_the_light_call(simulator: Simulator) -> None:
    api = client(simulator.url)
    source = api.create_source(REQUEST, "ref_1")
    simulator.post(f"sources/{source.id}/status", status="inactive")
    assert api.retrieve_source_status(source.id) == "inactive"
    assert type(failure_of(api.retrieve_source_status, "src_none")) is Refused
    api.close()
    assert "retrieveSource" not in simulator.statistics()["requests"]


def test_payment_methods_tell_which_can_hold_sources(simulator: Simulator) -> None:
    simulator.control(disabled_methods=["paypay"], single_source_methods=["paidy"])
    api = client(simulator.url)
    methods = {method.name: method for method in api.list_payment_methods()}
    api.close()
    assert "paypay" not in methods
    assert (methods["creditcard"].holds_sources, methods["creditcard"].holds_several) == (True, True)
    assert (methods["paidy"].holds_sources, methods["paidy"].holds_several) == (True, False)
    assert methods["konbini"].holds_sources is False
    assert "ios" in methods["creditcard"].resources


def test_payment_methods_of_a_strange_shape_say_nothing() -> None:
    listed = [
        {"paymentMethod": "creditcard"},
        {"paymentMethod": "paidy", "channelProperties": {"isSupportSource": "y"}},
    ]
    with RawServer(http(200, {"paymentMethods": [*listed, {}, None, "x"]})) as server:
        api = client(server.url)
        assert [(m.name, m.resources, m.holds_sources) for m in api.list_payment_methods()] == [
            ("creditcard", (), None),
            ("paidy", (), None),
        ]
        api.close()


# ---------------------------------------------------------------------- the machine stops


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
