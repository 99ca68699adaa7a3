"""An installation without workers, for the tests of its reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from reported import Reported


@pytest.fixture
def reported(tmp_path: Path) -> Iterator[Reported]:
    """An empty one."""
    made = Reported(tmp_path)
    yield made
    made.close()
