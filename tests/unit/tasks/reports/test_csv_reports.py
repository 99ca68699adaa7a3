"""`results.csv` and `failures.csv`: what came is what stands there, byte for byte, and it can be dropped again."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from factories import answer, empty, examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reported import HEADER, Reported, cells, format_of, refused

from tasks.accept import decode_request
from tasks.csv_records import read_raw
from tasks.errors import UnusableFile
from tasks.ledger import Ledger
from tasks.models import LeasedRow, Outcome, RowState
from tasks.reports.csv_reports import OWN_COLUMNS

FILES = Path(__file__).parents[3] / "fixtures" / "files"
OWN = ",".join(OWN_COLUMNS)


def first(line: bytes, delimiter: bytes = b",") -> bytes:
    """A record of a report without our columns, told by their number."""
    parts = line.split(delimiter)
    return delimiter.join(parts[: len(parts) - len(OWN_COLUMNS)])


def test_the_first_columns_are_the_file_s_own_and_ours_follow(reported: Reported) -> None:
    paths = reported.report(HEADER + "cus_1,creditcard,ios,Plan 1\n")
    header, line = paths["results"].read_text().splitlines()
    assert header == f"{HEADER.rstrip()},{OWN}"
    assert line.startswith("cus_1,creditcard,ios,Plan 1,created,src_1,pending,,,,,1,1,2,")
    assert paths["failures"].read_text().splitlines() == [header]


@pytest.mark.parametrize(
    "value", ["007", "NA", "null", "1E5", "12345678901234567890", "2026-01-02", " blanks  ", "'", "-1", "=1+1", "１２"]
)
def test_values_are_text_and_stay_text(reported: Reported, value: str) -> None:
    paths = reported.report(HEADER + f"cus_1,creditcard,ios,{value}\n")
    assert paths["results"].read_bytes().splitlines()[1].startswith(f"cus_1,creditcard,ios,{value},created,".encode())


def test_quotes_stay_where_they_were_and_only_there(reported: Reported) -> None:
    record = '"cus_1",creditcard,"ios","say ""hi"", then\r\nleave"'
    paths = reported.report(f"{HEADER.rstrip()}\r\n{record}\r\n".encode())
    assert paths["results"].read_bytes().split(b"\r\n", 1)[1].startswith(f"{record},created,".encode())
    assert cells(paths["results"])[0]["description"] == 'say "hi", then\r\nleave'


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_as_the_file_s_lines(reported: Reported, newline: str) -> None:
    text = (HEADER + "cus_1,creditcard,ios,a\ncus_2,creditcard,ios,b\n").replace("\n", newline)
    found = reported.report(text.encode())["results"].read_bytes().decode()
    assert found.endswith(newline)
    assert found.count(newline) == 3
    assert len(found.replace(newline, "").splitlines()) == 1


def test_cp932_bytes_are_kept_even_where_a_character_has_two_codes(reported: Reported) -> None:
    # 0x87 0x90 and 0x81 0xE0 are both U+2252; decoding and encoding again would turn one into the other.
    text = "customer_id,payment_method,resource,備考\r\n".encode("cp932")
    paths = reported.report(text + b"cus_1,creditcard,ios,\x87\x90\x81\xe0\xb1\r\n", lang="ja")
    assert b"cus_1,creditcard,ios,\x87\x90\x81\xe0\xb1,created," in paths["results"].read_bytes()
    assert format_of(paths["results"]).encoding == "cp932"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_stays_utf16_with_its_mark(reported: Reported, encoding: str) -> None:
    text = "\ufeff" + HEADER + "cus_1,creditcard,ios,日本\nmissing,creditcart,ios,表ソ\n"
    paths = reported.report(text.encode(encoding), lang="ja")
    found = paths["results"].read_bytes().decode(encoding)
    assert found.startswith("\ufeffcustomer_id,")
    assert "cus_1,creditcard,ios,日本,created," in found
    assert cells(paths["failures"])[0]["description"] == "表ソ"
    assert "決済方法" in cells(paths["failures"])[0]["onboarding_message"]


def test_a_byte_order_mark_and_a_sep_line_stay_in_front(reported: Reported) -> None:
    text = "\ufeffsep=;\r\n" + HEADER.replace(",", ";").rstrip() + "\r\n" + "cus_1;creditcard;ios;a,b\r\n"
    found = reported.report(text)["results"].read_bytes().decode()
    assert found.startswith("\ufeffsep=;\r\ncustomer_id;payment_method;resource;description;onboarding_state;")
    assert "\r\ncus_1;creditcard;ios;a,b;created;src_1;" in found


def test_blank_lines_are_left_out_and_line_numbers_are_the_file_s(reported: Reported) -> None:
    paths = reported.report(HEADER + "\n  \ncus_1,creditcard,ios,a\n\ncus_2,creditcard,ios,b\n\n")
    found = cells(paths["results"])
    assert [(row["onboarding_record"], row["onboarding_line"]) for row in found] == [("1", "4"), ("2", "6")]


def test_a_file_without_a_last_line_end_gets_one(reported: Reported) -> None:
    assert reported.report(HEADER + "cus_1,creditcard,ios,a")["results"].read_bytes().endswith(b"\n")


def test_what_we_say_is_quoted_in_the_file_s_dialect(reported: Reported) -> None:
    def no(row: LeasedRow) -> Outcome:
        return answer(row, RowState.REFUSED, code="M002002", parameter='a,"b"', request_id="req,1")

    row = cells(reported.report(HEADER + "cus_1,creditcard,ios,a\n", no)["failures"])[0]
    assert row["onboarding_column"] == 'a,"b"'
    assert row["onboarding_request_id"] == "req,1"
    assert '"b"' in row["onboarding_message"]


def test_a_report_in_an_encoding_that_lacks_japanese_is_told_in_english(reported: Reported) -> None:
    latin = Reported(reported.folder / "latin", ONBOARD_ENCODINGS="ascii")
    try:
        paths = latin.report(HEADER + "cus_1,creditcart,ios,a\n", lang="ja")
    finally:
        latin.close()
    assert b",payment_method is not a payment method of elepay" in paths["failures"].read_bytes()


# Records that are not as the header says ------------------------------------------------------------------------------


BROKEN = {
    "too few": ("cus_1,creditcard", "too_few_fields 2/4"),
    "too many": ("cus_1,creditcard,ios,a,surplus,=more", "too_many_fields 6/4"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_record_of_wrong_width_is_straightened_and_marked(reported: Reported, kind: str) -> None:
    record, marked = BROKEN[kind]
    row = cells(reported.report(HEADER + record + "\n")["failures"])[0]
    assert row["customer_id"] == "cus_1"
    assert row["onboarding_state"] == "invalid"
    assert row["onboarding_straightened"].startswith(marked)
    if kind == "too many":
        assert row["onboarding_straightened"].endswith("surplus,=more")


@pytest.mark.parametrize("safe", [False, True])
@pytest.mark.parametrize("record", ["cus_1,creditcard,ios", "cus_1,creditcard,ios,a,b", 'cus_1,creditcard,ios,"a"b'])
def test_a_broken_record_that_nobody_mended_is_never_sent(reported: Reported, record: str, safe: bool) -> None:
    """Straightened it looks sound: dropped again and again as it is, it must stay invalid, for the same reason."""
    paths = reported.report(HEADER + record + "\n", excel_safe=True)
    code = cells(paths["failures"])[0]["onboarding_code"]
    for again in range(3):
        paths = reported.report(
            paths["failures_excel_safe" if safe and again != 1 else "failures"].read_bytes(), excel_safe=True
        )
        row = cells(paths["failures"])[0]
        assert (row["onboarding_state"], row["onboarding_code"]) == ("invalid", code)


def test_a_broken_record_is_sent_once_it_is_mended_or_its_mark_is_emptied(reported: Reported) -> None:
    paths = reported.report(HEADER + "cus_1,creditcard,ios\ncus_2,creditcard,ios\ncus_3,creditcard,ios\n")
    text = paths["failures"].read_text()
    lines = text.splitlines(keepends=True)
    lines[1] = lines[1].replace("cus_1,creditcard,ios,,", "cus_1,creditcard,ios,Plan 1,")
    lines[2] = lines[2][: lines[2].rindex("too_few_fields")] + "\n"
    found = cells(reported.report("".join(lines))["results"])
    assert [row["onboarding_state"] for row in found] == ["created", "created", "invalid"]


def test_misplaced_quotes_stay_as_they_stand(reported: Reported) -> None:
    record = 'cus_1,creditcard,ios,"Plan "one"'
    paths = reported.report(HEADER + record + "\ncus_2,creditcard,ios,a\n")
    lines = paths["results"].read_text().splitlines()
    assert lines[1].startswith(record + ",invalid,")
    assert lines[2].startswith("cus_2,creditcard,ios,a,created,")
    again = cells(reported.report(paths["failures"].read_bytes())["failures"])
    assert again[0]["onboarding_code"] == "malformed_quotes"


# Dropped again --------------------------------------------------------------------------------------------------------


def test_columns_of_an_earlier_report_give_way(reported: Reported) -> None:
    first_time = reported.report(HEADER + "cus_1,creditcart,ios,a\ncus_2,creditcard,ios,b\n")
    again = reported.report(first_time["failures"].read_bytes().replace(b"creditcart", b"creditcard"))
    header, line = again["results"].read_text().splitlines()
    assert header == f"{HEADER.rstrip()},{OWN}"
    assert line.startswith("cus_1,creditcard,ios,a,created,")
    assert cells(again["results"])[0]["onboarding_batch"] == "2"


def test_columns_that_a_person_put_behind_ours_stay_and_ours_move_to_the_end(reported: Reported) -> None:
    text = "onboarding_state,customer_id,payment_method,Onboarding_Code,resource,note\nx,cus_1,creditcard,y,ios,mine\n"
    header, line = reported.report(text)["results"].read_text().splitlines()
    assert header == f"customer_id,payment_method,resource,note,{OWN}"
    assert line.startswith("cus_1,creditcard,ios,mine,created,")


def test_failures_hold_what_needs_a_person_and_nothing_else(reported: Reported) -> None:
    text = HEADER + "".join(f"cus_{n},creditcard,ios,a\n" for n in (1, 2, 3, 1)) + "x,nonsense,ios,a\n"
    ends = {"cus_2": refused(), "cus_3": lambda row: answer(row, RowState.UNCLEAR, code="lost_answer")}

    def decide(row: LeasedRow) -> Outcome | None:
        return ends.get(row.customer_id, answer)(row)

    paths = reported.report(text, decide)
    states = [row["onboarding_state"] for row in cells(paths["results"])]
    assert states == ["created", "refused", "unclear", "skipped", "invalid"]
    assert [row["onboarding_record"] for row in cells(paths["failures"])] == ["2", "3", "5"]


# Excel-safe copies ----------------------------------------------------------------------------------------------------


DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1", "'=1", "'", "''x", '=HYPERLINK("http://x","y")']


@pytest.mark.parametrize("value", DANGEROUS)
def test_no_cell_of_a_safe_copy_is_taken_for_a_formula(reported: Reported, value: str) -> None:
    quoted = value.replace('"', '""')
    paths = reported.report(HEADER + f'cus_1,creditcard,ios,"{quoted}"\n', refused(), excel_safe=True)
    for name in ("results_excel_safe", "failures_excel_safe"):
        for record in csv.reader(io.StringIO(paths[name].read_text(), newline="")):
            assert not any(cell.startswith(tuple("=+-@\t\r＝＋－＠")) for cell in record)
    sent: list[str | None] = []

    def decide(row: LeasedRow) -> Outcome:
        sent.append(decode_request(row.request).description)
        return answer(row)

    again = reported.report(paths["failures_excel_safe"].read_bytes(), decide)
    assert set(sent) == {value}
    assert f'cus_1,creditcard,ios,"{quoted}"' in paths["results"].read_text()
    held = cells(again["results"])[0]
    assert held["onboarding_state"] == "created"
    assert held["description"] == "'" + value, "a safe copy's exact reports are its own bytes"


def test_titles_of_a_safe_copy_are_safe_too(reported: Reported) -> None:
    paths = reported.report("customer_id,payment_method,resource,=1+1\ncus_1,creditcard,ios,a\n", excel_safe=True)
    assert b'"\'=1+1"' in paths["results_excel_safe"].read_bytes()
    again = reported.report(paths["results_excel_safe"].read_bytes())
    assert "'=1+1" in format_of(again["results"]).header


# The hardest files, and any file --------------------------------------------------------------------------------------


#: Every third of them is asked by `make test`, all by `make resilience`.
HARDEST = [
    pytest.param(path, id=path.name, marks=[pytest.mark.resilience] if at % 3 else [])
    for at, path in enumerate(sorted(FILES.glob("*.[ct]sv")))
]


@pytest.mark.parametrize("path", HARDEST)
def test_every_record_of_the_hardest_files_stands_in_its_results(reported: Reported, path: Path) -> None:
    try:
        batch = reported.accept_path(path)
    except UnusableFile:
        return
    paths = reported.write(reported.settle(batch, refused()), lang="ja", excel_safe=True)
    fmt = reported.facts(batch).file_format
    assert fmt
    theirs = list(read_raw(reported.ours.kept_file(batch), fmt))
    ours = list(read_raw(paths["results"], format_of(paths["results"])))
    assert len(theirs) == len(ours) == batch.records
    earlier_report = any(title.casefold().startswith("onboarding_") for title in fmt.header)
    for before, after in zip(theirs, ours, strict=True):
        assert earlier_report or before.width > len(fmt.header) or after.raw.startswith(before.raw)
    failures = list(read_raw(paths["failures"], format_of(paths["failures"])))
    states = [row.state for row in reported.ledger.queries.report_rows(batch.id)]
    assert len(failures) == len(states) - states.count("skipped")
    if failures:
        assert reported.accept_path(paths["failures"]).records == len(failures)
        assert reported.accept_path(paths["failures_excel_safe"]).records == len(failures)


VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
DIALECTS = st.tuples(st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())


@given(
    records=st.lists(
        st.tuples(VALUES, VALUES, st.sampled_from(["created", "refused", "unclear"])), min_size=1, max_size=8
    ),
    dialect=DIALECTS,
)
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_come_back_from_results_and_failures(
    tmp_path_factory: pytest.TempPathFactory,
    shared_ledger: Ledger,
    records: list[tuple[str, str, str]],
    dialect: tuple[str, str, bool, bool],
) -> None:
    delimiter, newline, bom, quote_all = dialect
    special = re.compile(rf'[\r\n"{delimiter}]|^$') if quote_all else re.compile(rf'[\r\n"{delimiter}]')
    lines = [["customer_id", "payment_method", "resource", "description", "note"]]
    lines += [[f"cus_{number}", "creditcard", "ios", *each[:2]] for number, each in enumerate(records)]
    text = "".join(
        delimiter.join('"' + cell.replace('"', '""') + '"' if special.search(cell) else cell for cell in line) + newline
        for line in lines
    )
    ends = {f"cus_{number}": RowState(end) for number, (_, _, end) in enumerate(records)}

    def decide(row: LeasedRow) -> Outcome:
        state = ends[row.customer_id]
        return answer(row) if state is RowState.CREATED else answer(row, state, code="U003005")

    empty(shared_ledger)
    reported = Reported(tmp_path_factory.mktemp("any"), shared_ledger)
    paths = reported.report(("\ufeff" if bom else "") + text, decide, excel_safe=True)
    results = cells(paths["results"])
    assert [(row["description"], row["note"]) for row in results] == [each[:2] for each in records]
    assert [row["customer_id"] for row in results] == list(ends)
    failed = [row for row in results if row["onboarding_state"] != "created"]
    assert cells(paths["failures"]) == failed
    for name in ("failures", "failures_excel_safe"):
        if failed:
            batch = reported.accept_path(paths[name])
            rows = list(reported.ledger.queries.report_rows(batch.id))
            known = {row["onboarding_record"]: row for row in failed}
            assert len(rows) == len(known)
