"""A record at a line is the one that reading the whole file finds there, however the file is written."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tasks.csv_records import detect_format, lookup, read_records, records_at


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
def test_a_record_is_found_by_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, newline: str
) -> None:
    monkeypatch.setattr(lookup, "_EVERY_LINES", 16)
    monkeypatch.setattr(lookup, "_BLOCK_BYTES", 256)
    lookup._line_starts.cache_clear()
    dice, lines = random.Random(7), ["customer_id,description"]
    for number in range(300):
        text = dice.choice(["会員プラン", f'"二{newline}行"', '"a ""b"" c"', "", '"a,b"', "x" * 90])
        lines.append(f"cus_{number},{text}")
    file = tmp_path / "night.csv"
    file.write_bytes((newline.join(lines) + newline).encode(encoding))
    fmt = detect_format(file)
    all_records = {record.line: tuple(record.fields) for record in read_records(file, fmt)}
    assert len(all_records) == 300
    some = [*dice.sample(sorted(all_records), 60), max(all_records)]
    assert records_at(file, fmt, some) == {line: all_records[line] for line in some}
    lookup._line_starts.cache_clear()
