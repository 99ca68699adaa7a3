"""The simulator as a process, called by a real client over real connections."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests
from factories import KEY, ROOT, Simulator, wait_until

AUTHORIZATION = {"Authorization": f"Bearer {KEY}", "Accept-Language": "en"}
NO_ANSWER = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


class Client:
    """elepay's caller: one attempt a call, nothing repeated."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers.update(AUTHORIZATION)

    def create(self, customer: str = "cus_1", reference: str | None = "r1", **fields: Any) -> requests.Response:
        body: dict[str, Any] = {"paymentMethod": "creditcard", "resource": "web", **fields}
        if reference is not None:
            body.setdefault("metadata", {"onboarding_ref": reference})
        body = {name: value for name, value in body.items() if value is not None}
        return self.call("POST", f"/customers/{customer}/sources", json=body)

    def sources(self, customer: str = "cus_1", **query: str) -> dict[str, Any]:
        answer = self.call("GET", f"/customers/{customer}/sources", params=query)
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content

    def heard(self, customer: str, reference: str) -> str:
        """Create, and say in a few words what came of it."""
        try:
            answer = self.create(customer, reference)
        except NO_ANSWER:
            return "no answer"
        is_json = answer.headers["content-type"].startswith("application/json")
        return f"{answer.status_code} {answer.json().get('errorCode') if is_json else 'page'}"

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        more.setdefault("timeout", 5)
        return self.session.request(method, self.simulator.url + path, **more)


def told(answer: requests.Response) -> tuple[int, str, str | None]:
    content = answer.json()
    return answer.status_code, content["errorCode"], content["parameterName"]


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def elepay(process: Simulator) -> Iterator[Client]:
    """An empty elepay without faults."""
    process.post("reset")
    client = Client(process)
    yield client
    client.session.close()


# What it answers


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
    codes = requests.get(elepay.simulator.url + "/error-codes", timeout=5).json()
    throttled = next(each for each in codes["items"] if each["code"] == "M005000")
    assert (throttled["httpStatus"], throttled["message"]["en"]) == (400, "Too many requests.")


# Keys


def test_keys(elepay: Client) -> None:
    url = elepay.simulator.url + "/customers/cus_1/sources"

    def by(**more: Any) -> tuple[int, str]:
        answer = requests.get(url, timeout=5, **more)
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


# Faults


@pytest.mark.parametrize("fault", ["commit_then_drop_connection", "drop_before_commit"])
def test_a_dropped_connection(elepay: Client, fault: str) -> None:
    elepay.simulator.control(**{fault: 1.0})
    for number in range(6):  # closed in order, and reset
        with pytest.raises(NO_ANSWER):
            elepay.create(f"cus_{number}")
    created = elepay.simulator.statistics()
    assert created["created"] == (6 if fault.startswith("commit") else 0)
    assert (created["faults"], created["answers"]) == ({fault: 6}, {"none": 6})
    assert elepay.sources("cus_3")["total"] == (1 if fault.startswith("commit") else 0)


@pytest.mark.parametrize(("fault", "created"), [("commit_then_hang", 1), ("hang_before_commit", 0)])
def test_a_hanging_request(elepay: Client, fault: str, created: int) -> None:
    elepay.simulator.control(**{fault: 1.0})
    with pytest.raises(requests.ReadTimeout):
        elepay.call("POST", "/customers/c/sources", json={"paymentMethod": "paidy", "resource": "web"}, timeout=0.3)
    assert elepay.simulator.statistics()["created"] == created
    wait_until(lambda: elepay.simulator.statistics()["answers"] == {"none": 1}, 5)


def test_a_hanging_request_is_answered_in_the_end(elepay: Client) -> None:
    elepay.simulator.control(commit_then_hang=1.0, hang_seconds=0.3)
    began = time.monotonic()
    assert elepay.create().status_code == 201
    assert time.monotonic() - began >= 0.3


def test_a_late_commit_happens_though_nobody_waits(elepay: Client) -> None:
    elepay.simulator.control(late_commit=1.0, late_commit_seconds=0.6)
    with pytest.raises(requests.ReadTimeout):
        elepay.call("POST", "/customers/c/sources", json={"paymentMethod": "paidy", "resource": "web"}, timeout=0.2)
    assert elepay.sources("c")["total"] == 0
    wait_until(lambda: elepay.sources("c")["total"] == 1, 5)


@pytest.mark.parametrize(
    ("fault", "status", "codes", "created"),
    [
        ("throttled", 400, {"M005000"}, 0),
        ("error_500_before_commit", 500, {"S001000", "S001001"}, 0),
        ("commit_then_500_S001000", 500, {"S001000"}, 20),
        ("S002000_window", 500, {"S002000"}, 0),
    ],
)
def test_faults_that_speak(elepay: Client, fault: str, status: int, codes: set[str], created: int) -> None:
    elepay.simulator.control(**{fault: 1.0})
    heard = [told(elepay.create(f"cus_{number}")) for number in range(20)]
    assert {each[:2] for each in heard} == {(status, code) for code in codes}
    assert elepay.simulator.statistics()["created"] == created


