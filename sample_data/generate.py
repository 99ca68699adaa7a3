"""Write customer files of any size for rehearsals, tests and benchmarks; the same arguments give the same bytes.

::

    python sample_data/generate.py --rows 1000000 --output night.csv
    python sample_data/generate.py --rows 5000 --seed 7 --encoding cp932 --duplicates 0.05 --invalid 0.02 > mixed.csv
    python sample_data/generate.py --samples            # writes the sample files beside this script again

Rows are streamed, so the number of rows is not limited by memory. The names and addresses of nobody are used.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

#: The first columns of a generated file; more are `metadata.field_01` and so on.
COLUMNS = (
    "customer_id",
    "payment_method",
    "resource",
    "description",
    "reference",
    "extra.frontUrl",
    "metadata.branch",
    "metadata.campaign",
    "metadata.plan",
    "metadata.contract",
)
MOST_COLUMNS = len(COLUMNS) + 15
_METHODS = ("creditcard", "creditcard", "creditcard", "paidy", "paypay", "merpay", "aupay", "docomopay")
_RESOURCES = ("ios", "android", "web")
_BRANCHES = {
    "utf-8": ("Tokyo", "Osaka", "Nagoya", "Sapporo", "Fukuoka", "Sendai"),
    "cp932": ("東京", "大阪", "名古屋", "札幌", "福岡", "仙台"),
}
_CAMPAIGNS = ("spring", "summer", "autumn", "winter")
_BLOCK_ROWS = 5_000


def rows(
    count: int, *, seed: int, columns: int, encoding: str, duplicates: float, invalid: float
) -> Iterator[list[str]]:
    """Yield `count` records; shares of them repeat an earlier one or cannot be sent."""
    chance = random.Random(seed)  # noqa: S311 - test data, not secrets
    branches = _BRANCHES["cp932" if encoding in ("cp932", "shift_jis") else "utf-8"]
    fresh: list[str] = []
    for number in range(1, count + 1):
        draw = chance.random()
        if fresh and draw < duplicates:
            yield fresh
            continue
        pick = chance.getrandbits(30)
        method, resource = _METHODS[pick % 8], _RESOURCES[pick // 8 % 3]
        row = [
            f"cus_{number:06d}",
            method,
            resource,
            f"Plan {pick // 24 % 12 + 1}",
            "",
            f"https://shop.example.com/return/{number}" if resource == "web" else "",
            branches[pick // 288 % 6],
            _CAMPAIGNS[pick // 1728 % 4],
            f"{pick // 6912 % 1000:03d}",
            f"{number:010d}",
            *[f"value {number % 1000:03d}"] * (columns - len(COLUMNS)),
        ][:columns]
        fresh = row
        if draw >= 1 - invalid:
            row = _spoiled(row, pick)
        yield row


def _spoiled(row: list[str], pick: int) -> list[str]:
    """Return a record that cannot be sent."""
    wrong = [("", 0), (f"{row[0]}_" + "x" * 32, 0), ("creditcart", 1), ("linepay", 1), ("", 1), ("smoke-signal", 2)]
    value, at = wrong[pick % len(wrong)]
    return [*row[:at], value, *row[at + 1 :]]


def header(columns: int) -> list[str]:
    """Return the titles of a generated file."""
    return [*COLUMNS, *(f"metadata.field_{number:02d}" for number in range(1, columns - len(COLUMNS) + 1))][:columns]


def write(target: BinaryIO, records: Iterable[list[str]], *, encoding: str, newline: str = "\n") -> None:
    """Write records as CSV, a block of them at a time."""
    block = io.StringIO()
    writer = csv.writer(block, lineterminator=newline)
    for number, record in enumerate(records):
        writer.writerow(record)
        if number % _BLOCK_ROWS == 0:
            _flush(block, target, encoding)
    _flush(block, target, encoding)


def _flush(block: io.StringIO, target: BinaryIO, encoding: str) -> None:
    target.write(block.getvalue().encode(encoding))
    block.seek(0)
    block.truncate()


# The sample files ----------------------------------------------------------------------------------------------------


def sample_files() -> dict[str, bytes]:
    """Return the content of each sample file by its name."""
    return {
        "clean.csv": _csv([header(10), *_clean(1_000)]),
        "rejections.csv": _rejections(),
        "duplicates.csv": _csv([header(10), *_duplicates()]),
        "japanese_cp932.csv": _csv(_japanese(), encoding="cp932", newline="\r\n"),
    }


def _csv(records: Iterable[list[str]], *, encoding: str = "utf-8", newline: str = "\n") -> bytes:
    target = io.BytesIO()
    write(target, records, encoding=encoding, newline=newline)
    return target.getvalue()


def _clean(count: int, seed: int = 1) -> list[list[str]]:
    return list(rows(count, seed=seed, columns=10, encoding="utf-8", duplicates=0, invalid=0))


def _duplicates() -> list[list[str]]:
    """150 records; 40 of them again as they are, 10 again with another description, 10 again with a reference."""
    first = _clean(150, seed=2)
    again = [list(row) for row in first[:40]]
    changed = [[*row[:3], row[3] + " (new)", *row[4:]] for row in first[40:50]]
    second = [[*row[:4], "second", *row[5:]] for row in first[50:60]]
    return [*first, *again, *changed, *second]


def _japanese() -> list[list[str]]:
    """300 records as an Excel in Tokyo saves them: Japanese titles, full-width letters, characters of Windows' own."""
    titles = ["顧客ID", "決済方法", "リソース", "説明", "参照番号", "追加情報.frontUrl", "メタデータ.支店", "備考"]
    notes = (
        "①初回",
        "㈱サンプル商事",
        "髙橋ビル〜２階",
        "ソ表能",
        "",
        "重要，要確認",
        'かぎ"かっこ"',
        "一行目\n二行目",
    )
    records = []
    for number, row in enumerate(_clean(300, seed=3), start=1):
        branch = _BRANCHES["cp932"][number % 6]
        method = "ｃｒｅｄｉｔｃａｒｄ" if number % 50 == 0 else row[1]
        customer = f"\u3000{row[0]} " if number % 60 == 0 else row[0]
        records.append([customer, method, row[2], f"{branch}支店の月額プラン", "", row[5], branch, notes[number % 8]])
    return [titles, *records]


