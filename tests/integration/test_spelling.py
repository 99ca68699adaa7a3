"""An identity in another spelling is not sent unasked nor skipped in silence; as its own it has exactly one source."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from factories import KEY, Command, Simulator, answer, examples, new_row, new_worker, running_batch, whole
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reported import Reported
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.models import BatchState, NewRow, ReportRow, RowState

MAC, WINDOWS, PLAIN = "4\u6708\u301c6\u6708", "4\u6708\uff5e6\u6708", "4\u6708~6\u6708"
COMPOSED, DECOMPOSED = "\u30ac\u30b9", "\u30ab\u3099\u30b9"
TITLES = "customer_id,payment_method,resource,reference"


def spelled(*references: str) -> list[NewRow]:
    """A record for each reference, of one customer."""
    return [new_row(record, customer="cus_1", reference=each) for record, each in enumerate(references, 1)]


def said(ledger: Ledger, batch: int) -> list[tuple[str, str, str]]:
    """State, code and detail of each row of a batch."""
    rows: Iterator[ReportRow] = ledger.queries.report_rows(batch)
    return [(row.state, *(row.reasons[0][::3] if row.reasons else ("", ""))) for row in rows]


def finished(ledger: Ledger, batch: int, state: RowState = RowState.CREATED, **more: str) -> list[str]:
    """Send what waits in a batch; return the references that were sent."""
    worker = new_worker(ledger)
    rows = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(rows)
    worker.record(*[answer(row, state, source_id=f"src_{batch}_{row.record}", **more) for row in rows])
    return [row.reference for row in rows]


# ---------------------------------------------------------------------- the ledger


def test_another_spelling_in_the_file_is_invalid_and_names_the_line(ledger: Ledger) -> None:
    batch = running_batch(ledger, spelled(MAC, WINDOWS, MAC, PLAIN, COMPOSED, DECOMPOSED))
    assert said(ledger, batch) == [
        ("waiting", "", ""),
        ("invalid", "other_spelling", "line 2"),
        ("skipped", "duplicate_in_file", "record 1"),
        ("invalid", "other_spelling", "line 2"),
        ("waiting", "", ""),
        ("invalid", "other_spelling", "line 6"),
    ]
    counts = ledger.queries.counts(batch)
    assert counts.balance
    assert (counts.invalid, counts.skipped, counts.open) == (3, 1, 2)


def test_another_spelling_of_an_earlier_batch_is_invalid_and_names_batch_and_line(ledger: Ledger) -> None:
    first = running_batch(ledger, spelled("other", MAC))
    finished(ledger, first)
    second = running_batch(ledger, spelled(WINDOWS, MAC))
    assert said(ledger, second) == [
        ("invalid", "other_spelling", f"batch {first} line 3"),
        ("skipped", "onboarded_before", f"batch {first} record 2"),
    ]
    assert finished(ledger, second) == []
    with ledger.engine.read() as connection:
        row = connection.execute(text(f"select * from rows where batch_id = {second} and record = 1")).one()
    assert (row.identity, row.request, row.content, row.spelling, row.yielded) == (None,) * 5


def test_no_ended_source_and_no_wish_for_one_more_lets_another_spelling_be_sent(ledger: Ledger) -> None:
    finished(ledger, running_batch(ledger, spelled(MAC, COMPOSED)), source_status="failed")
    second = running_batch(ledger, spelled(WINDOWS, DECOMPOSED, COMPOSED), again=True)
    assert [state for state, *_ in said(ledger, second)] == ["invalid", "invalid", "waiting"]


def test_what_was_refused_or_cancelled_before_it_was_sent_is_known_in_no_spelling(ledger: Ledger) -> None:
    finished(ledger, running_batch(ledger, spelled(MAC)), RowState.REFUSED, code="U003005")
    cancelled = running_batch(ledger, spelled(COMPOSED))
    assert ledger.lifecycle.change_state(cancelled, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    later = running_batch(ledger, spelled(WINDOWS, DECOMPOSED))
    assert [state for state, *_ in said(ledger, later)] == ["waiting", "waiting"]
    assert len(finished(ledger, later)) == 2
    assert said(ledger, running_batch(ledger, spelled(MAC, COMPOSED))) == [
        ("invalid", "other_spelling", f"batch {later} line 2"),
        ("invalid", "other_spelling", f"batch {later} line 3"),
    ]


def test_a_cancelled_wish_for_one_more_leaves_the_first_source_known(ledger: Ledger) -> None:
    first = running_batch(ledger, spelled(MAC))
    finished(ledger, first)
    more = running_batch(ledger, spelled(MAC), again=True)
    assert said(ledger, more) == [("waiting", "", "")]
    assert ledger.lifecycle.change_state(more, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    assert said(ledger, running_batch(ledger, spelled(MAC, WINDOWS))) == [
        ("skipped", "onboarded_before", f"batch {first} record 1"),
        ("invalid", "other_spelling", f"batch {first} line 2"),
    ]


@pytest.mark.parametrize("later", [True, False], ids=["own", "invalid"])
@pytest.mark.parametrize("order", list(itertools.permutations([MAC, WINDOWS, PLAIN])), ids="".join)
def test_spellings_sent_as_their_own_have_one_source_each_whatever_the_setting_is_later(
    ledger: Ledger, order: tuple[str, ...], later: bool
) -> None:
    batch = running_batch(ledger, spelled(*order, *order), own_spellings=True)
    assert [state for state, *_ in said(ledger, batch)] == ["waiting"] * 3 + ["skipped"] * 3
    references = finished(ledger, batch)
    assert len(set(references)) == 3
    again = running_batch(ledger, spelled(*reversed(order)), own_spellings=later)
    assert said(ledger, again) == [
        ("skipped", "onboarded_before", f"batch {batch} record {record}") for record in (3, 2, 1)
    ]
    assert [row.reference for row in ledger.queries.report_rows(again)] == references[::-1]


def test_a_spelling_of_its_own_stays_so_when_the_other_one_is_refused(ledger: Ledger) -> None:
    """The folded identity is free then; whoever took it for the spelling would make a second source."""
    first, second = running_batch(ledger, spelled(MAC)), running_batch(ledger, spelled(PLAIN), own_spellings=True)
    finished(ledger, second)
    finished(ledger, first, RowState.REFUSED, code="U003005")
    for own in (False, True):
        assert said(ledger, running_batch(ledger, spelled(PLAIN), own_spellings=own)) == [
            ("skipped", "onboarded_before", f"batch {second} record 1")
        ]
    assert (
        said(ledger, running_batch(ledger, spelled(WINDOWS, MAC)))
        == [("invalid", "other_spelling", f"batch {second} line 2")] * 2
    )


def test_a_spelling_of_its_own_has_generations_of_its_own(ledger: Ledger) -> None:
    batch = running_batch(ledger, spelled(MAC, WINDOWS), own_spellings=True)
    first, second = finished(ledger, batch)
    with ledger.engine.write() as connection:
        connection.execute(text("update rows set source_status = 'deleted' where record = 2"))
    night = running_batch(ledger, spelled(MAC, WINDOWS))
    assert [state for state, *_ in said(ledger, night)] == ["skipped", "waiting"]
    assert finished(ledger, night) == [f"{second}-2"]
    assert finished(ledger, running_batch(ledger, spelled(MAC, WINDOWS), again=True)) == [f"{first}-2", f"{second}-3"]


def test_a_spelling_of_its_own_that_was_refused_keeps_its_reference(ledger: Ledger) -> None:
    """A refusal may be taken back, when it was about the key: then nothing else may have been sent for the spelling."""
    first = running_batch(ledger, spelled(MAC, WINDOWS), own_spellings=True)
    references = finished(ledger, first, RowState.REFUSED, code="U003005")
    assert finished(ledger, running_batch(ledger, spelled(WINDOWS))) == references[1:]
    assert said(ledger, running_batch(ledger, spelled(MAC))) == [
        ("invalid", "other_spelling", f"batch {first + 1} line 2")
    ]


def test_own_spellings_are_looked_up_by_their_key(tmp_path: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    running_batch(ledger, spelled(MAC, WINDOWS), own_spellings=True)
    with ledger.engine.read() as connection:
        plan = connection.exec_driver_sql("explain query plan select * from own_spellings where identity in (x'00')")
        assert "SEARCH own_spellings USING PRIMARY KEY (identity=?)" in str(plan.all())
    ledger.close()


# ---------------------------------------------------------------------- any order of files, settings and spellings

GROUPS = ([MAC, WINDOWS, PLAIN], [COMPOSED, DECOMPOSED, "\uff76\uff9e\uff7d"])
_prefixes = itertools.count()

entries = st.tuples(
    st.sampled_from([0, 0, 0, 1]),
    st.integers(0, 2),
    st.sampled_from(["created", "created", "refused", "refused", "unclear", "unsent"]),
)


@dataclass(frozen=True)
class Night:
    """One file and what becomes of it."""

    rows: list[tuple[int, int, str]]  #: group, spelling, and what becomes of the row if it is to be sent
    own: bool
    again: bool
    ending: str  #: "run", "cancelled" with what is unsent, or "discarded" while it is read
    ended: list[tuple[int, int]]  #: spellings whose source has ended when the night is over


nights = st.builds(
    Night,
    rows=st.lists(entries, min_size=1, max_size=5),
    own=st.sampled_from([False, True, True]),
    again=st.sampled_from([False, False, False, True]),
    ending=st.sampled_from(["run", "run", "run", "cancelled", "discarded"]),
    ended=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=1),
)


@dataclass
class Known:
    """What must be known after each night: who has a source, may have one, or is going to get one."""

    owned: dict[tuple[int, int], str] = field(default_factory=dict)  #: spelling -> created, ended, unclear or unsent
    places: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)  #: spelling -> batch and record
    created: Counter[str] = field(default_factory=Counter)  #: reference -> sources

    def expect(self, night: Night) -> list[str]:
        """Return the state in which each row of a file must be added."""
        here: set[tuple[int, int]] = set()
        states = []
        for group, spelling, _ in night.rows:
            row = group, spelling
            if row in here or (row in self.owned and not self._once_more(row, night)):
                states.append("skipped")
            elif row not in self.owned and not night.own and group in {each for each, _ in here | set(self.owned)}:
                states.append("invalid")
            else:
                states.append("waiting")
                here.add(row)
        return states

    def _once_more(self, row: tuple[int, int], night: Night) -> bool:
        return self.owned[row] == "ended" or (self.owned[row] == "created" and night.again)


@given(story=st.lists(nights, min_size=1, max_size=6))
@example(
    story=[
        Night([(0, 0, "refused"), (0, 2, "created")], own=True, again=False, ending="run", ended=[]),
        Night([(0, 2, "created"), (0, 1, "created")], own=False, again=False, ending="run", ended=[]),
    ]
)
@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.resilience
@pytest.mark.representative(every_case=True)
def test_over_any_nights_each_spelling_has_one_source_and_no_row_is_sent_unasked(
    ledger: Ledger, story: list[Night]
) -> None:
    """Files in any order, with either setting, of which any row may be refused, lost, cancelled or ended."""
    customer, known = f"cus_{next(_prefixes)}", Known()
    for night in story:
        play(ledger, customer, night, known)
    assert max(known.created.values(), default=0) <= 1, "one reference, two sources"


def play(ledger: Ledger, customer: str, night: Night, known: Known) -> None:
    """Run one night and compare every row with what must become of it."""
    new = [
        new_row(record, customer=customer, reference=GROUPS[group][spelling])
        for record, (group, spelling, _) in enumerate(night.rows, 1)
    ]
    worker = new_worker(ledger)
    batch = ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=worker.number, parent_id=None)
    for rows in filter(None, (new[:2], new[2:])):  # in two chunks, as a large file is
        ledger.rows.add(batch, rows, again=night.again, own_spellings=night.own)
    assert [row.state for row in ledger.queries.report_rows(batch)] == known.expect(night)
    if night.ending == "discarded":
        ledger.batches.discard(batch)
        return
    ledger.lifecycle.start(batch, 100)
    held = ledger.leases.claim(whole(batch), worker.number)
    fates = {row.record: night.rows[row.record - 1][2] for row in held}
    worker.mark([row for row in held if fates[row.record] != "unsent"])
    for row in held:
        spelling, fate = night.rows[row.record - 1][:2], fates[row.record]
        if fate == "unsent":
            ledger.leases.release(worker.number, [row], {})
        else:
            more = {"source_id": f"src_{batch}_{row.record}"} if fate == "created" else {"code": "U003005"}
            worker.record(answer(row, RowState(fate), **more))
            known.created[row.reference] += fate == "created"
        if fate in ("created", "unclear") or (fate == "unsent" and night.ending == "run"):
            known.owned[spelling] = fate
            known.places[spelling] = batch, row.record
    if night.ending == "cancelled":
        ledger.lifecycle.change_state(batch, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    for spelling in night.ended:
        if known.owned.get(spelling) == "created":
            known.owned[spelling] = "ended"
            ended = "update rows set source_status = 'failed' where batch_id = :batch and record = :record"
            with ledger.engine.write() as connection:
                connection.execute(text(ended), dict(zip(("batch", "record"), known.places[spelling], strict=True)))


# ---------------------------------------------------------------------- the command line


def write(file: Path, *references: str, encoding: str = "utf-8", customer: str = "cus_1") -> Path:
    """A file of one customer's references, which elepay is sent as metadata besides."""
    lines = [f"{TITLES},metadata.months", *(f"{customer},creditcard,web,{each},{each}" for each in references)]
    file.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    return file


