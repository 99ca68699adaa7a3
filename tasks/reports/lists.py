"""Lists that are no report of one file: what follow-up and audit found, as CSV that spreadsheets may open."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.csv_records import guard
from tasks.files.atomic_write import atomic_write


def write_list(path: Path, titles: Sequence[str], lines: Iterable[Sequence[object]]) -> int:
    """Write a CSV file, for its owner only, whole or not at all; return how many lines it has."""
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_write(path) as target:
        text = io.TextIOWrapper(target, encoding="utf-8-sig", newline="")
        writer = csv.writer(text)
        writer.writerow(titles)
        for line in lines:
            writer.writerow([guard("" if value is None else str(value)) for value in line])
            count += 1
        text.detach()
    return count
