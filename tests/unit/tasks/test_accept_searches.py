"""Whatever a file holds: each record comes out once, and says what it said."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from accepted import HEADER, read, write
from factories import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.accept import (
    request_of,
)
from tasks.accept.blanks import trim
from tasks.accept.request_codec import content_of
from tasks.csv_records import detect_format, read_records
from tasks.csv_records.records import Record
from tasks.errors import UnusableFile
from tasks.identities import identity_of
from tasks.models import NewRow, decode_reasons

relaxed = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
CELLS = st.one_of(
    TEXT, st.sampled_from(["", "cus_1", "creditcard", "paypay", "web", "ios", "auto", "cpm", "..", "\x00", "x" * 300])
)


def rows_and_records(path: Path) -> list[tuple[NewRow, Record]]:
    """Return each row of a file with its record; none if the file is unusable."""
    try:
        found = read(path)
    except UnusableFile:
        return []
    records = list(read_records(path, detect_format(path)))
    assert [(row.record, row.line) for row in found] == [(record.record, record.line) for record in records]
    return list(zip(found, records, strict=True))


@relaxed
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=10), min_size=1, max_size=20), quote=st.booleans())
def test_whatever_the_cells_hold_each_record_comes_out_once(tmp_path: Path, rows: list[list[str]], quote: bool) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL).writerows([HEADER.split(","), *rows])
    for row, record in rows_and_records(write(tmp_path, text.getvalue())):
        if row.state == "waiting":
            _assert_says_what_the_record_says(row, record.fields)
        else:
            assert decode_reasons(row.reasons)


STARTS = [HEADER, HEADER + ",,", "\ufeff" + HEADER, f"Table 1\n\n{HEADER}", HEADER.replace(",", "|"), "sep=;", "{", ""]
PIECES = st.one_of(
    st.sampled_from(
        [b",", b",", b",", b"\n", b"\r\n", b'"', b"cus_1", b"creditcard", b"paypay", b"web", b"auto", b"\x00"]
    ),
    st.sampled_from(
        [b"\t", b" ", b"4111111111111111", b"1E+5", "\u3000".encode(), "ｗｅｂ".encode(), b"\x95\x5c", b"\xff"]
    ),
    st.sampled_from(["\u2003", "\u200b", "合計", "100.0", '="7"', "'7", "#N/A", "\x85", "，"]).map(str.encode),
    st.binary(max_size=3),
)


@relaxed
@given(start=st.sampled_from(STARTS), pieces=st.lists(PIECES, max_size=80))
def test_whatever_the_bytes_are_intake_answers_with_rows_or_one_clear_error(
    tmp_path: Path, start: str, pieces: list[bytes]
) -> None:
    for row, _ in rows_and_records(write(tmp_path, start.encode() + b"\n" + b"".join(pieces))):
        assert (row.state == "waiting") == (row.identity is not None) == (row.reasons is None)


def _assert_says_what_the_record_says(row: NewRow, fields: list[str]) -> None:
    """The plain way to make a row, against which the vectorised one is held."""
    cells = dict(zip(HEADER.split(","), [*fields, *[""] * 8], strict=False))

    assert row.customer_id == trim(cells["customer_id"])
    assert row.identity == identity_of(
        str(row.customer_id), str(row.payment_method), str(row.resource), trim(cells["reference"])
    )
    assert row.request == request_of(
        cells["description"],
        {"frontUrl": cells["extra.frontUrl"]},
        {"branch": cells["metadata.branch"], "note": cells["metadata.note"]},
    )
    assert row.content == content_of(row.request or b"")
    assert json.loads(row.request or b"") is not None


KEYS = ["branch", "note", "a%b", 'q"k', "ключ", *(f"k{number:02d}" for number in range(14))]


@relaxed
@given(
    st.lists(
        st.lists(st.sampled_from(["", "", "x", '"', "\n", "%s", "é\u2028"]), min_size=22, max_size=22), max_size=30
    )
)
def test_requests_composed_by_column_are_those_composed_by_row(tmp_path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    titles = ["customer_id", "payment_method", "resource", "description", "extra.tel", "extra.frontUrl"]
    writer = csv.writer(text)
    writer.writerow([*titles, *(f"metadata.{key}" for key in KEYS)])
    writer.writerows([f"cus_{number}", "paidy", "ios", *cells] for number, cells in enumerate([["x"] * 22, *rows]))
    found = read(write(tmp_path, text.getvalue()))
    for row, cells in zip(found, [["x"] * 22, *rows], strict=True):
        extra = {"tel": cells[1], "frontUrl": cells[2]}
        assert row.request == request_of(cells[0], extra, dict(zip(KEYS, cells[3:], strict=True)))