@pytest.mark.parametrize(
    ("fault", "status", "created"),
    [("html_502", 502, 0), ("html_502_after_commit", 502, 1), ("http_429_with_retry_after", 429, 0)],
)
def test_pages_of_a_proxy(elepay: Client, fault: str, status: int, created: int) -> None:
    elepay.simulator.control(**{fault: 1.0, "retry_after_seconds": 3})
    answer = elepay.create()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html")
    assert answer.headers.get("retry-after") == ("3" if status == 429 else None)
    assert elepay.simulator.statistics()["created"] == created


def test_answers_that_cannot_be_read(elepay: Client) -> None:
    elepay.simulator.control(malformed_201=1.0)
    unread = 0
    for number in range(12):
        try:
            answer = elepay.create(f"cus_{number}")
        except NO_ANSWER:
            unread += 1
            continue
        assert answer.status_code == 201
        with pytest.raises(ValueError, match=r".*"):
            json.loads(answer.content)
    assert 0 < unread < 12
    elepay.simulator.control(malformed_201=0, empty_201=1.0)
    empty = elepay.create("cus_e")
    assert (empty.status_code, empty.content) == (201, b"")
    assert elepay.simulator.statistics()["created"] == 13


def test_a_wrong_mode_and_a_dripping_body(elepay: Client) -> None:
    elepay.simulator.control(wrong_live_mode=1.0)
    assert elepay.create().json()["liveMode"] is True
    assert elepay.sources()["sources"][0]["liveMode"] is False
    elepay.simulator.control(wrong_live_mode=0, slow_drip=1.0, drip_seconds=0.4)
    began = time.monotonic()
    assert elepay.create("cus_2").json()["customerId"] == "cus_2"
    assert time.monotonic() - began >= 0.4


def test_a_refused_row_stays_refused_and_a_throttled_one_does_not(elepay: Client) -> None:
    elepay.simulator.control(refuse={"M002003": 1.0})
    assert {told(elepay.create()) for _ in range(4)} == {(400, "M002003", "customerId")}
    elepay.simulator.control(refuse={"U003005": 1.0})
    assert elepay.create().json()["providerError"]["providerKey"] == "simulated"
    elepay.simulator.control(refuse={}, throttled=1.0, max_faults_per_key=3)
    assert [elepay.create("cus_2").status_code for _ in range(5)] == [400, 400, 400, 201, 201]


def test_a_ceiling_throttles_creates_and_look_ups_alike(elepay: Client) -> None:
    elepay.simulator.control(max_requests_per_second=10)
    statuses = [elepay.create(f"cus_{number}").status_code for number in range(15)]
    assert statuses == [201] * 10 + [400] * 5
    assert told(elepay.call("GET", "/customers/cus_1/sources")) == (400, "M005000", None)
    counted = elepay.simulator.statistics()
    assert (counted["throttled"], counted["worst_second"], counted["worst_second_creates"]) == (6, 16, 15)


def test_lists_that_lie(elepay: Client) -> None:
    for number in range(3):
        elepay.create(reference=f"r{number}")
    elepay.simulator.control(list_truncate_at=1, list_metadata=False)
    listed = elepay.sources()
    assert (listed["total"], len(listed["sources"])) == (3, 1)
    assert "metadata" not in listed["sources"][0]
    elepay.simulator.control(list_truncate_at=None, list_only_active=True)
    assert elepay.sources()["total"] == 0
    elepay.simulator.control(list_only_active=False, visibility_lag_ms=600_000)
    assert elepay.sources()["total"] == 0
    elepay.simulator.control(visibility_lag_ms=0, list_500=1.0, max_faults_per_key=1)
    assert told(elepay.call("GET", "/customers/cus_1/sources"))[:2] == (500, "S001000")
    assert elepay.sources()["total"] == 3


def test_look_ups_work_without_remembered_bodies(elepay: Client) -> None:
    elepay.simulator.control(remember_bodies=False)
    source_id = elepay.create(description="forgotten").json()["id"]
    source = elepay.sources()["sources"][0]
    assert (source["id"], source["metadata"], source["description"]) == (source_id, {"onboarding_ref": "r1"}, None)


def test_latency(elepay: Client) -> None:
    elepay.simulator.control(latency_ms=150, jitter_ms=50)
    began = time.monotonic()
    elepay.create()
    elepay.sources()
    assert time.monotonic() - began >= 0.3


def test_the_same_seed_gives_the_same_night_in_any_order() -> None:
    def night(numbers: list[int]) -> dict[int, list[str]]:
        seen: dict[int, list[str]] = {}
        with Simulator("rough_night", 7, latency_ms=0, jitter_ms=0, max_requests_per_second=0) as simulator:
            client = Client(simulator)
            for number in numbers * 2:
                seen.setdefault(number, []).append(client.heard(f"cus_{number}", f"r{number}"))
            client.session.close()
        return seen

    numbers = list(range(400))
    first, second = night(numbers), night(random.Random(1).sample(numbers, len(numbers)))
    assert first == second
    assert len({heard for each in first.values() for heard in each}) >= 6


