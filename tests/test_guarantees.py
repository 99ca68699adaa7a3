"""docs/engineering/guarantees.md names tests: each of them exists, and every night stands there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "engineering" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
#: It is no night, but shows that one of them proves something.
NO_NIGHT = {"test_the_shift_of_the_clock_is_real"}


def named_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    named = set(NAMED.findall(PAGE))
    assert len(named) > 30
    assert [f"{file}::{name}" for file, name in sorted(named) if name not in named_in(ROOT / file)] == []


def test_every_attack_on_the_console_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "run" / "console.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .*\|$", page.partition("## Attacks, and what stops them")[2], re.MULTILINE)[2:]
    assert len(rows) > 15
    assert [row for row in rows if not NAMED.search(row)] == []
    assert [f"{file}::{name}" for file, name in NAMED.findall(page) if name not in named_in(ROOT / file)] == []


def test_whatever_looks_like_a_test_is_named_by_file_and_name() -> None:
    assert set(re.findall(r"\btest_\w+\b(?!\.py)", PAGE)) == {name for _, name in NAMED.findall(PAGE)}


def test_every_night_is_named() -> None:
    nights = {name for path in (ROOT / "tests" / "resilience").glob("test_*.py") for name in named_in(path)}
    assert nights - NO_NIGHT - {name for _, name in NAMED.findall(PAGE)} == set()


def test_every_mutant_has_its_place_and_its_tests() -> None:
    import mutants

    assert len(mutants.MUTANTS) > 20
    for mutant in mutants.MUTANTS:
        assert (ROOT / mutant.path).read_text("utf-8").count(mutant.before) == 1, mutant.name
        assert [tests for tests in mutant.tests if not (ROOT / tests).exists()] == [], mutant.name
