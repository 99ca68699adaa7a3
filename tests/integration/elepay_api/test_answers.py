"""What each answer of elepay means."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from elepay_calls import CREATED, client, failure_of
from factories import Simulator
from raw_server import RawServer, http, source_of

from tasks.errors import (
    AlreadyThere,
    ElepayError,
    Halted,
    Maintenance,
    MethodClosed,
    Refused,
    Throttled,
    TryLater,
    Unclear,
)
from tasks.models import Source, SourceRequest


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
