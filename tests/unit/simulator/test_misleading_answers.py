"""Answers that mislead, read from real sockets byte by byte: no client library repairs or hides anything."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
from factories import Simulator, wait_until
from kept_line import Line

from simulator.profile import Profile, changed
from simulator.wrong_answers import BAD_IDS, BAD_STATUS, SURPLUS


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def elepay(process: Simulator) -> Simulator:
    """An empty elepay without faults."""
    process.post("reset")
    return process


@pytest.fixture
def line(elepay: Simulator) -> Iterator[Line]:
    opened = Line(elepay)
    yield opened
    opened.close()


def faults(elepay: Simulator) -> dict[str, int]:
    counted: dict[str, int] = elepay.statistics()["faults"]
    return counted


# Bytes on the connection


def test_a_repeated_answer_is_the_same_bytes_once_more(elepay: Simulator, line: Line) -> None:
    elepay.control(repeated_answer=1.0)
    first = line.create("cus_1")
    assert first.status == 201
    assert line.more() == first.raw
    assert (elepay.statistics()["created"], faults(elepay)) == (1, {"repeated_answer": 1})


def test_a_repeated_answer_is_found_in_front_of_the_next_one(elepay: Simulator, line: Line) -> None:
    elepay.control(repeated_answer=1.0)
    first = line.create("cus_1", "r1")
    elepay.control(repeated_answer=0.0)
    assert line.create("cus_2", "r2") == first, "what a client takes for its answer"
    assert line.hear().source["customerId"] == "cus_2"
    assert elepay.statistics()["references"] == {"total": 2, "doubled": [], "doubled_count": 0}


def test_a_late_repeat_waits_until_no_answer_is_under_way(elepay: Simulator, line: Line) -> None:
    elepay.control(repeated_answer=1.0, repeat_seconds=0.3)
    first = line.create("cus_1")
    assert line.more(0.1) == b""
    elepay.control(repeated_answer=0.0, slow_drip=1.0, drip_seconds=0.8)
    dripping = line.create("cus_2")
    assert dripping.source["customerId"] == "cus_2"
    assert line.more() == first.raw


def test_a_late_repeat_finds_the_connection_gone(elepay: Simulator) -> None:
    elepay.control(repeated_answer=1.0, repeat_seconds=0.1)
    for number in range(5):
        line = Line(elepay)
        line.create(f"cus_{number}")
        line.close()
    closing = Line(elepay)
    closing.create("cus_5", connection="close")
    with pytest.raises(ConnectionError):
        closing.more()
    closing.close()
    time.sleep(0.2)
    other = Line(elepay)
    assert other.list("cus_1")["total"] == 1
    other.close()
    assert faults(elepay) == {"repeated_answer": 6}


def test_surplus_bytes_follow_the_right_answer(elepay: Simulator, line: Line) -> None:
    elepay.control(surplus_bytes=1.0)
    seen = set()
    for number in range(30):
        assert line.create(f"cus_{number}").source["customerId"] == f"cus_{number}"
        seen.add(line.more(0.02))
    assert seen == set(SURPLUS)
    assert faults(elepay) == {"surplus_bytes": 30}


def test_http_1_0_without_keep_alive_stays_open(elepay: Simulator, line: Line) -> None:
    elepay.control(http_1_0=1.0)
    for number in range(2):
        heard = line.create(f"cus_{number}")
        assert (heard.version, heard.status, "connection" in heard.headers) == ("HTTP/1.0", 201, False)
        assert heard.source["customerId"] == f"cus_{number}"
    assert line.list("cus_0")["total"] == 1
    assert faults(elepay) == {"http_1_0": 2}


# Somebody else's sources and errors


def test_an_earlier_source_is_another_customers_altogether(elepay: Simulator, line: Line) -> None:
    before = [line.create(f"cus_{number}", f"r{number}").source for number in range(3)]
    elepay.control(earlier_source=1.0)
    answers = [line.create(f"new_{number}", f"n{number}").source for number in range(10)]
    assert all(answer in before for answer in answers)
    assert len({answer["id"] for answer in answers}) == 3
    assert line.list("new_4")["sources"][0]["metadata"] == {"onboarding_ref": "n4"}
    assert (elepay.statistics()["created"], faults(elepay)) == (13, {"earlier_source": 10})


def test_an_earlier_id_is_all_that_is_wrong(elepay: Simulator, line: Line) -> None:
    before = line.create("cus_1", "r1").source
    elepay.control(earlier_id=1.0)
    answer = line.create("cus_2", "r2").source
    assert answer["id"] == before["id"]
    own = line.list("cus_2")["sources"][0]
    assert own["id"] != answer["id"]
    assert answer.items() >= {**own, "id": before["id"]}.items()
    assert faults(elepay) == {"earlier_id": 1}


@pytest.mark.parametrize("fault", ["earlier_source", "earlier_id", "repeated_error"])
def test_what_nobody_else_was_told_cannot_be_told_again(elepay: Simulator, line: Line, fault: str) -> None:
    elepay.control(refuse={"U003005": 1.0})
    assert line.create("cus_1", "refused").status == 400
    elepay.control(refuse={})
    assert line.create("cus_1", "r1").status == 201
    elepay.control(**{fault: 1.0})
    answer = line.create("cus_1", "r2").source
    assert (answer["customerId"], answer["metadata"]) == ("cus_1", {"onboarding_ref": "r2"})
    assert faults(elepay) == {}


def test_an_answer_that_is_still_under_way_is_not_told_to_somebody_else(elepay: Simulator) -> None:
    elepay.control(latency_ms=1000, refuse={"U003005": 1.0})
    slow, quick = Line(elepay), Line(elepay)
    slow.ask_create("cus_1")
    wait_until(lambda: elepay.statistics()["requests"].get("createSource") == 1, 5)
    elepay.control(latency_ms=0, refuse={}, repeated_error=1.0)
    assert quick.create("cus_2").status == 201
    refused = slow.hear()
    assert quick.create("cus_3").body == refused.body
    slow.close()
    quick.close()


def test_a_repeated_error_is_the_same_to_the_byte(elepay: Simulator, line: Line) -> None:
    elepay.control(refuse={"U003005": 1.0})
    told = [line.create(f"cus_{number}").body for number in range(3)]
    elepay.control(refuse={}, repeated_error=1.0)
    for number in range(6):
        heard = line.create(f"new_{number}", f"n{number}")
        assert (heard.status, heard.body in told) == (400, True)
    counted = elepay.statistics()
    assert (counted["created"], counted["faults"], counted["answers"]["U003005"]) == (6, {"repeated_error": 6}, 9)
    assert line.list("new_1")["total"] == 1


# Statuses and pages from in between


@pytest.mark.parametrize(("fault", "created"), [("bare_status_after_commit", 1), ("bare_status_before_commit", 0)])
def test_a_bare_status_says_nothing_about_the_source(elepay: Simulator, line: Line, fault: str, created: int) -> None:
    elepay.control(**{fault: 1.0})
    heard = [line.create(f"cus_{number}") for number in range(40)]
    assert {each.status for each in heard} == {303, 403, 404, 413, 429}
    for each in heard:
        assert each.headers["content-type"] == "text/html"
        assert b"errorCode" not in each.body
        assert ("location" in each.headers) == (each.status == 303)
        assert ("retry-after" in each.headers) == (each.status == 429)
    counted = elepay.statistics()
    assert (counted["created"], counted["faults"]) == (40 * created, {fault: 40})
    assert counted["throttled"] == counted["answers"]["429"] > 0


@pytest.mark.parametrize("status", [300, 302, 304, 401, 405, 407, 414, 431, 500, 503, 520, 599])
def test_any_status_can_be_bare(elepay: Simulator, line: Line, status: int) -> None:
    elepay.control(bare_status_after_commit=1.0, bare_statuses=[status])
    heard = line.create("cus_1")
    assert heard.status == status
    assert ("location" in heard.headers) == (status < 400)
    assert ("retry-after" in heard.headers) == (status == 503)
    assert line.list("cus_1")["total"] == 1, "the connection is usable, whatever the status"


@pytest.mark.parametrize(("form", "text"), [("seconds", "3"), ("fraction", "3.5"), ("date", None)])
def test_retry_after_in_three_forms(elepay: Simulator, line: Line, form: str, text: str | None) -> None:
    elepay.control(http_429_with_retry_after=1.0, retry_after_seconds=3, retry_after_form=form)
    headers = line.create("cus_1").headers
    if text is not None:
        assert headers["retry-after"] == text
    else:
        waits = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
        assert 2 <= waits.total_seconds() <= 5


def test_a_page_reaches_nobody(elepay: Simulator, line: Line) -> None:
    source_id = line.create("cus_0").source["id"]
    elepay.control(page=1.0, page_statuses=[200, 302, 503, 520])
    paths = ["/customers/c/sources", f"/sources/{source_id}/status", "/payment-methods", "/error-codes", "/nowhere"]
    heard = [line.get(path) for path in paths * 6]
    heard += [line.create("cus_1", "same") for _ in range(10)]  # at every attempt: not bounded for a row
    assert {each.status for each in heard} == {200, 302, 503, 520}
    assert {each.headers["content-type"] for each in heard} == {"text/html"}
    assert any(b"Sign in" in each.body for each in heard if each.status == 200)
    counted = elepay.statistics()
    assert (counted["created"], counted["faults"], counted["wrong_auth"]) == (1, {"page": 40}, 0)
    elepay.control(page=0.0)
    assert line.create("cus_1", "same").status == 201


def test_a_page_for_creates_or_for_lists_alone(elepay: Simulator, line: Line) -> None:
    elepay.control(page=1.0, page_scope="creates")
    assert (line.create("cus_1").status, line.get("/customers/cus_1/sources").status) == (503, 200)
    elepay.control(page_scope="lists")
    assert (line.create("cus_1").status, line.get("/customers/cus_1/sources").status) == (201, 503)
    assert line.get("/customers/cus_1").status == 200


# Lists


def test_replicas_are_behind_each_by_its_own_lag(elepay: Simulator, line: Line) -> None:
    elepay.control(replica_lags_ms=[0, 600_000])
    line.create("cus_1")
    totals = [line.list("cus_1")["total"] for _ in range(40)]
    assert 8 <= sum(totals) <= 32
    elepay.post("reset")
    elepay.control(replica_lags_ms=[0, 600_000])
    line.create("cus_1")
    assert [line.list("cus_1")["total"] for _ in range(40)] == totals, "the replica is drawn from the seed"
    elepay.control(replica_lags_ms=[])
    assert line.list("cus_1")["total"] == 1


def test_a_lag_counts_from_when_the_source_came_into_being(elepay: Simulator, line: Line) -> None:
    elepay.control(late_commit=1.0, late_commit_seconds=0.4, replica_lags_ms=[300], visibility_lag_ms=100)
    line.ask_create("cus_1")
    time.sleep(0.3)  # the lag counts from the commit, which is yet to come
    line.hear()
    heard_at = time.monotonic()
    assert line.list("cus_1")["total"] == 0
    wait_until(lambda: line.list("cus_1")["total"] == 1, 5)
    assert time.monotonic() - heard_at > 0.35


# Contents


def test_odd_json_is_right_but_for_what_nobody_reads(elepay: Simulator, line: Line) -> None:
    elepay.control(odd_json=1.0)
    seen = set()
    for number in range(30):
        body = line.create(f"cus_{number}").body
        odd = "bom" if body.startswith(b"\xef\xbb\xbf") else "surrogate" if b"\\ud800" in body else "nan"
        seen.add(odd)
        source = json.loads(body.decode("utf-8-sig"))
        assert (source["customerId"], source["metadata"]) == (f"cus_{number}", {"onboarding_ref": "r1"})
        assert (source["info"] == {}) == (odd == "bom")
        assert (b"NaN" in body) == (odd == "nan")
    assert seen == {"bom", "surrogate", "nan"}
    assert faults(elepay) == {"odd_json": 30}


def test_a_bad_id_and_a_bad_status(elepay: Simulator, line: Line) -> None:
    elepay.control(bad_id=1.0)
    assert {line.create(f"cus_{number}").source["id"] for number in range(30)} == set(BAD_IDS)
    assert any("\0" in each for each in BAD_IDS)
    assert any(not each.isascii() for each in BAD_IDS)
    assert any(len(each) == 300 for each in BAD_IDS)
    elepay.control(bad_id=0.0, bad_status=1.0)
    assert line.create("new_1").source["status"] == BAD_STATUS
    assert line.list("new_1")["sources"][0]["status"] == "pending"
    assert faults(elepay) == {"bad_id": 30, "bad_status": 1}


def test_methods_under_another_name(elepay: Simulator, line: Line) -> None:
    elepay.control(renamed_methods={"paypay": "alipayplus"})
    source = line.create("cus_1", method="paypay").source
    line.create("cus_1", "r2")
    assert source["paymentMethod"] == "alipayplus"
    listed = line.list("cus_1", "?paymentMethod=paypay")
    assert [(each["id"], each["paymentMethod"]) for each in listed["sources"]] == [(source["id"], "alipayplus")]
    assert line.list("cus_1", "?paymentMethod=alipayplus")["total"] == 0
    assert line.get(f"/customers/cus_1/sources/{source['id']}").source["paymentMethod"] == "alipayplus"


def test_answers_without_metadata_and_errors_without_request_id(elepay: Simulator, line: Line) -> None:
    elepay.control(metadata_in_answers=False, request_ids=False)
    assert "metadata" not in line.create("cus_1").source
    assert line.list("cus_1")["sources"][0]["metadata"] == {"onboarding_ref": "r1"}
    error = line.create("missing_1")
    assert error.source["errorCode"] == "M002003"
    assert "requestId" not in error.source


def test_the_bundled_profile_mixes_them() -> None:
    with Simulator("wrong_answers", 3, latency_ms=0, jitter_ms=0, page=0.0) as simulator:
        heard = 0
        for number in range(600):
            line = Line(simulator)  # a new connection each: what belongs to nothing is not read
            try:
                line.create(f"cus_{number}", f"r{number}")
                heard += 1
            except ConnectionError:
                pass
            line.close()
        counted = simulator.statistics()
    assert counted["references"]["doubled_count"] == 0
    assert heard == 600 - counted["answers"]["none"]
    expected = {
        "repeated_answer", "surplus_bytes", "http_1_0", "earlier_source", "earlier_id", "repeated_error",
        "bare_status_after_commit", "bare_status_before_commit", "bad_id", "bad_status", "odd_json",
    }  # fmt: skip
    assert expected <= counted["faults"].keys()


def test_a_profile_that_asks_for_none_is_as_before() -> None:
    assert changed(Profile(), {"repeated_answer": 0, "page": 0}) == Profile()