# The control room


def test_the_books(elepay: Client) -> None:
    before = time.time()
    elepay.create(reference="r1")
    elepay.create("cus_2", reference=None)
    elepay.create("missing_1")
    elepay.sources()
    counted = elepay.simulator.statistics()
    first, last = counted.pop("first_request_at"), counted.pop("last_request_at")
    assert (
        before - 1
        <= first
        <= counted.pop("first_create_at")
        <= counted.pop("last_create_at")
        <= last
        <= time.time() + 1
    )
    assert sum(count for _, count in counted.pop("requests_per_second")) == 4
    assert sum(count for _, count in counted.pop("creates_per_second")) == 3
    assert counted == {
        "created": 2,
        "references": {"total": 1, "doubled": [], "doubled_count": 0},
        "without_reference": 1,
        "requests": {"createSource": 3, "listSources": 1},
        "answers": {"201": 2, "M002003": 1, "200": 1},
        "faults": {},
        "throttled": 0,
        "wrong_auth": 0,
        "missing_auth": 0,
        "worst_second": 4,
        "worst_second_creates": 3,
        "distinct_keys_seen": 3,
    }
    shown = requests.get(elepay.simulator.url + "/_sim/sources?offset=1&limit=5", timeout=5).json()
    assert shown["total"] == 2
    assert [(each["customerId"], each["reference"], each["status"]) for each in shown["sources"]] == [
        ("cus_2", None, "pending")
    ]


def test_knobs_at_run_time(elepay: Client) -> None:
    url = elepay.simulator.url + "/_sim"
    wrong = requests.patch(url + "/control", json={"latency_ms": 5, "latncy_ms": 5}, timeout=5)
    assert (wrong.status_code, wrong.text) == (400, "unknown knob 'latncy_ms'")
    assert requests.get(url + "/control", timeout=5).json()["latency_ms"] == 0.0
    assert requests.patch(url + "/control", json={"html_502": 0.25}, timeout=5).json()["html_502"]["share"] == 0.25
    assert requests.post(url + "/control", data=b"[", timeout=5).status_code == 400
    assert requests.post(url + "/reset", json={"profile": "smooth"}, timeout=5).status_code == 400
    assert requests.post(url + "/sources/src_x/status", json={"status": "active"}, timeout=5).status_code == 404
    assert requests.post(url + "/offline", json={"seconds": "long"}, timeout=5).status_code == 400
    reset = requests.post(url + "/reset", json={"profile": "clean", "seed": 1}, timeout=5)
    assert reset.json() == {"status": "ok", "profile": "clean", "seed": 1}
    assert requests.get(url + "/health", timeout=5).json() == reset.json()


def test_offline_refuses_connections_and_comes_back(elepay: Client) -> None:
    address = ("127.0.0.1", int(elepay.simulator.url.rpartition(":")[2]))
    elepay.create()
    elepay.simulator.post("offline", seconds=1.0)
    time.sleep(0.2)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=2)
    with pytest.raises(requests.ConnectionError):  # the open connection was cut as well
        elepay.create("cus_2")

    def answers() -> bool:
        try:
            return requests.get(elepay.simulator.url + "/_sim/health", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(answers, 5)
    assert elepay.sources()["total"] == 1
    assert elepay.sources("cus_2")["total"] == 0


# The process


def test_it_says_one_line_and_stops_at_once() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with ExitStack() as stack:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "simulator", "--port", "0", "--profile", "clean", "--seed", "3"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            line = process.stdout.readline()
            url = line.split()[3]
            assert line == f"elepay simulator on {url}  profile=clean seed=3\n"
            hanging = threading.Thread(target=_hang, args=(url,))
            hanging.start()
            wait_until(lambda url=url: _created(url) == 1, 5)
            began = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=5)
            took = time.monotonic() - began
            hanging.join(5)
            assert (process.returncode, out, err) == (0, "", "")
            assert took < 1.5


def _hang(url: str) -> None:
    requests.post(url + "/_sim/control", json={"commit_then_hang": 1.0}, timeout=5)
    body = {"paymentMethod": "paidy", "resource": "web"}
    with pytest.raises(requests.ConnectionError):
        requests.post(url + "/customers/c/sources", json=body, headers=AUTHORIZATION, timeout=20)


def _created(url: str) -> int:
    created: int = requests.get(url + "/_sim/statistics", timeout=5).json()["created"]
    return created


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--profile", "smooth"], "no profile 'smooth'"),
        (["--host", "192.0.2.1"], "the loopback only"),
    ],
)
def test_it_does_not_start_wrongly(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator", "--port", "0", *arguments],
        capture_output=True, text=True, timeout=20, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = subprocess.run(
            [sys.executable, "-m", "simulator", "--port", str(taken.getsockname()[1])],
            capture_output=True, text=True, timeout=20, cwd=ROOT,
        )  # fmt: skip
    assert done.returncode != 0
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr
