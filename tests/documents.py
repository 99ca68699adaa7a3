"""The pages that people read and the modules of the program, as the tests of both see them."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tasks", "worker", "simulator")
PYTHON = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
#: What people read, by its path from the root.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "sample_data/*.md")
    for path in ROOT.glob(pattern)
}
README, FILES_PAGE, API = PAGES["README.md"], PAGES["docs/reference/files.md"], PAGES["docs/reference/elepay-api.md"]
REPORTS, SIMULATOR = PAGES["docs/reference/reports.md"], PAGES["docs/reference/simulator.md"]
ARCHITECTURE, GLOSSARY = PAGES["docs/engineering/architecture.md"], PAGES["docs/reference/glossary.md"]
AT_NIGHT, STOPPED_BATCHES = PAGES["docs/3am/index.md"], PAGES["docs/3am/stopped-batches.md"]
UNCLEAR_ROWS, ALERTS_PAGE, LOG_EVENTS = (
    PAGES[f"docs/3am/{name}.md"] for name in ("unclear-rows", "alerts", "log-events")
)
METRICS_PAGE, HELP_PAGE = PAGES["docs/reference/metrics.md"], PAGES["docs/reference/help.md"]
ALL_PAGES = "\n".join(PAGES.values())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def has_line(page: str, name: str) -> bool:
    """Return whether a table of a page has a line for `name`, alone in its first cell or among others."""
    return re.search(rf"^\|[^|\n]*`{re.escape(name)}`[^|\n]*\|", page, re.MULTILINE) is not None


def calls(path: Path) -> Iterator[ast.Call]:
    """Yield every call in a module."""
    return (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