def sent(simulator: Simulator) -> dict[str, str]:
    """What elepay was sent of the customer's references -> `onboarding_ref` of the source."""
    listed = requests.get(f"{simulator.url}/customers/cus_1/sources", auth=(KEY, ""), timeout=5).json()["sources"]
    return {source["metadata"]["months"]: source["metadata"]["onboarding_ref"] for source in listed}


@pytest.mark.parametrize(
    ("one", "other"),
    [((MAC, "utf-8"), (WINDOWS, "cp932")), ((COMPOSED, "utf-8"), (DECOMPOSED, "utf-8"))],
    ids=["wave", "nfd"],
)
@pytest.mark.resilience
@pytest.mark.representative
def test_one_reference_from_two_programs_has_one_source_and_the_other_file_needs_attention(
    tmp_path: Path, simulator: Simulator, one: tuple[str, str], other: tuple[str, str]
) -> None:
    command = Command(tmp_path, simulator)
    first = command.json("run", write(tmp_path / "one.csv", one[0], encoding=one[1]))
    assert (first["exit"], first["books"]["created"]) == (0, 1)
    second = command.json("run", write(tmp_path / "other.csv", other[0], encoding=other[1]))
    assert (second["exit"], second["books"]["invalid"], second["books"]["balance"]) == (1, 1, True)
    assert "1 needs attention" in second["verdict"]
    assert list(sent(simulator)) == [one[0]], "as it was written"
    with Path(second["reports"]["failures"]).open(encoding=other[1], newline="") as file:
        (failure,) = csv.DictReader(file)
    assert (failure["reference"], failure["onboarding_code"]) == (other[0], "other_spelling")
    assert "See batch 1 line 2." in failure["onboarding_message"]
    assert "ONBOARD_OTHER_SPELLING" in failure["onboarding_hint"]
    fixed = Path(second["reports"]["failures"])
    fixed.write_bytes(fixed.read_bytes().replace(other[0].encode(other[1]), b"another"))
    third = command.json("run", fixed)
    assert (third["exit"], third["books"]["created"]) == (0, 1)
    assert len(simulator.sources()) == 2


