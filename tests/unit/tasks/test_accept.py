from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from accepted import HEADER, read, reasons_of, write

from tasks.accept import (
    AcceptanceChecks,
    Warnings,
    decode_request,
    load_mapping,
    open_file,
    read_rows,
    request_of,
)
from tasks.accept.file_warnings import shown
from tasks.accept.record_chunk import MOST_REASONS
from tasks.accept.request_codec import content_of
from tasks.csv_records.reading import BLOCK_BYTES
from tasks.elepay.catalogue import load_catalogue
from tasks.errors import SettingsError, UnusableFile
from tasks.identities import identity_of
from tasks.models import NewRow, Reason, decode_reasons


def test_a_row_is_what_its_record_says(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"{HEADER}\ncus_1,paypay,web,Plan 1,second,https://a.example,東京,\n",
    )
    (row,) = read(path)
    request = '{"d":"Plan 1","e":{"frontUrl":"https://a.example"},"m":{"branch":"東京"}}'.encode()
    assert row == NewRow(
        record=1,
        line=2,
        state="waiting",
        identity=identity_of("cus_1", "paypay", "web", "second"),
        customer_id="cus_1",
        payment_method="paypay",
        resource="web",
        request=request,
        content=content_of(request),
        reasons=None,
    )
    assert decode_request(request) == ("Plan 1", {"frontUrl": "https://a.example"}, {"branch": "東京"})


def test_the_order_of_the_columns_does_not_change_a_request(tmp_path: Path) -> None:
    one = write(tmp_path, "customer_id,payment_method,resource,metadata.b,metadata.a\ncus_1,paidy,ios,2,1\n", "one.csv")
    two = write(tmp_path, "metadata.a,resource,metadata.b,payment_method,customer_id\n1,ios,2,paidy,cus_1\n", "two.csv")
    assert read(one) == read(two)


def test_what_is_known_of_an_invalid_record_is_kept_for_the_reports(tmp_path: Path) -> None:
    rows = read(write(tmp_path, f"{HEADER}\ncus_1,linepay,ios,,,,,\n..,paidy,desktop,,,,,\ncus_3,paidy\n"))
    assert [(row.customer_id, row.payment_method, row.resource) for row in rows] == [
        ("cus_1", "linepay", "ios"),
        (None, "paidy", None),
        (None, None, None),
    ]


def test_test_and_live_mode_have_identities_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\ncus_1,paypay,web,,,,,\n")
    ((test,), (live,)) = (read(path, AcceptanceChecks(live=mode)) for mode in (False, True))
    assert live.identity == identity_of("cus_1", "paypay", "web", "", live=True)
    assert test.identity == identity_of("cus_1", "paypay", "web", "") != live.identity


def test_many_patterns_of_empty_cells_make_the_same_requests(tmp_path: Path) -> None:
    cells = [[("x" if number >> bit & 1 else "") for bit in range(8)] for number in range(256)]
    titles = ",".join(f"metadata.k{bit}" for bit in range(8))
    lines = [f"cus_{number},paidy,ios,{','.join(row)}" for number, row in enumerate(cells)]
    path = write(tmp_path, f"customer_id,payment_method,resource,{titles}\n" + "\n".join(lines) + "\n")
    rules = AcceptanceChecks()
    (rows,) = read_rows(path, open_file(path, rules), rules)
    for row, values in zip(rows, cells, strict=True):
        assert row.request == request_of(None, {}, {f"k{bit}": value for bit, value in enumerate(values)})


# Limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("customer_id", "c" * 32, None),
        ("customer_id", "c" * 33, "value_too_long customer_id"),
        ("customer_id", "客" * 32, None),
        ("customer_id", "a/b?c#d%20&", None),
        ("customer_id", ".", "bad_customer_id customer_id"),
        ("customer_id", "…", None),
        ("description", "説" * 255, None),
        ("description", "説" * 256, "value_too_long description"),
        ("reference", "r" * 256, "value_too_long reference"),
        ("metadata.note", "x" * 255, None),
        ("metadata.note", "x" * 256, "value_too_many_bytes metadata.note"),
        ("metadata.note", "注" * 85, None),
        ("metadata.note", "注" * 86, "value_too_many_bytes metadata.note"),
        ("extra.frontUrl", "😀" * 63, None),
        ("extra.frontUrl", "😀" * 64, "value_too_many_bytes extra.frontUrl"),
    ],
)
def test_limits_are_kept_to_the_character_and_to_the_byte(
    tmp_path: Path, column: str, value: str, reason: str | None
) -> None:
    cells = {"customer_id": "cus_1", "payment_method": "paypay", "resource": "ios", column: value}
    (row,) = read(write(tmp_path, f"{HEADER}\n{','.join(cells.get(title, '') for title in HEADER.split(','))}\n"))
    assert reasons_of(row) == ([reason] if reason else [])


