"""`report.xlsx`: every cell is text, whatever the file brings in, and people find their way."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path

import pytest
from factories import answer
from openpyxl import load_workbook
from openpyxl.workbook import Workbook
from openpyxl.worksheet.worksheet import Worksheet
from reported import HEADER, Reported, refused, unclear

from tasks.models import LeasedRow, Outcome, RowState
from tasks.reports.text_sheet import MAX_CHARS, MAX_ROWS

MIXED = HEADER + "".join(
    f"{line},creditcard,ios,a\n" for line in ("cus_1", "cus_2", "cus_3", "cus_4", "cus_1", "cus_5", "cus_6")
)
MIXED += "cus_7,creditcart,ios,a\n,creditcard,ios,a\n,creditcard,ios,b\n"


def mixed(row: LeasedRow) -> Outcome | None:
    """Two created, two refused for different reasons, one unclear."""
    number = int(row.customer_id[-1])
    if number == 2:
        return answer(row, RowState.REFUSED, code="U003005", request_id="req_2")
    if number == 3:
        return answer(row, RowState.REFUSED, code="M002002", parameter="extra.x")
    return unclear(row) if number == 4 else answer(row)


def opened(path: Path) -> Workbook:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_workbook(path)


def texts_of(sheet: Worksheet) -> list[list[str]]:
    return [["" if value is None else value for value in row] for row in sheet.iter_rows(values_only=True)]


def column(sheet: Worksheet, title: str) -> list[str]:
    head, *rows = texts_of(sheet)
    return [row[head.index(title)] for row in rows]


DANGEROUS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "-1",
    "https://example.com",
    "mailto:a@example.com",
    "internal:Sheet1!A1",
    "<r><t>x</t></r>",
    "{=1+1}",
    "007",
    "1E5",
    "12345678901234567890",
    "NA",
    "2026-01-02",
    "TRUE",
    " blanks  inside and around ",
    "_x0041_",
    "a & b < c > d",
    'say "hi"',
    "表ソ能　予",
    "𠮟る👍🏽",
]


@pytest.mark.parametrize("value", DANGEROUS)
def test_a_value_is_the_same_text_and_nothing_else(reported: Reported, value: str) -> None:
    quoted = '"' + value.replace('"', '""') + '"'
    path = reported.report(f"{HEADER.rstrip()},{quoted}\ncus_1,creditcard,ios,a,{quoted}\n", refused())["xlsx"]
    book = opened(path)
    for cell in (book["Results"]["S1"], book["Results"]["S2"], book["To do"]["O2"]):
        assert cell.value.replace("_x005F_x", "_x") == value, (
            "an underscore is escaped where Excel would take it for one"
        )
    assert all(cell.data_type == "s" for sheet in book for row in sheet for cell in row if cell.value is not None)


def test_there_is_no_formula_link_or_number_in_any_part(reported: Reported) -> None:
    lines = "".join(
        f'cus_{n},creditcard,ios,"{value.replace(chr(34), chr(34) * 2)}"\n' for n, value in enumerate(DANGEROUS)
    )
    path = reported.report(HEADER + lines, mixed)["xlsx"]
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        sheets = [archive.read(name).decode() for name in names if name.startswith("xl/worksheets/")]
    outside = re.compile("external|hyperlink|vba|connection|drawing|_rels/sheet", re.IGNORECASE)
    assert not [name for name in names if outside.search(name)]
    for text in sheets:
        assert not re.search(r"<f[ >/]|<hyperlink|<v>", text)
        assert set(re.findall(r'<c [^>]*?t="(\w+)"', text)) == {"inlineStr"}
        assert len(re.findall(r"<c ", text)) == len(re.findall(r't="inlineStr"', text))


def test_line_breaks_stay_and_other_controls_are_escaped_as_excel_does(reported: Reported) -> None:
    path = reported.report(HEADER + 'cus_1,creditcard,ios,"a\nb\tc\x07d\x00e"\n')["xlsx"]
    assert (
        opened(path)["Results"]["R2"].value.replace("_x0007_", "\x07").replace("_x0000_", "\x00") == "a\nb\tc\x07d\x00e"
    )
    with zipfile.ZipFile(path) as archive:
        assert not any(b"\x07" in archive.read(name) or b"\x00" in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("char", ["x", "漢", "👍"])
def test_a_text_that_no_cell_can_hold_is_cut_and_says_so(reported: Reported, char: str) -> None:
    path = reported.report(f"{HEADER.rstrip()},note\ncus_1,creditcard,ios,a,{char * 40_000}\n")["xlsx"]
    found = opened(path)["Results"]["S2"].value
    assert found.endswith("…")
    assert MAX_CHARS - 2 <= len(found.encode("utf-16-le")) // 2 <= MAX_CHARS


@pytest.mark.parametrize(
    ("lang", "names"),
    [
        ("en", ["Summary", "To do", "Unclear", "Changed", "Results"]),
        ("ja", ["概要", "要対応", "結果不明", "登録内容と相違", "全件"]),
    ],
)
def test_the_sheets_are_named_and_every_table_is_frozen_filtered_and_wide_enough(
    reported: Reported, lang: str, names: list[str]
) -> None:
    book = opened(reported.report(MIXED, mixed, lang=lang)["xlsx"])
    assert book.sheetnames == names
    for sheet in book.worksheets[1:]:
        assert sheet.freeze_panes == "C2", "titles, line and customer"
        assert sheet.auto_filter.ref == sheet.dimensions
        assert sheet.print_title_rows == "$1:$1"
        assert sheet.page_setup.orientation == "landscape"
        assert (sheet.page_setup.paperSize, sheet.page_setup.fitToWidth or 1, sheet.page_setup.fitToHeight) == (9, 1, 0)
        assert "&P" in (sheet.oddFooter.center.text or "")
        assert "JST" in (sheet.oddHeader.right.text or "")
        head = texts_of(sheet)[0]
        assert all(head)
        assert len(set(head)) == len(head)
        widths = [
            sheet.column_dimensions[cell.column_letter].width
            for cell in sheet[1]
            if cell.column_letter in sheet.column_dimensions
        ]
        assert all(8 <= width <= 60 for width in widths)
        assert all(cell.number_format == "@" for row in sheet for cell in row if cell.value is not None)


def test_results_hold_every_record_in_order(reported: Reported) -> None:
    book = opened(reported.report(MIXED, mixed)["xlsx"])
    assert column(book["Results"], "Record") == [str(n) for n in range(1, 11)]
    states = ["created", "refused", "refused", "unclear", "skipped", "created", "created", *["invalid"] * 3]
    assert column(book["Results"], "State") == states


def test_to_do_holds_each_failure_once_by_kind_of_work_what_mends_most_rows_first(reported: Reported) -> None:
    book = opened(reported.report(MIXED, mixed)["xlsx"])
    found = column(book["To do"], "Line")
    assert found[:3] == ["3", "10", "11"], "a customer is to be called; two rows lack a value"
    assert sorted(found) == ["10", "11", "3", "4", "5", "9"]
    kinds = column(book["To do"], "Kind of work")
    assert kinds == ["Contact the customers", *["Correct the rows"] * 4, "Decide whether there is a source"]
    assert column(book["To do"], "Customer")[:3] == ["cus_2", "", ""]
    assert all(column(book["To do"], "What to do"))
    assert all(column(book["To do"], "What happened"))
    summary = [row[0] for row in texts_of(book["Summary"])]
    assert summary[0] == "3 of 10 created; 1 skipped; 6 need attention"
    advice = summary[summary.index("What to do") + 1 :]
    assert advice[0] == "Reason"
    assert "Correct the rows: Required value missing: customer_id" in advice


def test_unclear_rows_stand_with_the_reference_to_look_for(reported: Reported) -> None:
    book = opened(reported.report(MIXED, mixed)["xlsx"])
    (reference,) = column(book["Unclear"], "onboarding_ref")
    assert re.fullmatch("[a-z2-7]{26}", reference)
    assert column(book["Unclear"], "Decided by") == ["you"]
    assert column(book["Unclear"], "customer_id") == ["cus_4"]


def test_a_table_goes_on_on_another_sheet_where_excel_ends(reported: Reported) -> None:
    lines = "".join(f"cus_{n},creditcard,ios,a\n" for n in range(1, 10))
    book = opened(reported.report(HEADER + lines, refused(), max_sheet_rows=5)["xlsx"])
    assert book.sheetnames == [
        *("Summary", "To do", "To do 2", "To do 3", "Unclear", "Changed", "Results", "Results 2", "Results 3")
    ]
    for name in ("Results", "To do"):
        parts = [book[name], book[f"{name} 2"], book[f"{name} 3"]]
        assert [sheet.max_row for sheet in parts] == [5, 5, 2]
        assert [line for sheet in parts for line in column(sheet, "Line")] == [str(n) for n in range(2, 11)]
        assert all(sheet.freeze_panes == "C2" and sheet.auto_filter.ref == sheet.dimensions for sheet in parts)
    assert MAX_ROWS == 1_048_576


def test_broken_records_stand_in_their_columns(reported: Reported) -> None:
    path = reported.report(HEADER + 'cus_1,creditcard\ncus_2,creditcard,ios,a,b\ncus_3,creditcard,ios,"a"b\n')["xlsx"]
    sheet = opened(path)["Results"]
    assert column(sheet, "customer_id") == ["cus_1", "cus_2", "cus_3"]
    assert column(sheet, "description") == ["", "a", "ab"]
    assert column(sheet, "Code") == ["too_few_fields", "too_many_fields", "malformed_quotes"]


def test_a_safe_copy_s_apostrophes_are_not_shown(reported: Reported) -> None:
    first = reported.report(HEADER + "cus_1,creditcard,ios,=1+1\n", refused(), excel_safe=True)
    again = reported.report(first["failures_excel_safe"].read_bytes())
    assert column(opened(again["xlsx"])["Results"], "description") == ["=1+1"]
