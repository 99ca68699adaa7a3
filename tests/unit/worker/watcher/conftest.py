"""Fixtures: an installation without processes, a drop folder whose files are complete at once, its notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drop_folders import open_folder
from factories import KEY, ManualClock

from tasks.ledger import Ledger
from tasks.models import Notification
from tasks.operations import accept_batch
from tasks.operations.accept_batch import Accepted, AcceptRules
from tasks.services import Services
from tasks.settings import load_settings
from worker.inboxes.local_folder import LocalFolder
from worker.watcher.failure_log import FailureLog


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    settings = load_settings(
        {"ELEPAY_SECRET_KEY": KEY, "ONBOARD_HOME": str(tmp_path / "home"), "ONBOARD_SCAN_SECONDS": "3600"},
        folder=tmp_path,
    )
    services = Services(settings)
    yield services
    services.ledger.close()


@pytest.fixture
def ledger(services: Services) -> Ledger:
    return services.ledger


@pytest.fixture
def folder(tmp_path: Path, clock: ManualClock) -> LocalFolder:
    return open_folder(tmp_path, clock, settle_seconds=0.0)


@pytest.fixture
def failures(folder: LocalFolder) -> FailureLog:
    return FailureLog(folder.paths.root)


@pytest.fixture
def accept(services: Services) -> Callable[[Path], Accepted]:
    """Accept a file without asking elepay anything."""
    rules = AcceptRules(services.intake_rules(), slice_rows=100, lease_seconds=60.0)
    return lambda file: accept_batch.accept_file(file, ledger=services.ledger, files=services.files, rules=rules)


@pytest.fixture
def notifications(ledger: Ledger) -> Callable[[], list[Notification]]:
    """Return what a channel would deliver that has been known since the beginning."""
    ledger.outbox.register_channels(["mail"], 0.0)
    return lambda: ledger.outbox.unplanned("mail", ledger.now() + 1, 0.0)
