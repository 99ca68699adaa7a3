"""Nights in which answers are wrong: they belong to other requests, prove nothing, or come from something in between.

elepay is played by `stranger.py`, which keeps the truth. A night is judged by that truth, the ledger and the reports:
no reference has two sources, no row is called created with another row's source, and in the end each row has its own.
STRANGER_SLOW=1 adds the nights with the real figures; they take several minutes each.
"""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROWS
from factories import wait_until, write_csv
from machines import pause
from stranger import Stranger
from stranger_night import StrangerNight
from stranger_wire import SIGN_IN_PAGE, Fault

SLOW = os.environ.get("STRANGER_SLOW") == "1"


class Lag(NamedTuple):
    """How far lists are behind, and the settings that the program has for it."""

    seconds: float
    settings: dict[str, Any]


LAGS = {"4 s": Lag(4, {})} | (
    {
        # the program's defaults
        f"{seconds} s": Lag(seconds, {"ONBOARD_LIST_LAG_SECONDS": 120, "ONBOARD_LOOK_UP_DELAY_SECONDS": 5})
        for seconds in (20, 30, 100)
    }
    if SLOW
    else {}
)
MAINTENANCE_SECONDS = [8, 60, 230] if SLOW else [8]


@pytest.fixture
def night(
    tmp_path: Path, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[StrangerNight]:
    """A night with the stranger at its best; its dice are seeded by its name."""
    seed = zlib.crc32(request.node.name.encode())
    with Stranger(seed) as stranger:
        night = StrangerNight(tmp_path, stranger, random.Random(seed), record_property)  # type: ignore[arg-type]
        yield night
        for started in night.started:
            started.end()


# answers that belong to another request


@pytest.mark.parametrize("delay_seconds", [0.0, 0.005, 0.05])
@pytest.mark.representative
def test_a_repeated_answer_is_never_taken_for_another_rows(night: StrangerNight, delay_seconds: float) -> None:
    night.stranger.misbehave(Fault("repeat", 0.1, delay_seconds=delay_seconds))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


EARLIER = {
    "whole body": (True, Fault("earlier", 0.1)),
    "only its id": (True, Fault("earlier", 0.1, only_id=True)),
    "only its id, owner unknown": (True, Fault("earlier", 0.1, only_id=True, undelivered=True)),
    "nothing but an id": (False, Fault("earlier", 0.1)),
    "nothing but an id, owner unknown": (False, Fault("earlier", 0.1, undelivered=True)),
}


@pytest.mark.parametrize("kind", EARLIER)
def test_an_earlier_source_is_never_taken_for_the_rows_own(night: StrangerNight, kind: str) -> None:
    """ "Owner unknown": the earlier source's own answer may never have come back, or said something else."""
    shown, fault = EARLIER[kind]
    night.stranger.answers_show_metadata = night.stranger.answers_show_customer = shown
    night.stranger.misbehave(fault)
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


@pytest.mark.parametrize("same_connection", [True, False], ids=["same connection", "any connection"])
def test_an_earlier_refusal_refuses_no_other_row(night: StrangerNight, same_connection: bool) -> None:
    night.stranger.unknown_customers = {f"cus_{number:06d}" for number in range(10, ROWS, 20)}
    night.stranger.misbehave(Fault("earlier error", 0.1, same_connection=same_connection))
    command = night.machine(ONBOARD_WORKERS=1)  # each process remembers the errors that it has received itself
    night.expect(command, night.finish(command, night.file()), refused=len(night.stranger.unknown_customers))


@pytest.mark.parametrize("same_connection", [True, False], ids=["same connection", "any connection"])
def test_an_earlier_throttling_sends_no_row_again(night: StrangerNight, same_connection: bool) -> None:
    night.stranger.misbehave(
        Fault("error", 0.05, times=1), Fault("earlier error", 0.1, same_connection=same_connection, times=1)
    )
    command = night.machine(ONBOARD_WORKERS=1)  # as above
    night.expect(command, night.finish(command, night.file()))


def test_a_repeated_error_without_a_request_id_sends_no_row_again(night: StrangerNight) -> None:
    night.stranger.errors_show_request_id = False
    night.stranger.misbehave(Fault("error", 0.1, times=1, delay_seconds=0.005))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


@pytest.mark.parametrize("delay_seconds", [0.0, 0.05], ids=["silent afterwards", "repeated"])
def test_an_http_1_0_answer_ends_its_connection(night: StrangerNight, delay_seconds: float) -> None:
    night.stranger.misbehave(Fault("http/1.0", 0.3, delay_seconds=delay_seconds))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


SURPLUS = {
    "line ends": "\r\n\r\n",
    "half an answer": "HTTP/1.1 201 Created\r\nContent-Le",
    "another answer": 'HTTP/1.1 400 Bad Request\r\nContent-Length: 23\r\n\r\n{"errorCode":"M005000"}',
    "a page": SIGN_IN_PAGE,
}


@pytest.mark.parametrize("kind", SURPLUS)
def test_surplus_bytes_end_their_connection(night: StrangerNight, kind: str) -> None:
    night.stranger.misbehave(Fault("surplus", 0.2, body=SURPLUS[kind]))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


# answers that prove nothing


@pytest.mark.parametrize("status", [303, 403, 404, 413, 429])
def test_a_bare_status_does_not_prove_that_nothing_was_created(night: StrangerNight, status: int) -> None:
    headers = (("Location", f"{night.stranger.url}/sign-in"),) if status == 303 else ()
    night.stranger.misbehave(Fault("status", 0.1, status=status, headers=headers))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
def test_no_bare_status_proves_anything(night: StrangerNight, executed: bool) -> None:
    rare = [401, 405, 407, 502, 503, 504, 520]
    rare += [414, 431] if executed else [303, 403, 404, 429]
    night.stranger.misbehave(*(Fault("status", 0.015, status=status, executed=executed) for status in rare))
    command = night.machine()
    night.expect(command, night.finish(command, night.file()))


def test_a_request_too_long_for_something_in_between_is_refused_once_it_is_surely_absent(night: StrangerNight) -> None:
    faults = [Fault("status", 0.02, status=status, executed=False) for status in (413, 414, 431)]
    night.stranger.misbehave(*faults)
    command = night.machine()
    said = night.finish(command, night.file())
    refused = len(night.stranger.struck["status"])
    assert refused >= 5
    night.expect(command, said, refused=refused)


@pytest.mark.parametrize(
    "fault",
    [Fault("status", 0.1, status=504, late_seconds=1), Fault("close", 0.1, late_seconds=1)],
    ids=["after a 504", "after the connection closed"],
)
def test_a_create_that_is_executed_after_its_answer_is_not_sent_again(night: StrangerNight, fault: Fault) -> None:
    night.stranger.misbehave(fault)
    command = night.machine(ONBOARD_LOOK_UP_DELAY_SECONDS=3)
    night.expect(command, night.finish(command, night.file()))


# lists that are behind

LOST = {
    "every answer": [Fault("close", reset=True)],
    "half the answers, some requests": [Fault("close", 0.5, reset=True), Fault("close", 0.3, executed=False, times=1)],
    "the first request": [Fault("close", executed=False, times=1)],
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("rows", "lost"),
    [(40, "every answer"), (1, "every answer"), (40, "half the answers, some requests"), (1, "the first request")],
)
@pytest.mark.parametrize("lag", LAGS)
def test_a_list_that_shows_old_sources_may_lack_new_ones(night: StrangerNight, lag: str, rows: int, lost: str) -> None:
    behind, settings = LAGS[lag]
    night.stranger.list_lags_seconds = (behind,)
    command = night.machine(**settings)
    first = night.finish(command, night.file(5))
    assert first["books"]["created"] == 5
    pause(behind + 1)
    night.stranger.misbehave(*LOST[lost])
    file = write_csv(night.folder / "second.csv", rows, prefix="new_")
    night.expect(command, night.finish(command, file, seconds=behind * 6 + 200), rows=rows)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("lag", LAGS)
def test_a_list_of_a_replica_that_is_behind_is_not_believed(night: StrangerNight, lag: str) -> None:
    """A single row, whose replica is behind while that of all known sources is up to date."""
    behind, settings = LAGS[lag]
    night.stranger.list_lags_seconds = (0.0, behind)
    night.stranger.replica_of = lambda customer: int(customer.startswith("new_"))
    command = night.machine(**settings)
    assert night.finish(command, night.file(5))["books"]["created"] == 5
    pause(behind + 1)
    night.stranger.misbehave(*LOST["every answer"])
    file = write_csv(night.folder / "second.csv", 1, prefix="new_")
    night.expect(command, night.finish(command, file, seconds=behind * 6 + 200), rows=1)


def test_a_list_that_stops_for_a_while_is_not_believed(night: StrangerNight) -> None:
    command = night.machine()
    assert night.finish(command, night.file(5))["books"]["created"] == 5
    night.stranger.lists_end_at = time.monotonic()
    night.stranger.misbehave(*LOST["every answer"])
    started = night.run(command, write_csv(night.folder / "second.csv", 40, prefix="new_"))
    wait_until(lambda: len(night.stranger.creates) > 5, what="the second file's first create")
    pause(4)
    night.stranger.lists_end_at = None
    night.stranger.behave()  # else a breaker that has opened lets one row leave a minute
    night.expect(command, started.json(100), rows=40)


# requests and answers that are lost, and times in which nothing works


@pytest.mark.parametrize("on", ["creates", "everything"])
@pytest.mark.parametrize("executed", [False, True], ids=["requests", "answers"])
def test_a_fifth_of_all_lost_leaves_hardly_anything_to_a_person(night: StrangerNight, executed: bool, on: str) -> None:
    night.stranger.misbehave(Fault("close", 0.2, executed=executed, on=on, reset=executed))
    command = night.machine()
    said = night.finish(command, night.file())
    figures = night.figures(command, said)
    assert (figures["doubled"], figures["wrong"], figures["balance"]) == (0, 0, True)
    assert figures["open"] == figures["refused"] == 0
    assert figures["unclear"] <= ROWS // 100, "hardly anything is left to a person"


PAGES = {
    "200 sign-in": Fault("status", status=200, body=SIGN_IN_PAGE, executed=False),
    "520": Fault("status", status=520, body="<html>error code: 520</html>", executed=False),
    "520 after creation": Fault("status", status=520, body="<html>error code: 520</html>"),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", PAGES)
def test_a_page_for_every_create_is_met_with_few_requests(night: StrangerNight, kind: str) -> None:
    rows = 600
    night.stranger.misbehave(PAGES[kind])
    command = night.machine()
    file = night.file(rows)
    started = night.run(command, file)
    wait_until(lambda: night.stranger.creates, what="the first create")
    began = night.stranger.creates[0][0]
    pause(max(0.0, began + 20 - time.monotonic()))
    night.stranger.behave()
    left = night.stranger.creates_between(began, began + 20)
    night.note(creates_in_20_s=left)
    said = started.json(180)
    if said["exit"] == 3:
        said = night.finish(command, file)
    night.expect(command, said, rows=rows)
    assert left < 100


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", MAINTENANCE_SECONDS)
def test_a_time_in_which_everything_is_a_503_page_costs_nothing_but_time(night: StrangerNight, seconds: float) -> None:
    rows = 1000
    command = night.machine()
    file = night.file(rows)
    started = night.run(command, file)
    wait_until(lambda: len(night.stranger.creates) >= 300, what="300 creates")
    page = Fault("status", on="everything", status=503, body="<html>back soon</html>", executed=False)
    night.stranger.misbehave(page, seconds=seconds)
    said = started.json(180 + seconds)
    if said["exit"] == 3:
        said = night.finish(command, file)
    night.expect(command, said, rows=rows)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("executed", [True, False], ids=["executed", "not executed"])
def test_half_of_all_answers_throttled_by_something_in_between(night: StrangerNight, executed: bool) -> None:
    rows = 60
    night.stranger.misbehave(Fault("status", 0.5, on="everything", status=429, executed=executed))
    command = night.machine()
    began = time.monotonic()
    said = night.finish(command, night.file(rows), seconds=240)
    night.record("rows_per_second", round(rows / (time.monotonic() - began), 1))
    night.expect(command, said, rows=rows)
