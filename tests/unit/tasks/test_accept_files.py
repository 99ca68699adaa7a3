"""The hardest files, each with what it must lead to (`tests/fixtures/files/expected.toml`)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tasks.accept import AcceptanceChecks, Warnings, decode_request, open_file, read_rows
from tasks.errors import UnusableFile
from tasks.models import NewRow, decode_reasons
from tasks.reason_texts import CODES, LANGUAGES, explain_file, sentence

FILES = Path(__file__).parents[2] / "fixtures" / "files"
EXPECTED: list[dict[str, Any]] = tomllib.loads((FILES / "expected.toml").read_text("utf-8"))["file"]
RULES = AcceptanceChecks()

usable = [case for case in EXPECTED if "unusable" not in case]
unusable = [case for case in EXPECTED if "unusable" in case]


def read(name: str, warnings: Warnings | None = None, chunk_rows: int = 10_000) -> list[NewRow]:
    path = FILES / name
    chunks = read_rows(path, open_file(path, RULES), RULES, chunk_rows, warnings)
    return [row for chunk in chunks for row in chunk]


def name_of(case: dict[str, Any]) -> str:
    return str(case["name"])


def test_every_file_has_an_expectation_and_the_other_way_round() -> None:
    assert sorted(map(name_of, EXPECTED)) == sorted(path.name for path in FILES.iterdir() if path.suffix != ".toml")


@pytest.mark.parametrize("case", unusable, ids=name_of)
def test_an_unusable_file_is_told_in_one_clear_sentence(case: dict[str, Any]) -> None:
    with pytest.raises(UnusableFile) as caught:
        read(case["name"])
    error = caught.value
    assert error.code == case["unusable"]
    assert CODES[error.code].kind == "file"
    for known in {"line", "column", "value"} & case.keys():
        assert getattr(error, known) == case[known]
    for lang in LANGUAGES:
        text, hint = explain_file(error, lang)
        assert hint
        assert "\n" not in text
        assert (
            case.get("line") is None
            or str(case["line"]) in text
            or error.code in ("bad_column", "no_records", "binary_file")
        )


@pytest.mark.parametrize("case", usable, ids=name_of)
def test_a_usable_file_leads_to_its_rows(case: dict[str, Any]) -> None:
    path = FILES / case["name"]
    opened = open_file(path, RULES)
    warnings = Warnings()
    rows = read(case["name"], warnings)
    assert [_told(row) for row in rows] == case.get("rows", [case.get("all")] * case.get("count", 0))
    assert [row.record for row in rows] == list(range(1, len(rows) + 1))
    for known in {"encoding", "delimiter", "newline"} & case.keys():
        assert getattr(opened.format, known) == case[known]
    assert opened.onboarding_columns == case.get("onboarding_columns", False)
    assert list(opened.parent_batches) == case.get("parents", [])
    if "lines" in case:
        assert [row.line for row in rows] == case["lines"]
    if "customers" in case:
        assert [row.customer_id for row in rows] == case["customers"]
    if "descriptions" in case:
        assert [decode_request(row.request or b"{}").description or "" for row in rows] == case["descriptions"]
    if "requests" in case:
        assert [(row.request or b"").decode() for row in rows] == case["requests"]
    if "warnings" in case:
        told = [f"{found.code} {found.column} {found.detail} {found.count}" for found in warnings]
        assert sorted(told) == sorted(case["warnings"])


def _told(row: NewRow) -> str:
    reasons = decode_reasons(row.reasons)
    for reason in reasons:
        assert CODES[reason.code].kind == "row"
        assert all(sentence(reason, lang) for lang in LANGUAGES)
    if row.state == "waiting":
        assert not reasons
        assert row.identity
        assert row.content
        return "waiting"
    assert reasons
    assert row.identity is row.request is row.content is None
    return "invalid: " + ", ".join(f"{reason.code} {reason.column}".strip() for reason in reasons)


@pytest.mark.parametrize("case", usable, ids=name_of)
def test_the_size_of_a_chunk_changes_no_row(case: dict[str, Any]) -> None:
    assert read(case["name"], chunk_rows=1) == read(case["name"])
