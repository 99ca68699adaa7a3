from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
from factories import examples
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tasks.csv_records import (
    BLANKS,
    MAX_COLUMNS,
    MAX_RECORD_CHARS,
    FileFormat,
    detect_format,
    encode_fields,
    fit,
    format_fields,
    guard,
    read_batches,
    read_raw,
    read_records,
    unguard,
)
from tasks.errors import SettingsError, UnusableFile

FILES = Path(__file__).parents[2] / "fixtures" / "files"
USABLE = [path for path in sorted(FILES.iterdir()) if path.suffix in (".csv", ".tsv")]

#: Pieces from which the fuzzer builds files: all that means something to a CSV, and some that only looks so.
PIECES = st.sampled_from(
    [
        *(
            char.encode()
            for char in (",", ";", "\t", '"', '""', "\n", "\r\n", "\r", " ", "a", "\x00", "\x1a", "\\", "|", "=")
        ),
        *(
            text.encode()
            for text in ("cus_1", "sep=;\n", "customer_id,payment_method,resource\n", "é", "\u2028", "\ufeff")
        ),
        *(text.encode("cp932") for text in ("ソ", "表")),
        *(b"\xff", b"\x81", b"\xff\xfe"),
    ]
)
FILES_OF_PIECES = st.lists(PIECES, max_size=60).map(b"".join)
relaxed = settings(
    max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def usable(path: Path) -> FileFormat | None:
    try:
        return detect_format(path)
    except UnusableFile:
        return None


def assert_every_byte_is_accounted_for(path: Path) -> None:
    """The raw records, in order, are the file; between them stand line ends and blanks only."""
    fmt = detect_format(path)
    encoding = fmt.encoding if fmt.encoding.startswith("utf-16") else "latin-1"
    text = path.read_bytes()[len(fmt.bom) :].decode(encoding)
    at = 0
    if fmt.has_sep_line:
        separator = re.match(r'[ \t\r\n]*(")?sep=.(?(1)")', text, re.IGNORECASE)
        assert separator
        at = separator.end()
    for number, raw in enumerate([fmt.encode(fmt.header_text), *(record.raw for record in read_raw(path, fmt))]):
        piece = raw.decode(encoding)
        begin = text.index(piece, at)
        assert not text[at:begin].strip(" \t\r\n")
        assert number == 0 or {"\r", "\n"} & set(text[at:begin])
        at = begin + len(piece)
    blanks = " \t\r\n" + (BLANKS + fmt.delimiter + '"' if fmt.empty_records else "")
    left = path.read_bytes()[len(fmt.bom) :].decode(encoding)[at:].removesuffix("\x1a")
    assert not left.encode(encoding).decode(fmt.plain_encoding).strip(blanks)


@pytest.mark.parametrize("path", USABLE, ids=lambda path: path.name)
def test_raw_records_are_the_bytes_of_the_file(path: Path) -> None:
    fmt = usable(path)
    if fmt is None:
        return
    try:
        records = list(read_records(path, fmt))
    except UnusableFile:
        return
    assert_every_byte_is_accounted_for(path)
    raws = list(read_raw(path, fmt))
    assert [(raw.record, raw.line, raw.width) for raw in raws] == [
        (record.record, record.line, len(record.fields)) for record in records
    ]
    assert [raw.raw.decode(fmt.plain_encoding) for raw in raws] == [record.text for record in records]


@pytest.mark.parametrize(
    ("text", "encoding", "end", "lines"),
    [
        ("a,b\n1,2\n,\n,\n", "utf-8", (3, 2), [2]),
        ('a,b\n1,2\n,\n3,4\n,\n \n"","  "\n,,,\x1a', "utf-8", (5, 3), [2, 3, 4]),
        ("a,b\r1,2\r,\r,\r", "utf-8", (3, 2), [2]),
        ("a,b\r\n1,2\r\n,\r\n,", "utf-16", (3, 2), [2]),
        ("a,b\n1,2\r,\n,\r\n,\r,", "utf-8", (3, 4), [2]),
        ("a\tb\n1\t2\n\t\n \t\n", "utf-8", (3, 2), [2]),
        ("a,b\n1,表\n\u3000,\u3000\n", "cp932", (3, 1), [2]),
        ("a,b\n1,表\n\u3000,\u3000\n", "utf-8", (3, 1), [2]),
        ('a,b\n1,"x\n\n"\n,\n', "utf-8", (5, 1), [2]),
        ('a,b\n1,2\n,"\n,"\n', "utf-8", (0, 0), [2, 3]),
        ('a,b\n1,2\n","\n', "utf-8", (0, 0), [2, 3]),
        ("a,b\n1,2\n \n\n", "utf-8", (0, 0), [2]),
    ],
)
def test_empty_records_at_the_end_are_none(
    tmp_path: Path, text: str, encoding: str, end: tuple[int, int], lines: list[int]
) -> None:
    path = write(tmp_path, text.encode(encoding))
    fmt = detect_format(path, ("utf-8-sig", encoding))
    assert (fmt.empty_from, fmt.empty_records) == end
    assert [record.line for record in read_records(path, fmt)] == lines
    assert [raw.line for raw in read_raw(path, fmt)] == lines


def test_a_file_that_was_accepted_before_keeps_its_empty_records(tmp_path: Path) -> None:
    path = write(tmp_path, b"a,b\n1,2\n,\n")
    kept = {name: value for name, value in detect_format(path).to_dict().items() if not name.startswith("empty")}
    assert len(list(read_raw(path, FileFormat.from_dict(kept)))) == 2


@relaxed
@given(content=FILES_OF_PIECES)
@example(b'a,b\n1,"x\ny"\n\n2,3\r')
@example(b'\xff\xfe"')
@example(b"sep=;\n")
@example(b'"sep=;\nsep=;\n"')
@example(b'\t\n\t""')
@example(b'"sep=;"\na;b\n1;2')
@example(b'a\n""\n"')
def test_any_bytes_are_records_or_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    try:
        fmt = detect_format(path)
        records = list(read_records(path, fmt))
    except UnusableFile as error:
        if not (error.code and str(error) and error.hint):
            raise
        return
    assert [record.record for record in records] == list(range(1, len(records) + 1))
    assert all(first.line < second.line for first, second in pairwise(records))
    assert_every_byte_is_accounted_for(path)
    sized = [record for batch in read_batches(path, fmt, 2) for record in batch.fields]
    assert sized == [record.fields for record in records]


@relaxed
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\x1a")), min_size=2, max_size=4),
        min_size=1,
        max_size=8,
    ),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path: Path, rows: list[list[str]], newline: str, delimiter: str, encoding: str
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b"], *rows])
    path = write(tmp_path, text.getvalue().encode(encoding))
    fmt = detect_format(path)
    assert fmt.delimiter == delimiter
    while rows and not "".join(rows[-1]).strip(BLANKS):  # at the end of the file an empty record is none
        rows.pop()
    assert [record.fields for record in read_records(path, fmt)] == rows


