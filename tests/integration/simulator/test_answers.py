"""What the simulator answers, called by a real client over real connections."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from simulator_calls import Client, told


def test_a_source_comes_back_as_it_was_asked_for(elepay: Client) -> None:
    fields = {"description": "会員", "extra": {"frontUrl": "https://example.com"}, "metadata": {"onboarding_ref": "r"}}
    answer = elepay.create("cus_1", **fields)
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    source = answer.json()
    assert source.items() >= {**fields, "customerId": "cus_1", "liveMode": False, "object": "source"}.items()
    assert (source["paymentMethod"], source["resource"], source["status"]) == ("creditcard", "web", "pending")
    assert source["credential"].startswith("cred_")
    assert source["cardInfo"]["name"].startswith("TARO YAMADA-")
    assert len(source["id"]) <= 32


def test_the_same_body_twice_is_two_sources(elepay: Client) -> None:
    first, second = elepay.create().json(), elepay.create().json()
    assert first["id"] != second["id"]
    listed = elepay.sources()
    assert [listed["total"], *(each["id"] for each in listed["sources"])] == [2, first["id"], second["id"]]
    references = elepay.simulator.statistics()["references"]
    assert references == {"total": 1, "doubled": ["r1"], "doubled_count": 1}


@pytest.mark.parametrize(
    ("customer", "fields", "answer"),
    [
        ("cus_1", {"paymentMethod": None}, (400, "M002001", "paymentMethod")),
        ("cus_1", {"resource": None}, (400, "M002001", "resource")),
        ("cus_1", {"paymentMethod": "auto"}, (400, "M002002", "paymentMethod")),
        ("cus_1", {"resource": "offline"}, (400, "M002002", "resource")),
        ("cus_1", {"description": "x" * 256}, (400, "M002002", "description")),
        ("cus_1", {"extra": {"n": 1}}, (400, "M002002", "extra")),
        ("cus_1", {"metadata": {"k": "日" * 86}}, (400, "M002002", "metadata")),
        ("cus_1", {"paymentMethod": "wechatpay", "resource": "mini"}, (400, "M002001", "openid")),
        ("cus_1", {"paymentMethod": "linepay"}, (400, "M002005", None)),
        ("missing_1", {}, (400, "M002003", "customerId")),
        ("c" * 33, {}, (400, "M002002", "customerId")),
    ],
)
def test_what_elepay_does_not_accept(
    elepay: Client, customer: str, fields: dict[str, Any], answer: tuple[int, str, str | None]
) -> None:
    assert told(elepay.create(customer, **fields)) == answer
    assert elepay.simulator.statistics()["created"] == 0


def test_what_the_account_may_not(elepay: Client) -> None:
    elepay.simulator.control(disabled_methods=["paypay"], single_source_methods=["paidy"])
    assert told(elepay.create(paymentMethod="paypay")) == (400, "M001001", None)
    assert elepay.create(paymentMethod="paidy").status_code == 201
    assert told(elepay.create(paymentMethod="paidy")) == (400, "M002010", None)
    assert elepay.create("cus_2", paymentMethod="paidy").status_code == 201


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b"{", "application/json"), (b"[]", "application/json"), (b'{"resource":"web"}', "text/plain"), (b"{}", None)],
)
def test_a_body_that_is_no_json_object(elepay: Client, body: bytes, content_type: str | None) -> None:
    headers = {"Content-Type": content_type}
    answer = elepay.call("POST", "/customers/cus_1/sources", data=body, headers=headers)
    assert told(answer) == (400, "M002002", None)


def test_errors_speak_the_callers_language_and_can_be_quoted(elepay: Client) -> None:
    english, japanese = (
        elepay.call("GET", "/customers/missing_1", headers={"Accept-Language": language}).json()
        for language in ("en", "fr")
    )
    assert english["message"] == "The resource does not exist."
    assert japanese["message"] == "リソースが存在しません。"
    assert english["requestId"].startswith("req_")
    assert english["requestId"] != japanese["requestId"]
    assert english["code"].endswith("_40030")


def test_paths_and_methods_that_do_not_exist(elepay: Client) -> None:
    assert told(elepay.call("PUT", "/customers/cus_1/sources")) == (400, "M003000", None)
    assert elepay.call("GET", "/nowhere").status_code == 404
    elepay.simulator.control(not_found_as_html=True)
    assert elepay.call("GET", "/nowhere").headers["content-type"] == "text/html"


def test_look_ups(elepay: Client) -> None:
    source_id = elepay.create().json()["id"]
    elepay.create(paymentMethod="paypay")
    assert [each["id"] for each in elepay.sources(paymentMethod="creditcard")["sources"]] == [source_id]
    assert told(elepay.call("GET", "/customers/cus_1/sources?paymentMethod=x"))[1:] == ("M002002", "paymentMethod")
    retrieved = elepay.call("GET", f"/customers/cus_1/sources/{source_id}").json()
    assert retrieved["metadata"] == {"onboarding_ref": "r1"}
    assert "credential" not in retrieved
    assert told(elepay.call("GET", f"/customers/cus_2/sources/{source_id}")) == (400, "M002003", "sourceId")
    elepay.simulator.post(f"sources/{source_id}/status", status="active")
    status = elepay.call("GET", f"/sources/{source_id}/status").json()
    assert status == {"id": source_id, "appId": "app_simulated", "liveMode": False, "status": "active"}
    assert elepay.call("GET", "/customers/cus_1").json()["object"] == "customer"


def test_a_deleted_source_leaves_the_lists(elepay: Client) -> None:
    source_id = elepay.create().json()["id"]
    gone = elepay.call("DELETE", f"/customers/cus_1/sources/{source_id}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert elepay.sources() == {"total": 0, "sources": []}
    assert told(elepay.call("DELETE", f"/customers/cus_1/sources/{source_id}"))[1] == "M002003"
    assert elepay.call("GET", f"/sources/{source_id}/status").json()["status"] == "deleted"
    elepay.simulator.control(list_includes_deleted=True)
    assert elepay.sources()["total"] == 1


def test_payment_methods_and_error_codes(elepay: Client) -> None:
    methods = elepay.call("GET", "/payment-methods").json()
    assert methods["total"] == len(methods["paymentMethods"]) == 53
    codes = requests.get(elepay.simulator.url + "/error-codes", timeout=60).json()
    throttled = next(each for each in codes["items"] if each["code"] == "M005000")
    assert (throttled["httpStatus"], throttled["message"]["en"]) == (400, "Too many requests.")


# Keys


def test_keys(elepay: Client) -> None:
    url = elepay.simulator.url + "/customers/cus_1/sources"

    def by(**more: Any) -> tuple[int, str]:
        answer = requests.get(url, timeout=60, **more)
        return answer.status_code, answer.json().get("errorCode", "")

    def bearer(key: str) -> tuple[int, str]:
        return by(headers={"Authorization": f"Bearer {key}"})

    assert by() == (400, "M004002")
    assert bearer("nonsense") == (400, "M004001")
    assert bearer("sk_live_1") == (400, "M004001")
    assert bearer("pk_test_1") == (400, "M004003")
    assert by(auth=("sk_test_1", "")) == (200, "")
    assert by(auth=("sk_test_1", "password")) == (401, "M004001")
    elepay.simulator.control(strict401=True, accepted_keys=["sk_test_new"])
    assert (bearer("sk_test_old"), bearer("sk_test_new")) == ((401, "M004001"), (200, ""))
    counted = elepay.simulator.statistics()
    assert (counted["missing_auth"], counted["wrong_auth"]) == (1, 5)


def test_live_and_test_are_two_worlds(elepay: Client) -> None:
    elepay.simulator.control(live=True)
    elepay.create()
    elepay.session.headers["Authorization"] = "Bearer sk_live_1"
    assert elepay.sources()["total"] == 0
    live = elepay.create().json()
    assert live["liveMode"] is True
    publishable = {"Authorization": "Bearer pk_live_1"}
    assert elepay.call("GET", f"/sources/{live['id']}/status", headers=publishable).json()["liveMode"] is True
