"""Every code of a record, an oddity or a file: what its hint asks for, and then the row is created once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hinted import Installation, edited, judge
from walked import (
    ALONE,
    FILES,
    GOOD,
    OPEN,
    OTHER_RECORDS,
    RECORDS,
    REFUSED,
    REFUSED_BY_US,
    SKIPPED,
    TITLES,
    UNCLEAR,
    WARNED,
)

from tasks.errors import UnusableFile
from tasks.operations import accept_batch
from tasks.reason_texts import CODES, LANGUAGES, explain_file

#: Of files of decisions (`onboard resolve --from`): `test_mornings` follows them.
DECISIONS = {"no_decisions", "decision_unknown", "decision_source", "decision_row", "decision_repeated"}


def test_every_code_is_walked() -> None:
    walked = {*OPEN, *UNCLEAR, *REFUSED_BY_US, *SKIPPED, *ALONE, *REFUSED, *RECORDS, *OTHER_RECORDS, *WARNED, *FILES}
    walked |= DECISIONS
    assert set(CODES) - walked == set()
    assert walked - set(CODES) == set()


def record(code: str, bad: dict[str, str] | str) -> str:
    """A line of a file."""
    if isinstance(bad, str):
        return bad + "\n"
    usual = {"customer_id": f"cus_{code}", "payment_method": "creditcard", "resource": "ios", "description": "a"}
    return ",".join((usual | bad).get(title, "") for title in TITLES) + "\n"


def corrected(row: dict[str, str]) -> dict[str, str] | None:
    """Correct a record as its hint asks."""
    change = RECORDS[row["onboarding_code"].split(" | ")[-1]][1]
    return None if change is None else row | {"onboarding_straightened": ""} | change


def test_every_invalid_record_is_created_once_it_was_corrected_as_its_hint_asks(
    new: Callable[..., Installation],
) -> None:
    place, created = new(), 0
    place.simulator.control(disabled_methods=["merpay"])
    for asks in (True, False):
        place.asks_for_methods = asks
        codes = {code for code in RECORDS if (code == "method_not_enabled") is asks}
        records = "".join(record(code, RECORDS[code][0]) for code in sorted(codes))
        batch = place.run(",".join(TITLES) + "\n" + records).id
        assert {row["onboarding_code"].split(" | ")[-1] for row in place.report(batch).values()} == codes
        place.simulator.control(disabled_methods=[])
        edited(place.failures(batch), corrected)
        created += place.ledger.queries.counts(place.run(place.failures(batch)).id).created
    assert created == len([code for code, (_, change) in RECORDS.items() if change is not None])
    assert set(place.sources().values()) == {1}


def test_more_reasons_than_are_listed_come_one_after_the_other(new: Callable[..., Installation]) -> None:
    place = new()
    entries, bell = [f"metadata.k{at}" for at in range(21)], ",\x07" * 8
    titles = "customer_id,payment_method,resource," + ",".join(entries)
    batch = place.run(f"{titles}\ncus_1,creditcard,ios{',a' * 21}\ncus_2,creditcard,ios{bell}{',' * 13}\n").id
    codes = {code for row in place.report(batch).values() for code in row["onboarding_code"].split(" | ")}
    assert codes == {"too_many_entries", "control_character", "more_reasons"}
    for _ in range(8):  # each time the listed ones
        listed = [row["onboarding_column"].split(" | ") for row in place.report(batch).values()]
        wrong = {title for columns in listed for title in columns if title in entries}
        gone = wrong or {"metadata.k0", "metadata.k1"}
        edited(place.failures(batch), lambda row, gone=gone: row | dict.fromkeys(gone, ""))  # type: ignore[misc]
        batch = place.run(place.failures(batch)).id
        if not place.ledger.open_work.of_batch(batch).open:
            break
    judge(place, ["cus_1", "cus_2"])


def test_no_oddity_keeps_a_row_from_being_sent(new: Callable[..., Installation]) -> None:
    place = new(ONBOARD_DAMAGED_KEYS="send")
    place.asks_for_methods = False
    for code, content in WARNED.items():
        place.simulator.post("reset", profile="clean")
        batch = place.run(content, f"{code}.csv", again=True)
        assert code in {warning[0] for warning in batch.warnings}
        assert place.ledger.queries.counts(batch.id).created == 1, code
        page = (place.reports(batch.id) / "report.html").read_text() if place.report(batch.id) else ""
        assert "Oddities of the file" in page
        assert set(place.sources().values()) == {1}


def refused_file(place: Installation, code: str) -> None:
    """Bring a file that cannot be used."""
    content, rules = FILES[code]
    if code == "unreadable_file":
        place.accept_path(place.folder / "nowhere.csv")
    elif code == "changed_while_reading":
        (place.folder / "customers.csv").write_bytes(content)
        accept_batch.keep_file(place.folder / "customers.csv", place.services.files, "0" * 64)
    else:
        place.accept(content, **rules)


@pytest.mark.parametrize("code", FILES)
def test_a_file_that_cannot_be_used_says_what_to_do_and_then_is_onboarded(
    new: Callable[..., Installation], code: str
) -> None:
    place, rules = new(), FILES[code][1]
    if code == "finished_before":
        place.run(GOOD)
        place.delete("cus_1")
    with pytest.raises(UnusableFile) as caught:
        refused_file(place, code)
    assert caught.value.code == code
    assert place.sources() == {}
    for lang in LANGUAGES:
        said, hint = explain_file(caught.value, lang)
        assert said
        assert "--again" not in hint
        assert "{" not in hint
    if code == "finished_before":
        for words in ("onboard audit 1", "ONBOARD_REFUSE_FINISHED_FILE=0 onboard run FILE"):
            assert f"`{words}`" in hint
            place.type(words, place.folder / "customers.csv")
    else:
        place.run(GOOD, **rules)
    judge(place, ["cus_1"])