def _rejections() -> bytes:
    """One record of every kind that cannot be sent, between two that can."""
    metadata = [f"metadata.key_{number:02d}" for number in range(1, 21)]
    titles = ["customer_id", "payment_method", "resource", "description", "reference", "extra.openid", *metadata]
    empty = [""] * 20

    def record(number: int, *values: str, more: list[str] = empty) -> str:
        defaults = [f"cus_9{number:05d}", "creditcard", "ios", "Plan 1", "", ""]
        return ",".join([*values, *defaults[len(values) :], *more])

    lines = [
        ",".join(titles),
        record(1),
        "," * 25,
        record(2, more=[]),
        record(3, more=[*empty, "surplus"]),
        record(4, "cus_900004", "creditcard", "ios", '"Plan "one""'),
        record(5, ""),
        record(6, "cus_900006_with_an_id_that_is_too_long"),
        record(7, more=["会" * 86, *empty[1:]]),
        record(8, "cus_900008", "creditcard", "ios", "Plan\x07"),
        record(9, "cus_90\u200b0009"),
        record(10, ".."),
        record(11, "cus_900011", "creditcart"),
        record(12, "cus_900012", "creditcard", "desktop"),
        record(13, "cus_900013", "auto", "ios"),
        record(14, "cus_900014", "linepay"),
        record(15, "cus_900015", "wechatpay", "mini"),
        record(16, more=["x"] * 20),
        record(17, "", "creditcart", "desktop", "x" * 256),
        record(18, "cus_4111 1111 1111 1111 in the wrong column"),
        record(19, "cus 900019"),
        record(20, "1.23457E+11"),
        "\0" * 300,
        record(22, "Total", "", "", "19"),
        record(23),
    ]
    return "".join(line + "\n" for line in lines).encode()


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description="Write a CSV of made-up customers.")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--columns", type=int, default=10, help=f"3 to {MOST_COLUMNS}")
    parser.add_argument("--encoding", default="utf-8", help="utf-8, utf-8-sig, cp932 or utf-16")
    parser.add_argument("--duplicates", type=float, default=0.0, help="share of records that repeat the one before")
    parser.add_argument("--invalid", type=float, default=0.0, help="share of records that cannot be sent")
    parser.add_argument("--output", type=Path, help="file to write; standard output if left out")
    parser.add_argument("--samples", action="store_true", help="write the sample files again and nothing else")
    wanted = parser.parse_args()
    if wanted.samples:
        for name, content in sample_files().items():
            (Path(__file__).parent / name).write_bytes(content)
        return
    if not 3 <= wanted.columns <= MOST_COLUMNS:
        parser.error(f"--columns must be 3 to {MOST_COLUMNS}")
    records = rows(
        wanted.rows,
        seed=wanted.seed,
        columns=wanted.columns,
        encoding=wanted.encoding,
        duplicates=wanted.duplicates,
        invalid=wanted.invalid,
    )
    later_blocks = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(wanted.encoding, wanted.encoding)
    with wanted.output.open("wb") if wanted.output else nullcontext(sys.stdout.buffer) as target:
        target.write({"utf-8-sig": b"\xef\xbb\xbf", "utf-16": b"\xff\xfe"}.get(wanted.encoding, b""))
        write(target, [header(wanted.columns)], encoding=later_blocks)
        write(target, records, encoding=later_blocks)


if __name__ == "__main__":
    main()
