"""What the bytes of an answer say, wherever they are cut; no sockets."""

from __future__ import annotations

import pytest

from tasks.elepay.exchange import Answer, Exchange
from tasks.errors import ElepayError

BODY = b'{"id": "src_1"}'
WITH_LENGTH = b"HTTP/1.1 201 Created\r\nContent-Length: 15\r\nDate: today\r\nX-Odd: 1\r\n\r\n" + BODY
CHUNKED = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n%b\r\nb\r\n%b\r\n0\r\n\r\n" % (
    BODY[:4],
    BODY[4:],
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"
UNTIL_THE_END = b"HTTP/1.1 201 Created\r\n\r\n" + BODY


def ignore(_result: Answer | ElepayError) -> None: ...


def exchange() -> Exchange:
    return Exchange(b"GET / HTTP/1.1\r\n\r\n", ignore)


@pytest.mark.parametrize("answer", [WITH_LENGTH, CHUNKED, INTERIM + WITH_LENGTH])
def test_an_answer_is_the_same_wherever_it_is_cut(answer: bytes) -> None:
    for cut in range(1, len(answer)):
        one = exchange()
        assert one.read(answer[:cut])
        assert one.answer is None
        assert one.read(answer[cut:])
        assert one.answer is not None
        assert (one.answer.status, one.answer.content, one.reusable) == (201, BODY, True)
        assert "x-odd" not in one.answer.headers
        assert "retry-after" not in one.answer.headers, "an interim answer is not the answer"


@pytest.mark.parametrize("answer", [WITH_LENGTH, CHUNKED, INTERIM])
def test_a_connection_that_ends_too_early_brings_no_answer(answer: bytes) -> None:
    for cut in range(len(answer)):
        one = exchange()
        assert not cut or one.read(answer[:cut])
        assert not one.read(b"")
        assert one.answer is None


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    one = exchange()
    assert one.read(UNTIL_THE_END)
    assert one.answer is None
    assert one.read(b"")
    assert one.answer == Answer(201, {}, BODY)
    assert not one.reusable


@pytest.mark.parametrize("surplus", [b"?", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"])
def test_what_follows_an_answer_does_not_change_it_and_ends_the_connection(surplus: bytes) -> None:
    one = exchange()
    assert one.read(WITH_LENGTH + surplus)
    assert one.answer == Answer(201, {"content-length": "15", "date": "today"}, BODY)
    assert not one.reusable


@pytest.mark.parametrize("garbage", [b"SSH-2.0\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 20])
def test_what_is_not_http_is_no_answer(garbage: bytes) -> None:
    one = exchange()
    assert not one.read(garbage)
    assert one.answer is None


@pytest.mark.parametrize("head", [b"HTTP/1.0 201 Created\r\n", b"HTTP/1.1 201 Created\r\nConnection: close\r\n"])
def test_a_connection_that_the_other_side_will_close_is_not_used_again(head: bytes) -> None:
    one = exchange()
    assert one.read(head + b"Content-Length: 15\r\n\r\n" + BODY)
    assert one.answer is not None
    assert not one.reusable


def test_an_exchange_that_is_over_holds_no_parser() -> None:
    one = exchange()
    one.read(WITH_LENGTH)
    one.end()
    assert one.over
    assert one.parser is None