def test_entries_count_only_where_they_are_filled(tmp_path: Path) -> None:
    titles = ",".join(f"metadata.k{number}" for number in range(25))
    lines = [f"cus_1,paidy,ios,{'x,' * 19}{',' * 5}", f"cus_2,paidy,ios,{',' * 4}{'x,' * 19}x,"]
    rows = read(write(tmp_path, f"customer_id,payment_method,resource,{titles}\n" + "\n".join(lines) + "\n"))
    assert [reasons_of(row) for row in rows] == [[], ["too_many_entries metadata"]]
    assert decode_reasons(rows[1].reasons) == (Reason("too_many_entries", "metadata", "20", "19"),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4111111111111111", "************1111"),
        ("4111-1111 1111.1111", "****-**** ****.1111"),
        ("card 378282246310005!", "card ***********0005!"),
        ("４１１１１１１１１１１１１１１１", "************１１１１"),
        ("123456789012", "123456789012"),
        ("x" * 100, "x" * 79 + "…"),
        ("x" * 70 + "4111111111111111", "x" * 70 + "*" * 9 + "…"),
        ("a\x00b\nc", "a\\u0000b\\u000ac"),
        ("=1+1", "=1+1"),
    ],
)
def test_a_rejected_value_is_masked_shortened_and_printable(value: str, expected: str) -> None:
    assert shown(value) == expected


def test_a_row_keeps_few_reasons_and_says_how_many_more_there_are(tmp_path: Path) -> None:
    titles = ",".join(f"extra.{number}" for number in range(20)) + ",顧客" + "番" * 500
    line = "," + "no method," * 2 + ",".join(["\x01" * 3000] * 20) + ",\x02"
    (row,) = read(write(tmp_path, f"customer_id,payment_method,resource,{titles}\n{line}\n"))
    reasons = decode_reasons(row.reasons)
    assert [reason.code for reason in reasons[:3]] == ["missing_value", "unknown_payment_method", "unknown_resource"]
    assert len(reasons) == MOST_REASONS + 1
    assert reasons[-1] == Reason("more_reasons", detail=str(3 + 20 + 20 - MOST_REASONS))
    assert len(row.reasons or b"") < 4000


def test_a_reason_repeats_little_of_a_long_title(tmp_path: Path) -> None:
    title = "Member " + "x" * 5000
    path = write(tmp_path, f"{title},payment_method,resource\n\x01,creditcard,ios\n")
    (row,) = read(path, AcceptanceChecks(mapping={title.casefold().replace(" ", ""): "customer_id"}))
    (reason,) = decode_reasons(row.reasons)
    assert len(reason.column) == 80
    assert row.customer_id is None


def test_an_invalid_row_takes_no_more_memory_than_a_valid_one(tmp_path: Path) -> None:
    def peak(line: str) -> int:
        path = write(tmp_path, f"{HEADER}\n" + f"{line}\n" * 3000 + "cus_1,paidy,ios,,,,,\n")
        opened = open_file(path, AcceptanceChecks())
        list(read_rows(path, opened, AcceptanceChecks()))
        tracemalloc.start()
        try:
            kept = list(read_rows(path, opened, AcceptanceChecks()))
            assert sum(map(len, kept)) == 3001
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    valid = peak("cus_1,paidy,ios,Plan,a,b,c,d")
    for line in (",,,,,,,", "..,method,place,Plan,a,b,c,d", "cus_1,paidy", 'cus_1,"paidy"x,ios,,,,,'):
        assert peak(line) < 1.2 * valid


# Empty rows at the end ------------------------------------------------------------------------------------------------