def test_the_setting_sends_another_spelling_once_and_a_later_night_skips_both(
    tmp_path: Path, simulator: Simulator
) -> None:
    usual, own = Command(tmp_path, simulator), Command(tmp_path, simulator, ONBOARD_OTHER_SPELLING="own")
    mac, windows = write(tmp_path / "mac.csv", MAC), write(tmp_path / "windows.csv", WINDOWS, encoding="cp932")
    assert usual.json("run", mac)["books"]["created"] == 1
    assert usual.json("run", windows)["exit"] == 1
    assert own.json("run", windows)["books"]["created"] == 1
    for command, file in itertools.product((usual, own), (windows, mac, write(tmp_path / "both.csv", WINDOWS, MAC))):
        done = command.json("run", file)
        assert (done["exit"], done["books"]["skipped"]) == (0, done["books"]["records"])
    sources = sent(simulator)
    assert set(sources) == {MAC, WINDOWS}
    assert sources[MAC] != sources[WINDOWS]
    assert len(simulator.sources()) == 2
    assert Command(tmp_path, simulator, ONBOARD_OTHER_SPELLING="both")("run", mac).returncode == 2


def test_the_check_of_a_file_says_which_rows_are_spelled_otherwise(tmp_path: Path) -> None:
    file = write(tmp_path / "all.csv", MAC, WINDOWS, PLAIN, MAC, COMPOSED, DECOMPOSED, "\uff76\uff9e\uff7d", DECOMPOSED)
    usual = Command(tmp_path).json("check", file, "--offline")
    assert usual["reasons"] == {"other_spelling": 5}
    assert [usual[name] for name in ("exit", "records", "to_send", "invalid", "repeated")] == [1, 8, 2, 5, 1]
    assert "See line 6." in Command(tmp_path)("check", file, "--offline", timeout=60).stdout.replace("\n", " ")
    own = Command(tmp_path, ONBOARD_OTHER_SPELLING="own").json("check", file, "--offline")
    assert [own[name] for name in ("exit", "records", "to_send", "invalid", "repeated")] == [0, 8, 6, 0, 2]


def test_a_spelling_is_the_same_in_a_file_that_is_read_by_intake(tmp_path: Path) -> None:
    """The rows of a real file, and a Japanese report of them."""
    made = Reported(tmp_path)
    lines = [TITLES, *(f"cus_1,creditcard,web,{each}" for each in ("plain", COMPOSED, DECOMPOSED, COMPOSED))]
    batch = made.accept("\n".join(lines))
    rows = list(made.ledger.queries.report_rows(batch.id))
    assert [row.state for row in rows] == ["waiting", "waiting", "invalid", "skipped"]
    reports = made.write(made.settle(batch), lang="ja")
    failures = reports["failures"].read_text("utf-8")
    assert "other_spelling" in failures
    assert "別の表記" in failures
    assert "3 行目" in failures
