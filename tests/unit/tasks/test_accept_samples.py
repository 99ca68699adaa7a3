"""The sample files lead to what their README says, and the generator still writes them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tasks.accept import AcceptanceChecks, open_file, read_rows
from tasks.models import NewRow, decode_reasons
from tasks.reason_texts import CODES

SAMPLES = Path(__file__).parents[3] / "sample_data"
TABLE = re.findall(
    r"^\| `(\S+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", (SAMPLES / "README.md").read_text("utf-8"), re.MULTILINE
)


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SAMPLES / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(path: Path) -> list[NewRow]:
    rules = AcceptanceChecks()
    return [row for chunk in read_rows(path, open_file(path, rules), rules) for row in chunk]


def test_the_readme_lists_every_sample() -> None:
    assert sorted(name for name, *_ in TABLE) == sorted(path.name for path in SAMPLES.glob("*.csv"))


@pytest.mark.parametrize("line", TABLE, ids=lambda line: str(line[0]))
def test_a_sample_leads_to_what_the_readme_says(line: tuple[str, ...]) -> None:
    rows = rows_of(SAMPLES / line[0])
    identities = [row.identity for row in rows if row.state == "waiting"]
    skipped = len(identities) - len(set(identities))
    invalid = sum(row.state == "invalid" for row in rows)
    assert [str(count) for count in (len(rows), len(set(identities)), invalid, skipped)] == list(line[1:])


def test_ten_of_the_duplicates_have_changed() -> None:
    first: dict[bytes | None, bytes | None] = {}
    changed = 0
    for row in rows_of(SAMPLES / "duplicates.csv"):
        changed += row.identity in first and first[row.identity] != row.content
        first.setdefault(row.identity, row.content)
    assert changed == 10


def test_the_rejections_show_every_reason_that_a_file_alone_can_give() -> None:
    shown = {reason.code for row in rows_of(SAMPLES / "rejections.csv") for reason in decode_reasons(row.reasons)}
    elsewhere = {"method_not_enabled", "more_reasons"}
    assert shown == {code for code, told in CODES.items() if told.kind == "row"} - elsewhere


def test_no_clean_customer_is_one_that_the_simulator_does_not_know() -> None:
    assert not any(str(row.customer_id).startswith("missing_") for row in rows_of(SAMPLES / "clean.csv"))


def test_the_generator_writes_the_samples_byte_for_byte() -> None:
    for name, content in generator().sample_files().items():
        assert (SAMPLES / name).read_bytes() == content


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932", "utf-16"])
@pytest.mark.parametrize("columns", [3, 10, 25])
def test_a_generated_file_is_what_its_arguments_say(tmp_path: Path, encoding: str, columns: int) -> None:
    path = tmp_path / "generated.csv"
    arguments = ["--rows", "2000", "--seed", "5", "--duplicates", "0.1", "--invalid", "0.2", "--encoding", encoding]
    command = [
        sys.executable,
        str(SAMPLES / "generate.py"),
        *arguments,
        "--columns",
        str(columns),
        "--output",
        str(path),
    ]
    subprocess.run(command, check=True)
    rows = rows_of(path)
    waiting = [row.identity for row in rows if row.state == "waiting"]
    assert len(open_file(path, AcceptanceChecks()).columns) == columns
    assert len(rows) == 2000
    assert 0.15 < 1 - len(waiting) / 2000 < 0.25
    assert 0.05 < 1 - len(set(waiting)) / len(waiting) < 0.2