def test_empty_rows_at_the_end_are_no_records_and_are_noted(tmp_path: Path) -> None:
    warnings = Warnings()
    path = write(tmp_path, f"{HEADER}\n,,,,,,,\ncus_1,paidy,ios,,,,,\n" + ",,,,,,,\n" * 5000)
    rows = read(path, warnings=warnings)
    assert [row.state for row in rows] == ["invalid", "waiting"]
    (noted,) = warnings
    assert (noted.code, noted.count, noted.first_record, noted.first_line) == ("empty_rows_at_end", 5000, 3, 4)


def test_a_file_of_nothing_but_empty_rows_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match="nothing but empty rows \\(3, from line 2 on\\)") as caught:
        read(write(tmp_path, f"{HEADER}\n,,,,,,,\n,,,,,,,\n \n,,,,,,,"))
    assert caught.value.code == "no_records"


# The catalogue and the key --------------------------------------------------------------------------------------------


def test_the_key_decides_which_methods_can_be_sent(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\ncus_1,paypay,ios,,,,,\ncus_2,linepay,ios,,,,,\ncus_3,newpay,ios,,,,,\n")
    assert [reasons_of(row) for row in read(path)] == [
        [],
        ["method_holds_no_source payment_method"],
        ["unknown_payment_method payment_method"],
    ]
    asked = AcceptanceChecks(sendable_methods=frozenset({"linepay", "newpay"}))
    assert [reasons_of(row) for row in read(path, asked)] == [["method_not_enabled payment_method"], [], []]


def test_a_setting_adds_methods_and_resources(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\ncus_1,newpay,watch,,,,,\n")
    assert len(reasons_of(read(path)[0])) == 2
    rules = AcceptanceChecks(catalogue=load_catalogue(["newpay"], ["watch"]))
    assert reasons_of(read(path, rules)[0]) == []


def test_what_a_method_wants_only_with_another_value(tmp_path: Path) -> None:
    header = "customer_id,payment_method,resource,extra.requestThreeDSecure"
    warnings = Warnings()
    read(write(tmp_path, f"{header}\ncus_1,creditcard,web,true\ncus_2,creditcard,web,\n"), warnings=warnings)
    assert [(found.code, found.column, found.count, found.first_line) for found in warnings] == [
        ("extra_wanted", "extra.frontUrl", 1, 2)
    ]


def test_oddities_are_counted_and_sent(tmp_path: Path) -> None:
    warnings = Warnings()
    rows = read(
        write(
            tmp_path,
            f"{HEADER},memo\n"
            "cus_1 ,creditcard,ios,,,,,,\n"
            "cus_2,ｐａｉｄｙ,ios,,,,,,\n"
            "客,paidy,reader,\ufffd,,,,,,\n"
            "1.2E+11,paidy,ios,,,,,,\n",
        ),
        AcceptanceChecks(send_damaged_keys=True),
        warnings,
    )
    assert {row.state for row in rows} == {"waiting"}
    assert [row.customer_id for row in rows] == ["cus_1", "cus_2", "客", "1.2E+11"]
    told = {(found.code, found.column, found.count, found.first_record) for found in warnings}
    assert told == {
        ("trimmed", "customer_id", 1, 1),
        ("normalised", "payment_method", 1, 2),
        ("trailing_delimiter", "", 1, 3),
        ("unusual_customer_id", "customer_id", 1, 3),
        ("replacement_character", "", 1, 3),
        ("point_of_sale_resource", "resource", 1, 3),
        ("extra_wanted", "extra.readerId", 1, 3),
        ("scientific_notation", "customer_id", 1, 4),
        ("unknown_column", "memo", 4, 1),
    }


# Columns and the mapping file -----------------------------------------------------------------------------------------


def test_columns_that_are_not_sent_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER},memo,\ncus_1,paidy,ios,,,,,,x,y\n")
    assert open_file(path, AcceptanceChecks()).warnings == [
        Reason("unknown_column", "memo"),
        Reason("unnamed_column", detail="10"),
    ]


@pytest.mark.parametrize(
    "mapping",
    [
        'customer_id = ["Member No", "会員コード"]\n"metadata.branch" = "支店"',
        '[columns]\n"member_no" = "customer_id"\n"支店" = "metadata.branch"',
        "\ufeffcustomer_id = 'ｍｅｍｂｅｒ ｎｏ'\n[columns]\n'metadata.branch' = ['支店']",
    ],
)
def test_a_mapping_file_names_columns_in_either_direction(tmp_path: Path, mapping: str) -> None:
    rules = AcceptanceChecks(mapping=load_mapping(write(tmp_path, mapping, "crm.toml")))
    path = write(tmp_path, "Member No,payment_method,resource,支店\ncus_1,paidy,ios,東京\n")
    (row,) = read(path, rules)
    assert (row.customer_id, row.request) == ("cus_1", '{"m":{"branch":"東京"}}'.encode())


def test_what_the_mapping_says_wins_over_a_title_that_is_known(tmp_path: Path) -> None:
    rules = AcceptanceChecks(mapping=load_mapping(write(tmp_path, 'customer_id = "elepay id"', "crm.toml")))
    path = write(tmp_path, "顧客ID,elepay id,payment_method,resource\nours,cus_1,paidy,ios\n")
    opened = open_file(path, rules)
    assert [column.target for column in opened.columns] == ["", "customer_id", "payment_method", "resource"]
    assert read(path, rules)[0].customer_id == "cus_1"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("customer_id = ", "crm.toml cannot be read"),
        ("customer_id = 1", "'customer_id' needs a title"),
        ("customer_id = []", "'customer_id' needs a title"),
        ("customer = 'Member No'", "'customer' names no column of ours"),
        ("'extra.' = 'x'", "'extra.' names no column of ours"),
        ("columns = 1", "must be a table"),
    ],
)
def test_a_malformed_mapping_names_its_line(tmp_path: Path, mapping: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_mapping(write(tmp_path, mapping, "crm.toml"))


def test_a_missing_header_does_not_repeat_the_customer_in_it(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile) as caught:
        read(write(tmp_path, "cus_secret,creditcard,ios\n"))
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.detail}"


