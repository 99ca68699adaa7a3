"""Whatever elepay, or something in its place, answers: one of our errors, or a source of the request, soon."""

from __future__ import annotations

import itertools
import queue
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from elepay_calls import client
from factories import KEY, examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mutated_answers import LIST, SOURCE, Drawn, Heard, answers, heard, written
from raw_server import RawServer

from tasks.elepay.client import ElepayApi, SourceList
from tasks.elepay.exchange import MAX_ANSWER_BYTES
from tasks.elepay.http_transport import Deadlines
from tasks.errors import ElepayError, NotSent, Unclear
from tasks.models import Source, SourceRequest

#: A server that holds its connection open is waited for so long.
READ_SECONDS = 0.5

ERROR_CODE = re.compile(r"[MUS][0-9]{6}")
LEGACY_CODE = re.compile(r"9_[A-Za-z0-9_]+_[A-Za-z0-9_]+_[0-9]{5}")
numbers = itertools.count(1)


def search(test: Callable[..., None]) -> Callable[..., None]:
    """Let a search run by `make test` in short and by `make resilience` in full."""
    return pytest.mark.resilience(pytest.mark.representative(test))


searched = settings(deadline=None, suppress_health_check=list(HealthCheck))


class Place(NamedTuple):
    """A server that answers as it is told, and a client of it."""

    server: RawServer
    api: ElepayApi

    def answer(self, raw: bytes) -> None:
        """Answer the next requests so, and close their connections."""
        self.server.answer = lambda connection: connection.sendall(raw)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """One for all examples: answers to one request must not change what comes of the next."""
    with RawServer(b"") as server:
        api = client(server.url, Deadlines(connect=5, read=20, total=30))
        yield Place(server, api)
        api.close()


def numbered(number: int) -> tuple[SourceRequest, str]:
    return SourceRequest(f"cus_{number}", "creditcard", "ios"), f"ref_{number}"


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call returns, or its ElepayError; anything else that it raises fails the test."""
    try:
        return call(*arguments)
    except ElepayError as error:
        return error


def is_own_error(answer: Heard | None) -> bool:
    """Return whether an answer is an error body of elepay's own (docs/reference/elepay-api.md §5.1)."""
    if answer is None or 200 <= answer.status < 300:
        return False
    code, legacy = answer.fields.get("errorCode"), answer.fields.get("code")
    found = [ERROR_CODE.fullmatch(code)] if isinstance(code, str) else []
    found += [LEGACY_CODE.fullmatch(legacy)] if isinstance(legacy, str) else []
    return any(found)


def expect_error(error: ElepayError, answer: Heard | None) -> None:
    """Expect that an error does not claim more than its answer says: the request has arrived at the server."""
    assert error.code != "internal_error"
    assert not isinstance(error, NotSent)
    assert isinstance(error, Unclear) or error.bare or is_own_error(answer), repr(error)
    for word in ("TARO", "4242", "cred_", KEY):
        assert word not in f"{error!r} {vars(error)}"


def expect_source(source: Source, number: int, answer: Heard | None) -> None:
    """Expect that an answer is whole, and names a source of this request and of no other."""
    request, reference = numbered(number)
    assert answer is not None
    assert 200 <= answer.status < 300
    fields, kept = answer.fields, answer.fields.get("metadata")
    named = kept.get("onboarding_ref") if isinstance(kept, dict) else None
    assert source.id == fields["id"] != request.customer_id
    assert fields.get("customerId") in (None, request.customer_id)
    assert named in (None, reference)
    assert not is_own_error(answer._replace(status=400))
    if named is None:
        assert fields.get("object") in (None, "source")
        assert fields.get("paymentMethod") in (None, request.payment_method)
        assert fields.get("resource") in (None, request.resource)
        assert "source" in str(fields.get("object")) or fields.get("paymentMethod")


@search
@example(Drawn("HTTP/1.1 000 Whatever", '{"errorCode": "M002002"}', frame="to the end"))
@example(Drawn("HTTP/1.1 202 Accepted", '{"id": "job_1", "status": "pending"}'))
@example(Drawn("HTTP/1.1 200 OK", '{"id": "{cus}", "object": "customer", "status": "active"}'))
@example(Drawn("HTTP/1.1 201 Created", written({**SOURCE, "errorCode": "M002003"}, "utf-8")))
@example(Drawn("HTTP/1.1 201 Created", written({**SOURCE, "metadata": None, "resource": "web"}, "utf-8")))
@example(Drawn("HTTP/1.1 201 Created", '{"a":[…'))
@example(Drawn("HTTP/1.1 429 Slow", "{}", headers=("Retry-After: 9…", "Content-Encoding: gzip")))
@settings(searched, max_examples=examples(900))
@given(answers())
def test_no_answer_to_a_create_says_more_than_it_proves(place: Place, drawn: Drawn) -> None:
    number = next(numbers)
    raw = drawn.to(number)
    place.answer(raw)
    found = outcome(place.api.create_source, *numbered(number))
    answer = heard(raw, "POST")
    if isinstance(found, ElepayError):
        expect_error(found, answer)
    elif "content-encoding" not in (answer or Heard(0, {}, b"")).headers:
        expect_source(found, number, answer)


