"""The faults of the simulator, as a client sees them."""

from __future__ import annotations

import json
import random
import time

import pytest
import requests
from factories import Simulator, wait_until
from simulator_calls import NO_ANSWER, Client, told


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