# A file that moves ----------------------------------------------------------------------------------------------------


def rows_while(path: Path, change: Iterable[bytes]) -> Iterator[list[NewRow]]:
    rules = AcceptanceChecks()
    opened = open_file(path, rules)
    chunks = read_rows(path, opened, rules, 1000)
    yield next(chunks)
    for content in change:
        path.write_bytes(content)
    yield from chunks


@pytest.mark.parametrize("change", ["grows", "shrinks", "is emptied", "is another"])
def test_a_file_that_moves_while_it_is_read_is_unusable(tmp_path: Path, change: str) -> None:
    line = b"cus_1,paidy,ios,%b,,,,\n" % (b"x" * 250)
    content = f"{HEADER}\n".encode() + line * (2 * BLOCK_BYTES // len(line))
    path = write(tmp_path, content)
    changed = {
        "grows": content + line,
        "shrinks": content[: -len(line)],
        "is emptied": b"",
        "is another": content.replace(b"paidy", b"merpa"),
    }
    with pytest.raises(UnusableFile) as caught:
        list(rows_while(path, [changed[change]]))
    assert caught.value.code == "changed_while_reading"


def test_a_file_that_grows_while_it_is_opened_is_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, f"{HEADER}\ncus_1,paidy,ios,,,,,\n")

    def growing(*args: object) -> tuple[str, int]:
        with path.open("a") as file:
            file.write("cus_2,paidy,ios,,,,,\n")
        return "", 0

    monkeypatch.setattr("tasks.accept._checksum", growing)
    with pytest.raises(UnusableFile) as caught:
        open_file(path, AcceptanceChecks())
    assert caught.value.code == "changed_while_reading"


# Size -----------------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_rows_are_checked_in_a_second_or_two(tmp_path: Path) -> None:
    line = "cus_{0:07d},paypay,web,Plan {1},,https://shop.example.com/{0},Tokyo,spring,{0:08d},note {1}\n"
    path = write(
        tmp_path,
        f"{HEADER},metadata.c,metadata.d\n" + "".join(line.format(number, number % 90) for number in range(100_000)),
    )
    rules = AcceptanceChecks()
    opened = open_file(path, rules)
    started = time.process_time()
    assert sum(len(chunk) for chunk in read_rows(path, opened, rules)) == 100_000
    assert time.process_time() - started < 4  # about 0.7 on a quiet core; loose, for a busy one
