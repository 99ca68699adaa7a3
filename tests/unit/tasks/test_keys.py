"""What becomes of keys with blanks, invisible characters, and the traces of a spreadsheet."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest

from tasks.accept import AcceptanceChecks, Warnings, open_file, read_rows
from tasks.accept.blanks import is_blank, is_invisible, trim
from tasks.identities import identity_of
from tasks.models import NewRow, decode_reasons

TITLES = "customer_id;payment_method;resource;reference"
#: Unicode's PropList.txt: White_Space.
WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
#: Of each range of Default_Ignorable_Code_Point one, and format characters that are none.
IGNORABLE = "\xad\u034f\u061c\u115f\u17b5\u180b\u180e\u200b\u202e\u2060\u206f\u3164\ufe0f\ufeff\uffa0\U000e0101"
FORMATS = "\u0600\u06dd\u110bd\ufff9"


def read(folder: Path, *keys: tuple[str, str], send: bool = False, warnings: Warnings | None = None) -> list[NewRow]:
    path = folder / "file.csv"
    lines = [TITLES, *(f'"{key}";paidy;ios;"{reference}"' for key, reference in keys)]
    path.write_bytes("\r".join(lines).encode())
    rules = AcceptanceChecks(send_damaged_keys=send)
    opened = open_file(path, rules)
    return [row for chunk in read_rows(path, opened, rules, 2, warnings) for row in chunk]


def codes(rows: list[NewRow]) -> list[str]:
    return [" ".join(f"{reason.code} {reason.column}" for reason in decode_reasons(row.reasons)) for row in rows]


def test_blanks_and_invisible_characters_are_those_that_unicode_names() -> None:
    every_character = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert {char for char in every_character if is_blank(char)} == {*WHITE_SPACE, "\u2800"}
    invisible = {char for char in every_character if is_invisible(char)}
    assert {*IGNORABLE, *FORMATS[:2]} <= invisible
    assert {char for char in every_character if unicodedata.category(char) == "Cf"} <= invisible
    assert not any(char in invisible for char in "aア亜ｱ゛๎́")


@pytest.mark.parametrize("char", [*WHITE_SPACE.replace("\r", ""), *IGNORABLE], ids=lambda char: f"{ord(char):04X}")
def test_at_the_edge_of_a_key_they_are_left_off_and_inside_they_are_refused(tmp_path: Path, char: str) -> None:
    warnings = Warnings()
    rows = read(tmp_path, (f"{char}cus_1{char}{char}", f"r{char}"), (f"cus{char}_2", ""), warnings=warnings)
    assert rows[0].identity == identity_of("cus_1", "paidy", "ios", "r")
    assert {(found.code, found.column, found.count) for found in warnings if found.code == "trimmed"} == {
        ("trimmed", "customer_id", 1),
        ("trimmed", "reference", 1),
    }
    assert codes(rows)[1].split()[0] in ("blank_inside", "invisible_character", "control_character")


def test_a_person_may_write_blanks_inside_a_reference_and_nowhere_else(tmp_path: Path) -> None:
    rows = read(tmp_path, ("cus_1", "4月 分"), ("cus_2", "4月\u3000分"), ("cus_3", "4月\u2003分"), ("cus 4", ""))
    assert codes(rows) == ["", "", "blank_inside reference", "blank_inside customer_id"]


def test_a_key_of_nothing_but_blanks_is_missing(tmp_path: Path) -> None:
    assert codes(read(tmp_path, ("\u2003\u200b", "x"))) == ["missing_value customer_id"]


def test_a_long_run_of_blanks_inside_a_key_takes_no_time() -> None:
    text = "a" + "\u2003" * 500_000 + "b"
    assert trim(text) == text


@pytest.mark.parametrize(
    "key",
    [
        *(
            "1.23457E+11",
            "1.23457e+11",
            "1,23457E+11",
            "9E+15",
            "1.2E15",
            "-1.5E-7",
            "１．２３Ｅ＋１１",
            "1.23457E+011",
        ),
        *('=""00123""', "=A1", "='x'!B2", "'00123", "\u2019123-456", "＇７"),
        *("#REF!", "#N/A", "#NAME?", "#DIV/0!", "#ERROR!", "########", "Err:502"),
    ],
)
def test_one_key_that_a_spreadsheet_has_surely_rewritten_is_refused(tmp_path: Path, key: str) -> None:
    rows = read(tmp_path, ("cus_1", ""), (key, ""), ("cus_3", key))
    assert codes(rows) == ["", "damaged_key customer_id", "damaged_key reference"]


@pytest.mark.parametrize(
    "key",
    ["1E5", "1e5", "E+1", "12.5", "100.0x", "a=b", "O'Brien", "90's", "#1", "#tag", "1.2.3", "5E-7", "007", "v1.0"],
)
def test_what_a_person_may_have_written_is_taken_as_it_is(tmp_path: Path, key: str) -> None:
    assert codes(read(tmp_path, (key, ""), ("cus_2", key))) == ["", ""]


@pytest.mark.parametrize(
    "keys",
    [
        ["100234.0", "100235.0", "7.00"],
        ["100234,0", "100235,0"],
        ["1,234,567", "12,345"],
        ["".join(("1234567890", str(number), "2345000")) for number in range(5)],
    ],
)
def test_numbers_in_each_row_are_no_keys_and_in_some_rows_they_are(tmp_path: Path, keys: list[str]) -> None:
    damaged = read(tmp_path, *((key, "") for key in keys), ("", "no key at all"))
    assert codes(damaged) == ["damaged_key customer_id"] * len(keys) + ["missing_value customer_id"]
    assert codes(read(tmp_path, *((key, "") for key in keys), ("cus_9", ""))) == [""] * (len(keys) + 1)


def test_a_line_of_totals_is_no_proof_that_the_keys_are_not_numbers(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("customer_id,payment_method,resource\n1.0,paidy,ios\n2.0,paidy,ios\nTotal,,\n(2 rows affected)\n")
    rules = AcceptanceChecks()
    rows = [row for chunk in read_rows(path, open_file(path, rules), rules) for row in chunk]
    assert codes(rows) == ["damaged_key customer_id"] * 2 + ["footer "] * 2


@pytest.mark.parametrize(
    "text", ["合計", "合計：12件", "総合計", "Grand Total", "3 records selected.", "-- end --", "EOF"]
)
def test_what_stands_below_the_customers_has_one_reason_of_its_own(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.csv"
    path.write_text(f"customer_id,payment_method,resource\ncus_1,paidy,ios\n{text},,\n", encoding="utf-8")
    rules = AcceptanceChecks()
    rows = [row for chunk in read_rows(path, open_file(path, rules), rules) for row in chunk]
    assert codes(rows) == ["", "footer "]


def test_a_customer_without_method_is_no_footer(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("customer_id,payment_method,resource\ncus_total,,\ntotal,paidy,ios\n", encoding="utf-8")
    rules = AcceptanceChecks()
    rows = [row for chunk in read_rows(path, open_file(path, rules), rules) for row in chunk]
    assert codes(rows) == ["missing_value payment_method missing_value resource", ""]


def test_a_setting_sends_damaged_keys_as_they_are_and_says_so(tmp_path: Path) -> None:
    warnings = Warnings()
    rows = read(tmp_path, ("1.23457E+11", ""), ("cus_2", "=A1"), send=True, warnings=warnings)
    assert [row.customer_id for row in rows] == ["1.23457E+11", "cus_2"]
    assert [(found.code, found.column) for found in warnings] == [
        ("scientific_notation", "customer_id"),
        ("scientific_notation", "reference"),
    ]


def test_a_character_in_a_column_that_is_not_sent_keeps_no_row_back(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text(
        "customer_id,payment_method,resource,notes,metadata.a\nc1,paidy,ios,a\x0bb,\nc2,paidy,ios,,a\x0bb\n"
    )
    rules = AcceptanceChecks()
    rows = [row for chunk in read_rows(path, open_file(path, rules), rules) for row in chunk]
    assert codes(rows) == ["", "control_character metadata.a"]
