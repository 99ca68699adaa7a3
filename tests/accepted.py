"""Reads files as acceptance does, without a ledger."""

from __future__ import annotations

from pathlib import Path

from tasks.accept import AcceptanceChecks, Warnings, open_file, read_rows
from tasks.models import NewRow, decode_reasons

HEADER = "customer_id,payment_method,resource,description,reference,extra.frontUrl,metadata.branch,metadata.note"


def write(folder: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, rules: AcceptanceChecks | None = None, warnings: Warnings | None = None) -> list[NewRow]:
    rules = rules or AcceptanceChecks()
    return [row for chunk in read_rows(path, open_file(path, rules), rules, 7, warnings) for row in chunk]


def reasons_of(row: NewRow) -> list[str]:
    return [f"{reason.code} {reason.column}".strip() for reason in decode_reasons(row.reasons)]
