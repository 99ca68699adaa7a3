"""Files whose titles are there, but not where or not as they can be read, and files that are no CSV at all."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import pytest

from tasks.accept import AcceptanceChecks, open_file
from tasks.errors import UnusableFile
from tasks.reason_texts import explain_file

RULES = AcceptanceChecks()
TITLES = ("customer_id", "payment_method", "resource")
RECORD = ("cus_1", "paidy", "ios")


def refusal(folder: Path, content: str | bytes, rules: AcceptanceChecks = RULES) -> UnusableFile:
    path = folder / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UnusableFile) as caught:
        open_file(path, rules)
    return caught.value


@pytest.mark.parametrize("separator", ["|", "、", "，", "；", "｜", "¦", "^", "~", ":", " | "])
def test_a_delimiter_that_is_not_read_is_named(tmp_path: Path, separator: str) -> None:
    error = refusal(tmp_path, f"{separator.join(TITLES)}\n{separator.join(RECORD)}\n")
    assert error.code == "unknown_delimiter"
    assert separator.strip() in str(error)
    assert "sep=" in error.hint
    assert all(separator.strip() in explain_file(error, lang)[0] for lang in ("en", "ja"))


def test_columns_of_fixed_width_are_named(tmp_path: Path) -> None:
    assert "blanks" in str(
        refusal(tmp_path, "customer_id   payment_method  resource\ncus_1         paidy           ios\n")
    )


def test_the_delimiter_that_is_outnumbered_in_the_titles_is_named_with_the_way_out(tmp_path: Path) -> None:
    text = "customer_id;payment_method;resource;note (a, b, c, d, e)\ncus_1;paidy;ios;x\n"
    error = refusal(tmp_path, text)
    assert "semicolons" in str(error)
    assert "`;`" in error.hint
    path = tmp_path / "again.csv"
    path.write_text(f"sep=;\n{text}")
    assert len(open_file(path, RULES).columns) == 4


@pytest.mark.parametrize(
    ("above", "line"),
    [("Table 1\n", 2), ("顧客一覧,,\n\n2026-04-01,,\n", 4), ("2026.04.01;Dynamic List Display;1\n----;;\n", 3)],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_titles_below_other_lines_are_found(tmp_path: Path, above: str, line: int, delimiter: str) -> None:
    error = refusal(tmp_path, above + delimiter.join(TITLES) + "\n" + delimiter.join(RECORD) + "\n")
    assert (error.code, error.line) == ("titles_below", line)
    assert f"line {line}" in error.hint
    assert f"{line} 行目" in explain_file(error, "ja")[0]


def test_a_list_drawn_with_lines_names_its_delimiter(tmp_path: Path) -> None:
    box = "+-----+\n| " + " | ".join(TITLES) + " |\n+-----+\n| " + " | ".join(RECORD) + " |\n"
    error = refusal(tmp_path, box)
    assert (error.code, error.line, error.value) == ("unknown_delimiter", 2, "|")


def test_titles_of_the_mapping_file_are_found_below_other_lines(tmp_path: Path) -> None:
    rules = AcceptanceChecks(mapping={"member": "customer_id"})
    assert refusal(tmp_path, "Table 1\nmember,payment_method,resource\nc,paidy,ios\n", rules).code == "titles_below"


@pytest.mark.parametrize(
    "title",
    [
        "顧客ID（必須）",
        "【必須】顧客ID",
        "顧客ＩＤ＊",
        "※顧客番号",
        "Customer ID (required)",
        "custmer_id",
        "お客様番号：",
    ],
)
def test_a_near_title_is_recognised_in_either_language(tmp_path: Path, title: str) -> None:
    error = refusal(tmp_path, f"{title},payment_method,resource\ncus_1,paidy,ios\n")
    assert (error.code, error.detail) == ("missing_column", title)
    assert all(title in said for said in (error.hint, explain_file(error, "ja")[0]))


def test_a_file_without_titles_is_not_repeated(tmp_path: Path) -> None:
    error = refusal(tmp_path, "cus_secret|creditcard|ios\nTable,cus_secret,ios\n")
    assert error.code == "missing_column"
    assert "secret" not in f"{error}{error.hint}{error.detail}{explain_file(error, 'ja')}"


@pytest.mark.parametrize("byte", [0x80, 0xA0, 0xFD, 0xFE, 0xFF])
def test_what_only_the_macintosh_called_shift_jis_is_refused(tmp_path: Path, byte: int) -> None:
    before = "customer_id,payment_method,resource,description\rcus_1,paidy,ios,定期課金".encode("cp932")
    error = refusal(tmp_path, before + bytes([byte]) + b"\r")
    assert (error.code, error.line, error.value) == ("wrong_encoding", 2, f"0x{byte:02X}")
    assert "Macintosh" in str(error)
    assert f"offset {len(before)}" in str(error)


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "do"),
    [
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "Excel workbook", "as CSV"),
        (zipped("Index/Document.iwa"), "Numbers document", "as CSV"),
        (zipped("customers.csv"), "zip file", "Unpack"),
        (gzip.compress(b"customer_id\n"), "gzip file", "Unpack"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQ\n", "encrypted", "Decrypt"),
        (b"\x85\x02\x0c\x03\x9a\x00\xff", "encrypted", "Decrypt"),
        (b'[{"customer_id": "cus_1"}]\n', "JSON", "as CSV"),
        (b'\xef\xbb\xbf{ "rows": [] }', "JSON", "as CSV"),
        (b"\x00\x01\x00\x00Standard Jet DB\x00", "Access database", "as CSV"),
    ],
    ids=["xlsx", "numbers", "zip", "gzip", "armour", "pgp", "json", "bom", "access"],
)
def test_what_is_no_csv_file_is_named_with_what_to_do(tmp_path: Path, content: bytes, kind: str, do: str) -> None:
    error = refusal(tmp_path, content)
    assert error.code == "binary_file"
    assert kind in str(error)
    assert do in error.hint


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="it is a folder") as caught:
        open_file(tmp_path, RULES)
    assert "onboard watch" in caught.value.hint
