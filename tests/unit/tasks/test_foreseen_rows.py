"""What a check foresees is what the ledger does with the same file afterwards: row by row, in ledgers with a past."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from factories import answer
from reported import Reported

from tasks.ledger import Ledger
from tasks.models import Account, Batch, LeasedRow, Outcome, Reason, ReportRow
from tasks.operations.cancel import cancel
from tasks.operations.check import check
from tasks.operations.foreseen_rows import ROWS_KEPT, ForeseenTotals, foresee_rows

HEADER = "customer_id,payment_method,resource,reference,description\n"
#: The same reference in several spellings, others, and none.
REFERENCES = ("\u304b\u3099\uff5e1", "\u304c\u301c1", "\u304c\uff5e1", "b", "\uff42", "")


@pytest.fixture(params=["invalid", "own"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reported]:
    """An installation under each of the policies about spellings."""
    made = Reported(tmp_path, ONBOARD_OTHER_SPELLING=str(request.param))
    yield made
    made.close()


def content(seed: int, rows: int = 60) -> str:
    """A file with repeated, changed, differently spelled and invalid rows."""
    chance = random.Random(seed)
    lines = [
        f"{chance.choice(('cus_1', 'cus_2', 'cus_3', ''))},{chance.choice(('paypay', 'creditcard', 'nonsense'))},ios,"
        f"{chance.choice(REFERENCES)},{chance.choice(('Plan', 'Other'))}\n"
        for _ in range(rows)
    ]
    return HEADER + "".join(lines)


def foreseen(place: Reported, file: Path) -> list[ReportRow]:
    """What a check says of each row."""
    checked = check(place.ours, file, offline=True)
    rules = place.ours.intake_rules()
    own = place.ours.settings.other_spelling == "own"
    rows = list(foresee_rows(file, checked.opened, rules, place.ledger, own_spellings=own))
    totals = ForeseenTotals()
    for row in rows:
        totals.add(row)
    assert totals.states.total() == checked.records == len(rows)
    assert (totals.states["waiting"], totals.states["invalid"]) == (checked.to_send, checked.invalid)
    assert checked.facts.counts.balance
    return rows


def brought(place: Reported, text: str, name: str) -> tuple[list[ReportRow], list[ReportRow], Batch]:
    """What a check says of a file, and then what acceptance makes of it."""
    file = place.folder / name
    file.write_text(text, encoding="utf-8")
    before = foreseen(place, file)
    batch = place.accept_path(file, own_spellings=place.ours.settings.other_spelling == "own")
    return before, list(place.ledger.queries.report_rows(batch.id)), batch


def some_ended(row: LeasedRow) -> Outcome:
    """Sources of which every third has ended."""
    ended = row.record % 3 == 0
    return answer(row, **({"source_status": "failed"} if ended else {}))


def assert_alike(before: list[ReportRow], after: list[ReportRow], batch: Batch) -> None:
    for expected, found in zip(before, after, strict=True):
        assert (expected.record, expected.line, expected.state) == (found.record, found.line, found.state)
        assert expected.code == found.code
        assert [each.code for each in expected.reasons] == [each.code for each in found.reasons]
        there = [each.detail.replace(f"batch {batch.id} ", "") for each in found.reasons]
        assert [each.detail for each in expected.reasons] == there
        assert expected.source_id == found.source_id


@pytest.mark.parametrize("seed", range(4))
def test_a_check_foresees_what_the_ledger_does(place: Reported, seed: int) -> None:
    for number, fate in enumerate(("sent", "cancelled", "open", "last")):
        before, after, batch = brought(place, content(10 * seed + number, rows=25), f"{number}.csv")
        assert_alike(before, after, batch)
        if fate == "sent":
            place.settle(batch, some_ended)
        elif fate == "cancelled":
            cancel(place.ours, batch.id, who="sato")


def test_two_hundred_thousand_invalid_rows_are_a_few_numbers_and_the_first_rows() -> None:
    totals, rows = ForeseenTotals(), 200_000
    for record in range(1, rows + 1):
        reasons = (Reason("blank_inside", "customer_id", f"cus {record}"), Reason("missing_value", "resource"))
        totals.add(ReportRow(record, record + 1, "invalid", "", "", "", "", False, "", "", "", 0, reasons))
    assert totals.states == {"invalid": rows}
    assert totals.reasons == {"blank_inside": rows, "missing_value": rows}
    assert len(totals.rows) == ROWS_KEPT
    blank, missing = totals.to_do
    assert (blank.rows, blank.ranges, blank.values) == (rows, [(2, rows + 1)], ["cus 1", "cus 2", "cus 3"])
    assert (missing.rows, missing.alone, len(missing.examples)) == (rows, 0, 1)


def test_a_ledger_that_is_only_looked_at_is_not_made_and_not_changed(tmp_path: Path) -> None:
    url, account = f"sqlite:///{tmp_path / 'ledger.db'}", Account()
    assert Ledger.open_existing(url, account, home=tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    Ledger.create(url, account, home=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".db", ".json")}
    ledger = Ledger.open_existing(url, account, home=tmp_path)
    assert ledger is not None
    assert ledger.rows.foresee([]) == {}
    ledger.close()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix in (".db", ".json")} == before


def test_an_empty_file_in_the_place_of_a_ledger_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    assert Ledger.open_existing(f"sqlite:///{tmp_path / 'ledger.db'}", Account(), home=tmp_path) is None
