"""Services with channels, and a notifier for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.services import Services
from tasks.settings import load_settings
from tests import warm
from worker import notification_channels
from worker.notification_channels import open_channels
from worker.notifier import Notifier


@pytest.fixture(autouse=True)
def _deliveries_start_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a process of its own as ever, but need not load Apprise."""
    monkeypatch.setattr(notification_channels, "subprocess", warm.subprocess_of_given())


@pytest.fixture
def services_with(tmp_path: Path, ledger_url: str) -> Iterator[Any]:
    """Make the services of a process with these settings."""
    made: list[Services] = []

    def make(**values: object) -> Services:
        settings = load_settings(
            {
                "ONBOARD_HOME": str(tmp_path / "home"),
                "LEDGER_URL": ledger_url,
                "ONBOARD_NOTIFY_GAP_SECONDS": "0.1",
                **{name: str(value) for name, value in values.items()},
            },
            folder=tmp_path,
        )
        made.append(Services(settings))
        made[-1].ledger.version()
        return made[-1]

    yield make
    for services in made:
        services.ledger.close()


@pytest.fixture
def start_notifier() -> Iterator[Any]:
    """Start a notifier that delivers at once; it ends with the test."""
    started: list[Notifier] = []

    def start(services: Services, *, digests: bool = False) -> Notifier:
        new = Notifier(
            services,
            open_channels(services.settings),
            digests=digests,
            settle_seconds=0.0,
            look_seconds=0.02,
            attend_seconds=0.1,
        )
        new.start()
        started.append(new)
        return new

    yield start
    for each in started:
        each.finish(10)
