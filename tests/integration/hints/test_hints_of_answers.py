"""Every code of a refused or skipped row: what its hint says does what it promises, and doubles nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hinted import HEADER, Installation, edited, judge, lines_of
from walked import REFUSED, REFUSED_BY_US

from tasks.elepay.codes import ACTIONS
from tasks.errors import AlreadyThere, MethodClosed, Refused, UnusableFile
from tasks.models import BatchState, RowState


@pytest.mark.parametrize("way", ["failures", "retry"])
@pytest.mark.resilience
@pytest.mark.representative
def test_what_elepay_refused_is_created_once_it_was_put_right(new: Callable[..., Installation], way: str) -> None:
    place = new(ONBOARD_GUARD_ANSWERS=0)
    customers = [f"cus_{at}" for at in range(700)]
    codes = [code for code in REFUSED if issubclass(ACTIONS.get(code, Refused), Refused | AlreadyThere)]
    place.simulator.control(refuse=dict.fromkeys(codes, 0.98 / len(codes)))
    batch = place.run(lines_of(customers)).id
    rows = place.report(batch)
    assert {row["onboarding_code"] for row in rows.values()} == {*codes, ""}
    hints = {row["onboarding_hint"] for row in rows.values() if row["onboarding_state"] == "refused"}
    assert all("run or drop failures.csv" in hint and f"`onboard retry {batch}`" in hint for hint in hints)
    place.simulator.control(refuse={})
    if way == "failures":
        place.follow(batch, hints)
    else:
        place.type(f"onboard retry {batch}")
    judge(place, customers)


@pytest.mark.parametrize("code", sorted(code for code, action in ACTIONS.items() if action is MethodClosed))
def test_a_method_that_elepay_closed_is_sent_once_it_is_open(new: Callable[..., Installation], code: str) -> None:
    place, customers = new(), [f"cus_{at}" for at in range(30)]
    place.simulator.control(refuse={code: 1.0})
    batch = place.run(lines_of(customers, "paypay")).id
    rows = place.report(batch)
    codes = {row["onboarding_code"] for row in rows.values()}
    assert code in codes
    assert codes <= {code, "method_closed"}
    place.simulator.control(refuse={})
    place.follow(batch, {row["onboarding_hint"] for row in rows.values()})
    judge(place, customers)


def test_what_we_refused_in_elepay_s_place_is_created_by_failures_csv(new: Callable[..., Installation]) -> None:
    place, codes = new(), [*REFUSED_BY_US, "U005000", "http_413", "U009000"]
    batch = place.accept(lines_of(codes)).id
    left = {at: (RowState.REFUSED, code, False) for at, code in enumerate(codes, 1)}
    place.leave(place.ledger.batches.get(batch), left)
    place.work(batch)
    rows = place.report(batch)
    place.follow(batch, {row["onboarding_hint"] for row in rows.values()})
    judge(place, codes)


def test_one_deleted_source_is_made_again_by_audit_and_a_plain_run(new: Callable[..., Installation]) -> None:
    place, customers = new(), [f"cus_{at}" for at in range(9)]
    first = place.run(lines_of(customers)).id
    place.delete("cus_4")
    batch = place.run(lines_of(customers)).id
    rows = place.report(batch)
    assert {row["onboarding_code"] for row in rows.values()} == {"onboarded_before"}
    (hint,) = {row["onboarding_hint"] for row in rows.values()}
    assert f"`onboard audit {first}`" in hint
    assert "--again" not in hint
    for words in (f"onboard audit {first}", "onboard run"):
        place.type(words, place.folder / "customers.csv")
    judge(place, customers)


def test_a_duplicate_in_the_file_is_left_or_made_a_second_one(new: Callable[..., Installation]) -> None:
    place = new()
    batch = place.run(HEADER + "cus_1,creditcard,ios,a,\ncus_1,creditcard,ios,a,\n").id
    row = [row for row in place.report(batch).values() if row["onboarding_code"] == "duplicate_in_file"]
    assert len(row) == 1
    judge(place, ["cus_1"])
    place.run(HEADER + "cus_1,creditcard,ios,a,\ncus_1,creditcard,ios,a,second\n")
    judge(place, [], twice=["cus_1"])


def test_another_content_is_left_or_made_a_second_one(new: Callable[..., Installation]) -> None:
    place = new()
    place.run(HEADER + "cus_1,creditcard,ios,a,\n")
    batch = place.run(HEADER + "cus_1,creditcard,ios,b,\n").id
    row = place.report(batch)["cus_1"]
    assert row["onboarding_code"] == "changed"
    page = (place.reports(batch) / "report.html").read_text()
    assert "Nothing is left to do" not in page
    assert 'marked changed in <a href="results.csv">' in page
    assert "stands, with its reasons, in" not in page
    judge(place, ["cus_1"])
    place.run(HEADER + "cus_1,creditcard,ios,b,second\n")
    judge(place, [], twice=["cus_1"])


@pytest.mark.parametrize("end", ["resumed", "cancelled"])
def test_a_row_that_another_batch_has_is_created_by_one_of_them(new: Callable[..., Installation], end: str) -> None:
    place, content = new(), lines_of(["cus_1", "cus_2"])
    first = place.accept(content, "first.csv").id
    place.onboard("pause", str(first))
    batch = place.run(content + "cus_3,creditcard,ios,Membership,\n").id
    row = place.report(batch)["cus_1"]
    assert row["onboarding_code"] == "in_another_batch"
    assert f"`onboard status {first}`" in row["onboarding_hint"]
    if end == "resumed":
        place.type(f"onboard resume {first}")
    else:
        place.onboard("cancel", str(first))
        place.run(place.folder / "customers.csv")
    judge(place, ["cus_1", "cus_2", "cus_3"])


@pytest.mark.parametrize("way", ["same", "deleted", "other", "own"])
def test_another_spelling_is_one_source_or_two_as_a_person_says(new: Callable[..., Installation], way: str) -> None:
    place = new()
    batch = place.run(HEADER + "cus_1,creditcard,ios,a,１０～\ncus_1,creditcard,ios,a,１０〜\n").id
    assert "ONBOARD_OTHER_SPELLING=own" in place.failures(batch).read_text() if place.report(batch) else False
    file = place.failures(batch)
    if way in ("same", "other"):
        edited(file, lambda row: row | {"reference": "１０～" if way == "same" else "second"})
    elif way == "deleted":
        edited(file, lambda _row: None)
        with pytest.raises(UnusableFile):
            place.run(file)
    if way != "deleted":
        place.run(file, own_spellings=way == "own")
    judge(place, ["cus_1"] if way in ("same", "deleted") else [], twice=[] if way in ("same", "deleted") else ["cus_1"])


def test_a_row_that_was_given_up_can_still_be_called_created(new: Callable[..., Installation]) -> None:
    place = new()
    batch = place.accept(lines_of(["cus_1"])).id
    place.leave(place.ledger.batches.get(batch), {1: (RowState.UNCLEAR, "no_source_found", True)}, undecided=True)
    place.work(batch)
    place.onboard("resolve", str(batch), "2", "--give-up")
    row = place.report(batch)["cus_1"]
    assert row["onboarding_code"] == "given_up"
    assert f"`onboard resolve {batch} LINE --created SOURCE_ID`" in row["onboarding_hint"]
    source = place.simulator.sources()[0]["id"]
    assert place.onboard("resolve", str(batch), "2", "--created", source).returncode == 0
    assert place.report(batch)["cus_1"]["onboarding_state"] == "created"
    judge(place, ["cus_1"])


def test_a_source_of_the_wrong_mode_is_not_sent_again(new: Callable[..., Installation]) -> None:
    place = new()
    place.simulator.control(wrong_live_mode=1.0)
    batch = place.run(lines_of(["cus_1"]))
    assert batch.state is BatchState.HALTED
    assert "Do not send it again" in place.onboard("show", str(batch.id), "2").stdout
    place.simulator.control(wrong_live_mode=0)
    place.type(f"onboard resume {batch.id}")
    judge(place, ["cus_1"])
