from __future__ import annotations

import base64

import orjson
import pytest

from simulator.answers import error, language_of, payment_methods_content
from simulator.authority import Doorkeeper
from simulator.catalogue import PAYMENT_METHODS, SOURCE_METHODS, error_codes
from simulator.profile import Profile, changed
from simulator.routing import operation_of
from simulator.validation import Problem


def test_the_catalogue_is_complete() -> None:
    assert len(PAYMENT_METHODS) == len(set(PAYMENT_METHODS)) == 53
    codes = error_codes()
    assert len(codes) == 72
    assert {code[0]: sum(each[0] == code[0] for each in codes) for code in codes} == {"M": 32, "S": 4, "U": 36}
    assert all(each.en and each.ja for each in codes.values())


@pytest.mark.parametrize(
    ("header", "language"),
    [
        (b"", "ja"),
        (b"en", "en"),
        (b"en-GB,en;q=0.9", "en"),
        (b"fr, zh-TW;q=0.8", "zh-TW"),
        (b"ja-JP", "ja"),
        (b"*", "ja"),
    ],
)
def test_the_language_of_an_error(header: bytes, language: str) -> None:
    assert language_of(header) == language


def test_an_error_in_both_forms() -> None:
    problem = Problem("M002001", "resource")
    shown = orjson.loads(error(problem, "req_1", "en", Profile()).body)
    assert shown == {
        "requestId": "req_1",
        "message": "A required parameter is missing.",
        "errorCode": "M002001",
        "code": "9_elepay_source_40013",
        "parameterName": "resource",
        "providerError": None,
    }
    bare = orjson.loads(error(Problem("M005000"), "req_1", "ja", changed(Profile(), {"nulls_in_errors": False})).body)
    assert bare == {"requestId": "req_1", "message": "リクエストが多すぎます。", "errorCode": "M005000"}
    legacy = orjson.loads(error(problem, "req_1", "en", changed(Profile(), {"error_fields": "legacy"})).body)
    assert "errorCode" not in legacy
    assert legacy["code"].endswith("_40013")


def test_a_code_that_does_not_exist_yet_is_sent_like_any_other() -> None:
    answer = error(Problem("S099999"), "req_1", "en", Profile())
    assert (answer.status, answer.label) == (500, "S099999")


def test_methods_that_hold_sources_say_so() -> None:
    shown = payment_methods_content(
        changed(Profile(), {"disabled_methods": ["tng"], "single_source_methods": ["paypay"]})
    )
    by_name = {each["paymentMethod"]: each for each in shown["paymentMethods"]}
    assert shown["total"] == len(by_name) == 52
    assert {name for name, each in by_name.items() if each["channelProperties"]["isSupportSource"]} == set(
        SOURCE_METHODS
    )
    assert not by_name["paypay"]["channelProperties"]["isSupportMultipleSource"]


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", b"/customers/c/sources", ("createSource", "c", "")),
        ("GET", b"/customers/a%2Fb%20c/sources", ("listSources", "a/b c", "")),
        ("PUT", b"/customers/c/sources", ("wrongMethod", "c", "")),
        ("DELETE", b"/customers/c/sources/s", ("deleteSource", "c", "s")),
        ("GET", b"/sources/s/status", ("retrieveSourceStatus", "", "s")),
        ("GET", b"/customers/c", ("retrieveCustomer", "c", "")),
        ("GET", b"/customers//sources", ("unknownPath", "", "")),
        ("GET", b"/customers/c/sources/", ("unknownPath", "", "")),
        ("GET", b"/", ("unknownPath", "", "")),
    ],
)
def test_paths(method: str, path: bytes, operation: tuple[str, str, str]) -> None:
    assert operation_of(method, path) == operation


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"Bearer sk_test_a", None),
        (b"bearer sk_test_a", None),
        (basic("sk_test_a:"), None),
        (basic("sk_test_a:secret"), "M004001"),
        (b"Basic sk_test_a", "M004001"),
        (b"Bearer sk_live_a", "M004001"),
        (b"Bearer sk_test_", "M004001"),
        (b"Bearer ", "M004001"),
        (b"Digest sk_test_a", "M004001"),
        (b"", "M004002"),
        (b" ", "M004002"),
    ],
)
def test_keys(header: bytes, code: str | None) -> None:
    permit = Doorkeeper(Profile()).judge(header)
    assert (permit.problem.code if permit.problem else None) == code


def test_keys_can_be_restricted_and_rotated() -> None:
    doorkeeper = Doorkeeper(changed(Profile(), {"accepted_keys": ["sk_test_old"]}))
    assert doorkeeper.judge(b"Bearer sk_test_old").problem is None
    assert doorkeeper.judge(b"Bearer sk_test_new").problem is not None
    doorkeeper.change(changed(Profile(), {"accepted_keys": ["sk_test_new"]}))
    assert doorkeeper.judge(b"Bearer sk_test_old").problem is not None
    assert doorkeeper.judge(b"Bearer sk_test_new").problem is None


def test_live_keys_are_for_live_profiles() -> None:
    assert Doorkeeper(changed(Profile(), {"live": True})).judge(b"Bearer sk_live_a").live_mode
