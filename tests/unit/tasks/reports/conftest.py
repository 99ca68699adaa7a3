"""An installation without workers, for the tests of its reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from reported import Reported

from tasks.ledger import Ledger


@pytest.fixture
def reported(tmp_path: Path, emptied_ledger: Ledger) -> Reported:
    """An empty one."""
    return Reported(tmp_path, emptied_ledger)