@search
@example(Drawn("HTTP/1.1 200 OK", '{"total": false, "sources": []}'))
@example(Drawn("\rHTTP/1.1 200 OK", written(LIST, "utf-8")))
@example(Drawn("HTTP/1.1 200 OK", '{"total": 1.0, "sources": [{"id": "src_1"}]}'))
@example(Drawn("HTTP/1.1 200 OK", '{"total": 0, "sources": [], "errorCode": "M005000"}'))
@settings(searched, max_examples=examples(500))
@given(answers("HTTP/1.1 200 OK", LIST))
def test_no_list_is_complete_unless_it_says_so(place: Place, drawn: Drawn) -> None:
    number = next(numbers)
    raw = drawn.to(number)
    place.answer(raw)
    found = outcome(place.api.list_sources, f"cus_{number}", "creditcard")
    answer = heard(raw, "GET")
    if isinstance(found, ElepayError):
        expect_error(found, answer)
    else:
        expect_list(found, number, answer or Heard(0, {}, b""))


def expect_list(found: SourceList, number: int, answer: Heard) -> None:
    """Expect that a list names this customer only, and that one which is called complete says so itself."""
    listed, total = answer.fields["sources"], answer.fields.get("total")
    assert 200 <= answer.status < 300
    named = [one for one in listed if isinstance(one, dict)]
    assert {f"cus_{number}"} >= {one["customerId"] for one in named if one.get("customerId") is not None}
    assert {source.id for source in found.sources} <= {str(one.get("id")) for one in named}
    if found.complete:
        assert (type(total), total) == (int, len(listed))
        assert len(found.sources) == len(listed)
        assert not is_own_error(answer._replace(status=400))


@search
@settings(searched, max_examples=examples(400))
@given(answers("HTTP/1.1 200 OK", {"id": "{src}", "liveMode": False, "status": "active"}))
def test_no_answer_to_the_smaller_questions_is_more_than_an_error(place: Place, drawn: Drawn) -> None:
    number = next(numbers)
    raw = drawn.to(number)
    place.answer(raw)
    status = outcome(place.api.retrieve_source_status, f"src_{number}")
    answer = heard(raw, "GET")
    if isinstance(status, ElepayError):
        expect_error(status, answer)
    else:
        assert answer is not None
        assert answer.fields["status"] == status
        assert answer.fields.get("id") in (None, f"src_{number}")
    methods = outcome(place.api.list_payment_methods)
    if isinstance(methods, ElepayError):
        expect_error(methods, answer)
    else:
        assert all(isinstance(one.name, str) and one.name for one in methods)


@search
@settings(searched, max_examples=examples(60) // 3)
@given(st.lists(answers(), min_size=16, max_size=16))
def test_whoever_holds_a_connection_open_is_left_in_time(drawn: list[Drawn]) -> None:
    """Each call ends by its deadlines, and the client closes the connection."""
    turns = itertools.cycle(drawn)

    def hold(connection: socket.socket) -> None:
        connection.sendall(next(turns).to(0))
        while connection.recv(65536):
            pass

    with RawServer(hold) as server:
        api = client(server.url, Deadlines(connect=5, read=READ_SECONDS, total=2 * READ_SECONDS))
        done: queue.SimpleQueue[Source | ElepayError] = queue.SimpleQueue()
        started = time.monotonic()
        for number, _ in enumerate(drawn):
            api.begin_create(*numbered(number), done.put)
        for found in [done.get(timeout=20) for _ in drawn]:
            assert isinstance(found, Source) or found.code != "internal_error"
        took = time.monotonic() - started
        api.close()
    assert took < 2 * READ_SECONDS + 3


def peak_megabytes() -> float:
    """Return how much memory this process had at most since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def forget_peak() -> None:
    """Let the peak be what there is now."""
    Path("/proc/self/clear_refs").write_text("5")


@pytest.mark.parametrize(
    "content", [b'{"a": [' + b"[]," * 30_000, b"[" * 90_000, b'{"a": "' + b"\xff" * 90_000, b" " * 90_000]
)
@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 201 Created\r\n\r\n", b"HTTP/1.1 201 Created\r\nX-Long: ", b"HTTP/1.1 103 Early\r\n\r\n" * 9000]
)
def test_endless_answers_take_little_memory(head: bytes, content: bytes) -> None:
    """Twenty at once, each of 32 MB if it is read to its end."""

    def pour(connection: socket.socket) -> None:
        connection.sendall(head)
        for _ in range(32_000_000 // len(content)):
            connection.sendall(content)

    with RawServer(pour) as server:
        api = client(server.url)
        done: queue.SimpleQueue[Source | ElepayError] = queue.SimpleQueue()
        forget_peak()
        before = peak_megabytes()
        for number in range(20):
            api.begin_create(*numbered(number), done.put)
        found = [done.get(timeout=30) for _ in range(20)]
        peak = peak_megabytes()
        api.close()
    assert {type(one) for one in found} == {Unclear}
    assert peak - before < 60, "twenty times half a megabyte, and what Python makes of one of them"


@pytest.mark.parametrize("piece", ["{}", "[]", '"x"', "0", '{"id": "src_1"}'])
def test_the_longest_answer_that_is_read_takes_little_memory(place: Place, piece: str) -> None:
    text = f'{{"id": "src_1", "more": [{",".join([piece] * (MAX_ANSWER_BYTES // (len(piece) + 1) - 200))}]}}'
    place.answer(Drawn("HTTP/1.1 201 Created", text).to(0))
    forget_peak()
    before = peak_megabytes()
    assert type(outcome(place.api.create_source, *numbered(0))) is Unclear
    assert peak_megabytes() - before < 60
