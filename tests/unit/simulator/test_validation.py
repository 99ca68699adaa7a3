from __future__ import annotations

import orjson
import pytest

from simulator.validation import Problem, SourceFields, check_source, is_json, read_source

JSON = b"application/json;charset=utf-8"
GOOD = {"paymentMethod": "creditcard", "resource": "web"}


def test_the_smallest_body_is_enough() -> None:
    assert read_source(orjson.dumps(GOOD), JSON) == SourceFields("creditcard", "web", None, {}, {})


def test_unknown_fields_are_no_problem() -> None:
    assert isinstance(check_source({**GOOD, "later": [1, {}]}), SourceFields)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"paymentMethod": None}, Problem("M002001", "paymentMethod")),
        ({"paymentMethod": ""}, Problem("M002001", "paymentMethod")),
        ({"resource": None}, Problem("M002001", "resource")),
        ({"paymentMethod": "wechat"}, Problem("M002002", "paymentMethod")),
        ({"paymentMethod": "auto"}, Problem("M002002", "paymentMethod")),
        ({"paymentMethod": 7}, Problem("M002002", "paymentMethod")),
        ({"resource": "offline"}, Problem("M002002", "resource")),
        ({"resource": ["web"]}, Problem("M002002", "resource")),
        ({"description": "x" * 256}, Problem("M002002", "description")),
        ({"description": 1}, Problem("M002002", "description")),
        ({"extra": []}, Problem("M002002", "extra")),
        ({"extra": {"n": 1}}, Problem("M002002", "extra")),
        ({"metadata": {"k" * 21: "v"}}, Problem("M002002", "metadata")),
        ({"metadata": {str(n): "v" for n in range(21)}}, Problem("M002002", "metadata")),
        ({"metadata": {"k": {"nested": "v"}}}, Problem("M002002", "metadata")),
        ({"metadata": {"k": None}}, Problem("M002002", "metadata")),
        ({"metadata": {"k": "日" * 86}}, Problem("M002002", "metadata")),
        ({"paymentMethod": "wechatpay", "resource": "mini"}, Problem("M002001", "openid")),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], problem: Problem) -> None:
    assert check_source({**GOOD, **changes}) == problem


def test_the_limits_themselves_are_allowed() -> None:
    body = {
        **GOOD,
        "description": "説" * 255,
        "extra": {f"{n:020d}": "日" * 85 for n in range(20)},
        "metadata": {f"{n:020d}": "x" * 255 for n in range(20)},
    }
    assert isinstance(read_source(orjson.dumps(body), JSON), SourceFields)


def test_wechatpay_in_a_mini_program_wants_an_openid() -> None:
    body = {"paymentMethod": "wechatpay", "resource": "mini", "extra": {"openid": "o1"}}
    assert isinstance(check_source(body), SourceFields)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b'{"a": "\xff"}', b" " * (1024 * 1024 + 1)])
def test_a_body_that_is_no_json_object_is_a_bad_value(body: bytes) -> None:
    assert read_source(body, JSON) == Problem("M002002")


@pytest.mark.parametrize(
    ("content_type", "right"),
    [
        (b"application/json", True),
        (b"application/json;charset=utf-8", True),
        (b"Application/JSON; charset=UTF-8", True),
        (b'application/json; charset="utf-8"', True),
        (b"application/json; charset=shift_jis", False),
        (b"application/x-www-form-urlencoded", False),
        (b"text/plain", False),
        (b"", False),
    ],
)
def test_the_content_type_must_be_json_in_utf_8(content_type: bytes, right: bool) -> None:
    assert is_json(content_type) is right
    assert isinstance(read_source(orjson.dumps(GOOD), content_type), SourceFields) is right
