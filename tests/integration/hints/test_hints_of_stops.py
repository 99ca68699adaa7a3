"""Every stop of a batch, with rows of every code: what the hints say is done, ends each row once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hinted import Installation, Left, judge, lines_of
from walked import OPEN, UNCLEAR

from tasks import stop_texts
from tasks.errors import NotSent
from tasks.models import BatchState, RowState, Stop, StopCode
from tasks.operations.four_eyes import FourEyes
from tasks.send.outcomes import halting

#: What the sentence of any stop may need.
VALUES = {
    "answers": 20, "code": "M002003", "mode": "test", "other": "live", "who": "test", "batch": 1, "refused": 9,
    "unknown": 1, "sampled": 5, "message": "",
}  # fmt: skip
#: Each way in which a batch stands still with rows that were sent before, and how it comes about.
STOPS: dict[str, Callable[[Installation, int], Any]] = {
    "halted": lambda at, batch: halt(at, batch, halting(NotSent("connection_refused"))),
    "cancelled": lambda at, batch: at.onboard("cancel", str(batch)),
    "interrupted": lambda at, batch: None,  # its command is gone
    **{
        code.value: lambda at, batch, code=code: at.ledger.lifecycle.pause(
            batch, Stop(code, {"who": "test", "batch": batch, "refused": 9, "answers": 10})
        )
        for code in (StopCode.PERSON, StopCode.INTERRUPT, StopCode.DEADLINE, StopCode.BREAKER)
    },
}
#: Why a batch is halted; its rows are those of "halted".
HALTS = {
    code
    for code in set(StopCode) - {StopCode.UNUSABLE}
    if stop_texts.sentence(Stop(code, VALUES)).endswith(("then resume", "resume when it is over"))
}
#: Stops that come before a row of them was sent are walked by tests of their own.
OTHER_STOPS = {StopCode.APPROVAL, StopCode.CANARY, StopCode.FORGOTTEN}
#: Batches in these states do not stand still with open rows; these codes are of no batch that could go on.
NO_STOPS = {
    "reading", "running", "finished", "unusable", "paused",
    StopCode.REHEARSAL, StopCode.COMMAND_ENDED, StopCode.UNATTENDED,
}  # fmt: skip


def halt(place: Installation, batch: int, stop: Stop) -> None:
    """Halt a batch."""
    place.ledger.lifecycle.change_state(batch, BatchState.HALTED, stop, only_from=[BatchState.RUNNING])


def test_every_stop_is_walked() -> None:
    assert {*BatchState, *StopCode} == {*STOPS, *HALTS, *OTHER_STOPS, *NO_STOPS}


@pytest.mark.parametrize("code", sorted(HALTS))
def test_a_halted_batch_goes_on_by_what_its_sentence_says(new: Callable[..., Installation], code: StopCode) -> None:
    place = new()
    batch = place.accept(lines_of(["cus_1", "cus_2"])).id
    place.leave(place.ledger.batches.get(batch), {1: (RowState.WAITING, "", False)})
    halt(place, batch, Stop(code, VALUES))
    assert "resume" in place.onboard("status", str(batch)).stdout
    place.follow(batch, {row["onboarding_hint"] for row in place.report(batch).values()})
    judge(place, ["cus_1", "cus_2"])


def open_and_unclear() -> dict[str, Left]:
    """Customer -> what its row is left as; an unclear one once with a source and once without."""
    left: dict[str, Left] = {f"cus_open_{at}": (RowState.WAITING, code, False) for at, code in enumerate(OPEN)}
    for at, (code, exists) in enumerate(itertools.product(UNCLEAR, (True, False))):
        left[f"cus_unclear_{at}"] = (RowState.UNCLEAR, {"http_status": "http_404"}.get(code, code), exists)
    left |= {f"cus_unsent_{at}": (RowState.WAITING, "", False) for at in range(2)}
    return left


def stopped(place: Installation, stop: str, left: dict[str, Left], *, undecided: bool) -> int:
    """A batch whose rows are left so, and that stands still for a reason."""
    runner = place.ledger.workers.add("gone", 1, "", 60.0) if stop == "interrupted" else None
    place.ledger.scope.runner = runner
    batch = place.accept(lines_of(left))
    at_hand = {record: one for record, one in enumerate(left.values(), 1) if one[1] != "not_attempted"}
    place.leave(batch, at_hand, undecided=undecided)
    STOPS[stop](place, batch.id)
    if runner is not None:
        place.ledger.workers.end(runner)
        place.ledger.scope.runner = None
    return batch.id


@pytest.mark.parametrize(
    "undecided", [False, pytest.param(True, marks=pytest.mark.resilience)], ids=["looked up", "undecided"]
)
@pytest.mark.parametrize("stop", STOPS)
def test_a_batch_that_stands_still_says_what_lets_each_of_its_rows_end(
    new: Callable[..., Installation], stop: str, undecided: bool
) -> None:
    place, left = new(), open_and_unclear()
    batch = stopped(place, stop, left, undecided=undecided)
    assert place.ledger.batches.get(batch).state in (stop, "paused")
    rows = place.report(batch)
    assert {code for row in rows.values() for code in row["onboarding_code"].split(" | ")} >= {*UNCLEAR, *OPEN} - {
        "http_status"
    }
    hints = {row["onboarding_hint"] for row in rows.values()}
    assert all("`onboard " in hint or "failures.csv" in hint for hint in hints)
    unclear = [row["onboarding_hint"] for row in rows.values() if row["onboarding_state"] == "unclear"]
    assert all("Do not send it again by hand" in hint for hint in unclear)
    for _ in range(2):  # a look-up may find nothing, and then the row is refused: a new hint
        place.follow(batch, hints)
        hints = {row["onboarding_hint"] for row in place.report(batch).values() if row["onboarding_state"] != "created"}
        if not hints:
            break
    judge(place, left)


@pytest.mark.parametrize("way", ["retry", "resolve"])
def test_rows_that_a_finished_batch_leaves_to_a_person_are_settled_by_either_way(
    new: Callable[..., Installation], way: str
) -> None:
    place = new()
    left = {customer: one for customer, one in open_and_unclear().items() if one[0] is RowState.UNCLEAR}
    batch = place.accept(lines_of(left)).id
    place.leave(place.ledger.batches.get(batch), dict(enumerate(left.values(), 1)), undecided=True)
    assert place.work(batch).state is BatchState.FINISHED
    hints = {row["onboarding_hint"] for row in place.report(batch).values()}
    assert all(f"`onboard retry {batch}`" in hint and f"`onboard resolve {batch}`" in hint for hint in hints)
    place.type(f"onboard {way} {batch}")
    rows = place.report(batch).values()
    place.follow(batch, {row["onboarding_hint"] for row in rows if row["onboarding_state"] == "refused"})
    judge(place, left)


def test_only_approve_lets_a_canary_s_batch_go_on_and_it_is_said_everywhere(new: Callable[..., Installation]) -> None:
    place, customers = new(), [f"cus_{at}" for at in range(12)]
    batch = place.run(lines_of(customers), canary_rows=3)
    assert (batch.state, batch.stop_code) == (BatchState.PAUSED, StopCode.CANARY)
    rows = place.report(batch.id)
    assert [row["onboarding_state"] for row in rows.values()].count("created") == 3
    hint = rows["cus_11"]["onboarding_hint"]
    folder = place.reports(batch.id)
    for said in (
        hint,
        stop_texts.sentence(batch.stop),
        (folder / "report.html").read_text(),
        (folder / "summary.json").read_text(),
    ):
        assert f"onboard approve {batch.id}" in said
        assert "results.csv" in said
        assert "onboard resume" not in said
    assert place.onboard("resume", str(batch.id)).returncode == 2
    place.follow(batch.id, [hint])
    judge(place, customers)


def test_only_approve_lets_a_batch_go_on_that_somebody_else_approves(new: Callable[..., Installation]) -> None:
    place, customers = new(), [f"cus_{at}" for at in range(12)]
    batch = place.run(lines_of(customers), four_eyes=FourEyes(is_on=True), who="somebody")
    assert (batch.state, batch.stop_code) == (BatchState.PAUSED, StopCode.APPROVAL)
    hint = place.report(batch.id)["cus_11"]["onboarding_hint"]
    page = (place.reports(batch.id) / "report.html").read_text()
    for said in (hint, stop_texts.sentence(batch.stop), page):
        assert f"onboard approve {batch.id}" in said
        assert "onboard resume" not in said


def test_a_breaker_that_stops_a_canary_says_approve(new: Callable[..., Installation]) -> None:
    place, customers = new(ONBOARD_BREAKER_ANSWERS=4), [f"cus_{at}" for at in range(12)]
    place.simulator.control(refuse={"U003005": 1.0})
    batch = place.run(lines_of(customers), canary_rows=4)
    assert batch.stop_code in (StopCode.BREAKER, StopCode.CANARY)
    assert f"onboard approve {batch.id}" in stop_texts.sentence(batch.stop)
    rows = place.report(batch.id)
    place.simulator.control(refuse={})
    place.follow(batch.id, [rows["cus_11"]["onboarding_hint"]])
    place.report(batch.id)
    place.follow(batch.id, [rows["cus_0"]["onboarding_hint"]])
    judge(place, customers)


def test_a_forgetful_ledger_goes_on_by_verify_first_only(new: Callable[..., Installation], tmp_path: Path) -> None:
    customers = [f"cus_{at}" for at in range(8)]
    place = new(ONBOARD_HOME=tmp_path / "first")
    place.run(lines_of(customers[:4]), "first.csv")
    other = new(ONBOARD_HOME=tmp_path / "other")
    batch = other.run(lines_of(customers))
    assert batch.stop_code is StopCode.FORGOTTEN
    rows = other.report(batch.id)
    for said in (rows["cus_0"]["onboarding_hint"], stop_texts.sentence(batch.stop)):
        assert f"onboard resume {batch.id} --verify-first" in said
    assert other.onboard("resume", str(batch.id)).returncode == 2
    other.follow(batch.id, {row["onboarding_hint"] for row in rows.values()})
    judge(other, customers)


def test_rows_of_a_batch_that_the_guard_halted_are_not_called_unsent(new: Callable[..., Installation]) -> None:
    place, customers = new(ONBOARD_IN_FLIGHT=10), [f"cus_{at}" for at in range(100)]
    place.simulator.control(missing_prefix="cus_")
    batch = place.run(lines_of(customers))
    assert batch.state is BatchState.HALTED
    rows = place.report(batch.id)
    sent = {row["onboarding_code"] for row in rows.values() if int(row["onboarding_attempts"])}
    assert sent == {"refusal_taken_back"}
    assert {row["onboarding_code"] for row in rows.values()} <= {"refusal_taken_back", "not_attempted"}
    place.simulator.control(missing_prefix="missing_")
    place.follow(batch.id, {row["onboarding_hint"] for row in rows.values()})
    judge(place, customers)
