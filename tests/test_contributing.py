"""The worked examples of CONTRIBUTING.md can be done as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documents import PAGES, ROOT

PAGE = PAGES["CONTRIBUTING.md"]
#: The blocks of each example, as one patch.
EXAMPLES = {
    part.partition("\n")[0]: "".join(re.findall(r"^```diff\n(.*?)^```$", part, re.MULTILINE | re.DOTALL))
    for part in PAGE.partition("# Worked examples")[2].split("\n## ")[1:]
}
#: What says that the first of them is done.
OF_A_COLUMN = [
    "tests/unit/tasks/test_accept.py::test_a_note_is_known_and_is_no_part_of_the_request",
    "tests/integration/test_commands.py::test_a_note_comes_back_in_the_reports_and_never_reaches_elepay",
    "tests/test_documents.py::test_every_title_of_a_column_is_documented",
]


def apply(patch: str, folder: Path, *options: str) -> None:
    """Do what a patch says, or see whether it can be done."""
    done = subprocess.run(
        ["git", "apply", *options, "-"], input=patch, cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )
    assert done.returncode == 0, f"write the example in CONTRIBUTING.md as it is now: {done.stderr}"


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) == 5
    assert all(patch.count("--- ") >= 4 for patch in EXAMPLES.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_fits_what_is_there(name: str) -> None:
    apply(EXAMPLES[name], ROOT, "--check")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`(?:tests/[\w/.]+::)?(test_\w+)(?!\.py)`", PAGE))))
def test_the_tests_that_it_names_exist(named: str) -> None:
    sources = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert any(f"def {named}(" in source for source in [*sources, *EXAMPLES.values()])


def test_a_column_is_added_by_the_page_alone(tmp_path: Path) -> None:
    for name in ("tasks", "worker", "simulator", "tests", "docs", "benchmarks", "sample_data", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name)  # with what is compiled, which the changed files are not
    for page in [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        shutil.copy(page, tmp_path)
    apply(EXAMPLES["An optional column"], tmp_path)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *OF_A_COLUMN]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
