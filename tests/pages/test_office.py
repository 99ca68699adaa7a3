"""What LibreOffice makes of the workbook and of the CSV copies: the same texts, and never anything that it executes."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from factories import LANGUAGES, answer
from office import Office
from openpyxl import load_workbook
from reported import HEADER, Reported, refused, unclear

from tasks.models import LeasedRow, Outcome, RowState

_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
#: Comma, quote, UTF-8, from line 1; quoted fields are not spared, numbers and dates are looked for.
_READ_ALL = "CSV:44,34,76,1,,0,false,true"

DANGEROUS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1;1)",
    "\t=1+1",
    "=cmd|'/c calc'!A0",
    '=HYPERLINK("http://192.0.2.1/x","y")',
    '=WEBSERVICE("http://192.0.2.1/x")',
    "＝1+1",
    "'=1+1",
    '"=1+1"',
]
JAPANESE = ["表示名・ソース能力", "髙﨑 ①㈱～", "ﾊﾝｶｸ", "𠮟る👍🏽"]
TEXTS = [*DANGEROUS, *JAPANESE, "007", "1E5", "2026-01-02", "TRUE", "NA", "two\nlines", "<b>&amp;"]


def content(values: list[str]) -> str:
    """A file that holds each of the values."""
    quoted = ['"' + value.replace('"', '""') + '"' for value in values]
    return HEADER + "".join(f"cus_{n},creditcard,ios,{value}\n" for n, value in enumerate(quoted))


def mixed(row: LeasedRow) -> Outcome | None:
    """Every third row is refused, every third unclear."""
    return (answer(row), answer(row, RowState.REFUSED, code="U003005"), unclear(row))[row.record % 3]


class Opened:
    """What LibreOffice found in a file."""

    def __init__(self, flat: Path) -> None:
        root = ET.parse(flat).getroot()
        self.sheets = {str(table.get(f"{_TABLE}name")): table for table in root.iter(f"{_TABLE}table")}
        self.formulas = [cell.get(f"{_TABLE}formula") for cell in root.iter() if cell.get(f"{_TABLE}formula")]
        self.links = [each.tag for each in root.iter() if each.tag in (f"{_TEXT}a", f"{_TABLE}cell-range-source")]

    def texts(self, sheet: str) -> set[str]:
        """The texts of the cells of a sheet."""
        cells = self.sheets[sheet].iter(f"{_TABLE}table-cell")
        return {"\n".join(_text(each) for each in cell.findall(f"{_TEXT}p")) for cell in cells}

    def types(self, sheet: str) -> set[str]:
        """What its filled cells are taken for."""
        found = {cell.get(f"{_OFFICE}value-type") for cell in self.sheets[sheet].iter(f"{_TABLE}table-cell")}
        return {each for each in found if each}


def _text(paragraph: ET.Element) -> str:
    for each in paragraph.iter():
        if each.tag == f"{_TEXT}s":
            each.text = " " * int(each.get(f"{_TEXT}c", "1"))
        if each.tag == f"{_TEXT}tab":
            each.text = "\t"
    return "".join(paragraph.itertext())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_workbook_opens_with_every_text_and_no_formula(reported: Reported, office: Office, lang: str) -> None:
    path = reported.report(content(TEXTS), mixed, lang=lang)["xlsx"]
    opened = Opened(office.convert(path, "fods"))
    assert not opened.formulas
    assert not opened.links
    book = load_workbook(path)
    assert list(opened.sheets) == book.sheetnames
    for sheet in book.worksheets:
        assert opened.types(sheet.title) <= {"string"}
        ours = {str(cell.value) for row in sheet for cell in row if cell.value is not None}
        assert ours <= opened.texts(sheet.title)
    assert set(TEXTS) <= opened.texts(book.sheetnames[-1])


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_workbook_on_paper(
    reported: Reported, office: Office, lang: str, text_of_pdf: Callable[[Path], str]
) -> None:
    path = reported.report(content(["表示名", "a"] * 20), refused(), lang=lang)["xlsx"]
    pages = text_of_pdf(office.convert(path, "pdf")).split("\f")[:-1]
    text = "".join("".join(pages).split())
    assert ("0of40created;40needattention" if lang == "en" else "40件中0件を登録しました、要対応40件") in text
    assert ("Contactthecustomers" if lang == "en" else "お客様に連絡する") in text
    assert text.count("cus_39") >= 2, "on To do and on Results"
    number = r"Page {at} of {all}" if lang == "en" else r"{at} / {all} ページ"
    for at, page in enumerate(pages, 1):
        assert "customers.csv" in page
        assert re.search(r"\d{4}.\d\d.\d\d \d\d:\d\d:\d\d JST", page)
        assert number.format(at=at, all=len(pages)) in page


@pytest.mark.parametrize("name", ["results", "results_excel_safe", "failures_excel_safe"])
def test_nothing_in_a_safe_copy_is_executed(reported: Reported, office: Office, name: str) -> None:
    path = reported.report(content(TEXTS), mixed, excel_safe=True)[name]
    opened = Opened(office.convert(path, "fods", _READ_ALL))
    if name == "results":
        assert opened.formulas, "the exact file is executed; so this test would see it"
        return
    assert not opened.formulas
    (sheet,) = opened.sheets
    with path.open(encoding="utf-8", newline="") as file:
        written = {record["description"] for record in csv.DictReader(file)}
    assert written & {"'" + value for value in DANGEROUS}
    changed_by_every_spreadsheet = {"007", "1E5", "2026-01-02", "TRUE"}
    assert written - changed_by_every_spreadsheet <= opened.texts(sheet)
