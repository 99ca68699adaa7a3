"""No answer is believed without evidence that it belongs to its request (docs/reference/elepay-api.md §5)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from raw_calls import EMPTY, Client, clients, closed_by_client, create, error, failure, said
from raw_server import Asked, Scripted, created, http, source_of
from structlog.testing import capture_logs

from tasks.elepay.answers import Evidence, Recent
from tasks.errors import ElepayError, Halted, Refused, Throttled, Unclear
from tasks.models import Source


@pytest.fixture
def client() -> Iterator[Client]:
    """Clients that are closed at the end."""
    with clients() as connect:
        yield connect


# ---------------------------------------------------------------------- a create's answer


@pytest.mark.parametrize("edition", ["A, no metadata", "B"])
def test_an_answer_that_is_repeated_before_the_next_one_makes_no_source(client: Client, edition: str) -> None:
    less: dict[str, Any] = {} if edition == "B" else {"customerId": None, "metadata": None}

    def reply(asked: Asked) -> list[bytes | float]:
        own = created(asked, **less)
        return [created(server.asked[0], **less), own] if asked.number == 1 else [own]

    with Scripted(reply) as server:
        api = client(server)
        found = [create(api, number) for number in range(3)]
        assert [said(one) for one in found] == ["src_0", "answer_mismatch", "src_2"]
        assert isinstance(found[1], Unclear)
        assert found[1].http_status == 201
        closed_by_client(server, 1)
        assert server.lines == [0, 0, 1]


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.2])
def test_a_repeated_answer_is_never_the_next_requests(client: Client, pause: float) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        return [created(asked), pause, created(asked)] if pause else [created(asked) * 2]

    with Scripted(reply) as server:
        api = client(server)
        for number in range(12):
            assert said(create(api, number)) in (f"src_{len(server.asked) - 1}", "answer_mismatch")
            time.sleep(0.007 * number if pause else 0)  # before and after the repetition
        if not pause:
            assert server.connections == 12, "surplus bytes end a connection at once"


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"onboarding_ref": "ref_9"}},
        {"metadata": {"onboarding_ref": 7}},
        {"metadata": {"onboarding_ref": ""}},
        {"metadata": {"onboarding_ref": "ref_0\x00"}},
        {"customerId": "cus_9"},
        {"customerId": 7},
        {"customerId": ""},
        {"paymentMethod": "paypay", "metadata": None},
        {"paymentMethod": "paypay", "metadata": {}},
        {"paymentMethod": 7, "metadata": None, "customerId": None},
        {"resource": "web", "metadata": None},
        {"object": "customer", "metadata": None, "paymentMethod": None},
    ],
)
def test_an_answer_that_names_something_else_than_the_request_is_unclear(
    client: Client, fields: dict[str, Any]
) -> None:
    with Scripted(lambda asked: [created(asked, **fields)]) as server:
        found = create(client(server), 0)
        assert (type(found), said(found)) == (Unclear, "answer_mismatch")
        closed_by_client(server, 1)


@pytest.mark.parametrize(
    ("fields", "customer", "reference"),
    [
        ({}, "cus_0", "ref_0"),
        ({"customerId": None}, "", "ref_0"),
        ({"metadata": None}, "cus_0", None),
        ({"metadata": {"onboarding_ref": None}}, "cus_0", None),
        ({"metadata": "ref_0", "customerId": None, "object": None}, "", None),
        ({"metadata": [], "customerId": None, "paymentMethod": None, "object": "source"}, "", None),
    ],
)
def test_what_an_answer_does_not_say_is_no_contradiction(
    client: Client, fields: dict[str, Any], customer: str, reference: str | None
) -> None:
    with Scripted(lambda asked: [created(asked, **fields)]) as server:
        api = client(server)
        found = create(api, 0)
        assert isinstance(found, Source)
        assert (found.customer_id, found.reference) == (customer, reference)
        create(api, 1)
        assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "job_1"},
        {"id": "job_1", "status": "pending", "metadata": {}},
        {"id": "cus_0", "object": "source", "liveMode": False},
        {**source_of(), "errorCode": "M002003"},
        {**source_of(), "code": "9_elepay_creditcard_10101"},
    ],
)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_what_does_not_name_itself_a_source_is_none(client: Client, status: int, answer: dict[str, Any]) -> None:
    """A queue in between, the customer itself, a failure under a good status."""
    with Scripted(lambda _: [http(status, answer)]) as server:
        found = create(client(server), 0)
        assert (type(found), said(found)) == (Unclear, "unreadable_answer")


def test_another_payment_method_with_the_right_reference_is_logged_once_and_counts(client: Client) -> None:
    with Scripted(lambda asked: [created(asked, paymentMethod="alipayplus")]) as server, capture_logs() as logs:
        api = client(server)
        assert [said(create(api, number)) for number in range(3)] == ["src_0", "src_1", "src_2"]
        assert server.connections == 1
    assert logs == [
        {
            "event": "elepay answers with another payment method than was requested",
            "log_level": "warning",
            "requested": "creditcard",
            "answered": "alipayplus",
        }
    ]


def test_a_source_id_that_came_for_another_request_is_unclear(client: Client) -> None:
    with Scripted(lambda asked: [created(asked, id="src_0")]) as server:
        api = client(server)
        assert [said(create(api, number)) for number in (0, 1, 0)] == ["src_0", "answer_mismatch", "src_0"]
        assert server.lines == [0, 0, 1]


def test_what_is_remembered_is_bounded() -> None:
    recent = Recent(10)
    assert [recent.note(str(number), "first") for number in range(1000)] == [None] * 1000
    assert [recent.note(str(number), "second") for number in range(990, 1000)] == ["first"] * 10
    assert recent.note("0") is None
    assert len(recent._new) + len(recent._old) <= 20


# ---------------------------------------------------------------------- an error


def test_an_error_counts_once(client: Client) -> None:
    """For creates and for questions, whichever had it first; a new request id counts on the same connection."""
    ids = ["req_1", "req_1", "req_2", "req_1", "req_3"]
    with Scripted(lambda asked: [error(request_id=ids[asked.number])]) as server:
        api = client(server)
        found = [create(api, 0), create(api, 1), create(api, 2)]
        assert [(type(one), said(one)) for one in found] == [
            (Throttled, "M005000"),
            (Unclear, "answer_repeated"),
            (Throttled, "M005000"),
        ]
        assert isinstance(found[1], ElepayError)
        assert found[1].http_status == 400
        assert type(failure(api.list_sources, "cus_1", "creditcard")) is Unclear
        assert type(failure(api.list_payment_methods)) is Throttled
        assert server.lines == [0, 0, 1, 1, 2]


def test_the_request_id_of_any_answer_is_remembered(client: Client) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        return [created(asked, requestId="req_1") if asked.number == 0 else error(request_id="req_1")]

    with Scripted(reply) as server:
        api = client(server)
        assert [said(create(api, number)) for number in range(2)] == ["src_0", "answer_repeated"]


@pytest.mark.parametrize("request_id", [None, "", "x" * 65, "a b"])
def test_an_error_without_a_request_id_counts_and_ends_its_connection(client: Client, request_id: str | None) -> None:
    with Scripted(lambda _: [error("U003005", request_id)]) as server:
        api = client(server)
        found = [create(api, number) for number in range(3)]
        assert [(type(one), said(one)) for one in found] == [(Refused, "U003005")] * 3
        assert server.lines == [0, 1, 2]
        assert type(failure(api.list_sources, "cus_1", "creditcard")) is Refused
        closed_by_client(server, 4)


@pytest.mark.parametrize(
    ("status", "body", "kind", "bare"),
    [
        (400, {"errorCode": "U003005"}, Refused, False),
        (400, {"errorCode": "U99999"}, Unclear, True),
        (403, {"code": "9_000_000_40029"}, ElepayError, False),
        (403, {"code": "9_000_000_99999"}, Halted, False),
        (503, {"code": "9_elepay_creditcard_99999"}, Throttled, False),
        (403, {"code": "x_000_000_40029"}, Halted, True),
        (403, {"code": "9_0_40029"}, Halted, True),
        (303, b"", Halted, True),
        (404, b"<html>", Halted, True),
        (413, [], Refused, True),
        (429, {"message": "slow down", "requestId": "req_1"}, Throttled, True),
        (503, b"", Throttled, True),
        (502, b"", Unclear, True),
    ],
)
def test_only_an_own_error_body_of_elepay_is_not_bare(
    client: Client, status: int, body: Any, kind: type[ElepayError], bare: bool
) -> None:
    with Scripted(lambda _: [http(status, body)]) as server:
        found = create(client(server), 0)
        assert isinstance(found, kind)
        assert (found.bare, found.http_status) == (bare, status)


# ---------------------------------------------------------------------- lists and other questions


def test_a_list_of_another_customer_is_unclear(client: Client) -> None:
    listed = [source_of(customerId="cus_1"), source_of(id="src_2", customerId="cus_2")]
    answers = [{"total": 2, "sources": listed}, {"total": 1, "sources": listed[:1]}]
    with Scripted(lambda asked: [http(200, answers[asked.number])]) as server:
        api = client(server)
        found = failure(api.list_sources, "cus_1", "creditcard")
        assert (type(found), found.code, found.http_status) == (Unclear, "answer_mismatch", 200)
        assert [one.customer_id for one in api.list_sources("cus_1", "creditcard").sources] == ["cus_1"]
        assert server.lines == [0, 1]


@pytest.mark.parametrize("bad", [{}, {"id": 7}, {"id": "a b"}, {"id": "\ud800"}, {"id": "x" * 65}, {"id": ""}, "src_2"])
def test_a_malformed_source_does_not_hide_the_others(client: Client, bad: Any) -> None:
    listed = [bad, source_of(metadata={"onboarding_ref": "ref_1"})]
    with Scripted(lambda _: [http(200, {"total": 2, "sources": listed})]) as server:
        found = client(server).list_sources("cus_1", "creditcard")
        assert [(one.id, one.reference) for one in found.sources] == [("src_1", "ref_1")]
        assert not found.complete


@pytest.mark.parametrize("odd", ["src 1", "src\x001", "\ud800", "s" * 65, "ｓ", "", "src_1\n", "\x7f"])
def test_an_odd_id_or_status_never_leaves(client: Client, odd: str) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        if b"/status" in asked.request[:60]:
            return [http(200, {"id": "src_1", "status": odd})]
        if b"payment-methods" in asked.request[:60]:
            listed = [{"paymentMethod": odd}, {"paymentMethod": "paidy", "resources": [odd, "ios", 7]}]
            return [http(200, {"paymentMethods": listed})]
        if asked.request.startswith(b"GET"):
            sources = [source_of(status=odd, paymentMethod=odd, metadata={"onboarding_ref": odd + "\x00"})]
            return [http(200, {"total": 1, "sources": sources})]
        return [created(asked, id=odd) if asked.number == 0 else created(asked, status=201, resource=odd)]

    with Scripted(reply) as server:
        api = client(server)
        assert said(create(api, 0)) == "unreadable_answer"
        (listed,) = api.list_sources("cus_1", "creditcard").sources
        assert (listed.status, listed.payment_method, listed.reference) == ("", "", None)
        found = failure(api.retrieve_source_status, "src_1")
        assert (type(found), found.code) == (Unclear, "unreadable_answer")
        assert [(one.name, one.resources) for one in api.list_payment_methods()] == [("paidy", ("ios",))]


def test_the_status_of_another_source_is_unclear(client: Client) -> None:
    ids = ["src_2", "src_1"]
    with Scripted(lambda asked: [http(200, {"id": ids[asked.number], "status": "active"})]) as server:
        api = client(server)
        assert failure(api.retrieve_source_status, "src_1").code == "answer_mismatch"
        assert api.retrieve_source_status("src_1") == "active"
        assert server.lines == [0, 1]


# ---------------------------------------------------------------------- what can be read


@pytest.mark.parametrize(
    ("before", "field"),
    [
        (b"\xef\xbb\xbf", b'"x": 1'),
        (b"", b'"x": NaN'),
        (b"", b'"x": [Infinity, -Infinity]'),
        (b"", rb'"x": "\ud800"'),
        (b"", b'"x": "\xff\xfe"'),
        (b"", b'"x": "a\tb"'),
        (b"\xef\xbb\xbf", rb'"x": "\udc00", "y": NaN, "z": "' + b'\xc3"'),
    ],
)
def test_what_nobody_reads_makes_no_answer_unreadable(client: Client, before: bytes, field: bytes) -> None:
    def reply(asked: Asked) -> list[bytes | float]:
        body = json.dumps({**source_of(id=f"src_{asked.number}"), "metadata": asked.body["metadata"]}).encode()
        return [http(201, before + b"{" + field + b"," + body[1:])]

    with Scripted(reply) as server:
        api = client(server)
        assert [said(create(api, number)) for number in range(2)] == ["src_0", "src_1"]
        assert server.connections == 1


@pytest.mark.parametrize("depth", [900, 1100, 100_000])
def test_what_is_deeply_nested_is_unreadable_at_most(client: Client, depth: int) -> None:
    nested = b'{"id": "src_1", "x": ' + b"[" * depth + b"]" * depth + b"}"
    with Scripted(lambda asked: [http(201, nested if asked.number % 2 == 0 else b"[" * depth)]) as server:
        api = client(server)
        assert said(create(api, 0)) in ("src_1", "unreadable_answer")
        assert said(create(api, 1)) == "unreadable_answer"
        assert not api.failed


def test_a_number_of_endless_digits_is_unreadable(client: Client) -> None:
    with Scripted(lambda _: [http(201, b'{"id": "src_1", "x": NaN, "y": ' + b"9" * 5000 + b"}")]) as server:
        assert said(create(client(server), 0)) == "unreadable_answer"


def test_a_failure_of_our_own_in_reading_leaves_nobody_waiting(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Evidence, "decode", lambda *_: 1 // 0)
    with Scripted(lambda _: [EMPTY]) as server:
        api = client(server)
        assert said(create(api, 0)) == "internal_error"
        assert failure(api.list_sources, "cus_1", "creditcard").code == "internal_error"
        assert server.lines == [0, 1]