@pytest.mark.parametrize("path", USABLE, ids=lambda path: path.name)
def test_where_the_blocks_are_cut_does_not_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading() -> object:
        try:
            fmt = detect_format(path)
            return fmt, list(read_records(path, fmt))
        except UnusableFile as error:
            return error.code, error.line, str(error)

    whole = reading()
    for block_bytes in (1, 2, 3, 7, 64):
        for module in ("reading", "sniffing"):
            monkeypatch.setattr(f"tasks.csv_records.{module}.BLOCK_BYTES", block_bytes)
        assert reading() == whole, block_bytes


def test_the_format_survives_the_ledger() -> None:
    for path in USABLE:
        if fmt := usable(path):
            assert FileFormat.from_dict(json.loads(json.dumps(fmt.to_dict()))) == fmt


@pytest.mark.resilience
def test_a_hundred_megabytes_of_one_line_end_in_an_error_and_not_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.csv"
    with path.open("wb") as file:
        file.write(b"customer_id,payment_method,resource\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
    fmt = detect_format(path)
    tracemalloc.start()
    with pytest.raises(UnusableFile, match=r"Line 2 is longer than 1,048,576 characters\.") as caught:
        list(read_records(path, fmt))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (caught.value.code, caught.value.line) == ("line_too_long", 2)
    assert peak < 30_000_000


def test_a_hundred_megabytes_behind_an_open_quote_end_in_an_error_naming_its_line(tmp_path: Path) -> None:
    path = tmp_path / "quote.csv"
    with path.open("wb") as file:
        file.write(b'a,b\n1,2\n3,"4\n')
        for _ in range(1000):
            file.write(b"5,6\n" * 25_000)
    with pytest.raises(UnusableFile) as caught:
        list(read_records(path, detect_format(path)))
    assert (caught.value.code, caught.value.line) == ("unclosed_quote", 3)


@pytest.mark.parametrize("titles", [MAX_COLUMNS + 1, 200_000, 1_000_000])
def test_a_header_of_a_million_columns_is_an_error(tmp_path: Path, titles: int) -> None:
    path = write(tmp_path, ",".join(f"c{number}" for number in range(titles)) + "\n1\n")
    with pytest.raises(UnusableFile) as caught:
        detect_format(path)
    assert (caught.value.code, caught.value.line) == ("too_many_columns", 1)


def test_a_record_of_many_megabytes_inside_the_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n3," + "x" * (MAX_RECORD_CHARS + 1) + "\n5,6\n")
    with pytest.raises(UnusableFile) as caught:
        list(read_records(path, detect_format(path)))
    assert (caught.value.code, caught.value.line) == ("line_too_long", 3)


def test_long_records_make_small_batches(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n" + ("1," + "x" * 100_000 + "\n") * 200)
    batches = list(read_batches(path, detect_format(path)))
    assert sum(map(len, batches)) == 200
    assert [batch.first_record for batch in batches] == [1 + sum(map(len, batches[:at])) for at in range(len(batches))]
    assert len(batches) > 2


@pytest.mark.parametrize("path", [FILES, FILES / "there_is_none.csv"], ids=["folder", "missing"])
def test_what_is_no_file_is_said_so(path: Path) -> None:
    with pytest.raises(UnusableFile) as caught:
        detect_format(path)
    assert caught.value.code == "unreadable_file"


def test_encodings_are_tried_in_their_order_only(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,é\n".encode("latin-1"))
    with pytest.raises(UnusableFile, match="byte 0xE9 at offset 6, line 2"):
        detect_format(path)
    assert detect_format(path, ["utf-8", "latin-1"]).encoding == "iso8859-1"
    with pytest.raises(UnusableFile, match="none of the accepted encodings"):
        detect_format(path, [])
    with pytest.raises(SettingsError, match="utf-nine"):
        detect_format(path, ["utf-nine"])


def test_a_file_with_a_bom_is_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfa,b\n1,\x83\x5c\n")
    with pytest.raises(UnusableFile, match="not utf-8-sig: byte 0x83 at offset 9, line 2"):
        detect_format(path)


def test_an_encoding_with_escape_sequences_is_exact_too(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n月額,表\n".encode("iso2022_jp"))
    fmt = detect_format(path, ["iso2022_jp"])
    assert [record.fields for record in read_records(path, fmt)] == [["月額", "表"]]
    assert [record.raw for record in read_raw(path, fmt)] == ["月額,表".encode("iso2022_jp")]


def test_a_file_that_is_another_by_now_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,2\n")
    fmt = detect_format(path)
    path.write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(UnusableFile) as caught:
        list(read_records(path, fmt))
    assert caught.value.code == "changed_while_reading"


CP932 = FileFormat("cp932", ";", "\r\n", ("a", "b"), 1)


def test_fields_are_quoted_only_where_needed() -> None:
    assert format_fields(["a b", "x;y", 'say "x"', "two\nlines", "", "1,5"], CP932) == (
        'a b;"x;y";"say ""x""";"two\nlines";;1,5'
    )


def test_a_character_that_the_encoding_lacks_becomes_its_escape() -> None:
    assert encode_fields(["髙 €", "😀"], CP932) == "髙".encode("cp932") + rb" \u20ac;\U0001f600"


@relaxed
@given(st.lists(st.text(), min_size=2, max_size=5))
def test_formatted_fields_are_read_back(tmp_path: Path, fields: list[str]) -> None:
    path = tmp_path / "back.csv"
    assume(not set("\x80\uf8f0\uf8f1\uf8f2\uf8f3") & set("".join(fields)))  # Windows' own Shift_JIS has none of them
    path.write_bytes(b"a;b\r\n" + encode_fields(["first", *fields], CP932) + b"\r\n")
    fmt = detect_format(path, ["cp932"])
    assert fmt.delimiter == ";"
    written = [field.encode("cp932", "backslashreplace").decode("cp932") for field in ["first", *fields]]
    assert [record.fields for record in read_records(path, fmt)] == [written]


@pytest.mark.parametrize(
    ("record", "width", "expected"),
    [
        ("a,b,c", 3, ("a,b,c", "")),
        ("a,b", 4, ("a,b,,", "")),
        ("a,b,c,d", 2, ("a,b", "c,d")),
        ('"a,1","b""x",c', 2, ('"a,1","b""x"', "c")),
        ('"a,1"x,b,c', 2, ('"a,1"x,b', "c")),
        ("a,b,,", 2, ("a,b", ",")),
    ],
)
def test_a_record_is_fitted_to_the_header(tmp_path: Path, record: str, width: int, expected: tuple[str, str]) -> None:
    path = write(tmp_path, f"t,u\n{record}\n")
    fmt = detect_format(path)
    found = next(read_raw(path, fmt))
    assert tuple(part.decode() for part in fit(found, fmt, width)) == expected


@given(st.text())
def test_what_is_guarded_is_read_back(value: str) -> None:
    guarded = guard(value)
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert unguard(guarded) == value
