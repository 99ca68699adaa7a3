"""The programs in which people open the reports: in CI they must be there, elsewhere their tests are skipped."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser
from consoles import quick_consoles
from factories import program
from office import Office
from reported import Reported

from tasks.ledger import Ledger


@pytest.fixture(autouse=True, scope="session")
def _quick_consoles() -> Iterator[None]:
    with quick_consoles():
        yield


@pytest.fixture
def reported(tmp_path: Path, emptied_ledger: Ledger) -> Reported:
    """An installation of its own."""
    return Reported(tmp_path, emptied_ledger)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages, with a profile of its own."""
    running = Browser(program("chromium", "chromium-browser", "google-chrome"), tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """LibreOffice, started for each file."""
    return Office(program("soffice", "libreoffice"), tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="session")
def text_of_pdf() -> Callable[[Path], str]:
    """What pdftotext finds in a PDF."""
    tool = program("pdftotext")

    def text(path: Path) -> str:
        return subprocess.run(
            [tool, "-raw", str(path), "-"], check=True, capture_output=True, timeout=60
        ).stdout.decode()

    return text
