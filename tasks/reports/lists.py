"""Lists that are no report of one file: what follow-up and audit found, as CSV that spreadsheets may open."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tasks.csv_records import guard


def write_list(path: Path, titles: Sequence[str], lines: Iterable[Sequence[object]]) -> int:
    """Write a CSV file, for its owner only, whole or not at all; return how many lines it has."""
    count = 0
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8-sig", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(titles)
            for line in lines:
                writer.writerow([guard("" if value is None else str(value)) for value in line])
                count += 1
            target.flush()
            os.fsync(target.fileno())
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return count
