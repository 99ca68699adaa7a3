"""A night that has been, and consoles that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from console_served import APPROVER, Served, a_night
from consoles import quick_consoles
from factories import KEY, Simulator
from reported import Reported

from tasks.ledger import Ledger
from worker.console.people import Person

Console = Callable[..., Served]


@pytest.fixture(autouse=True, scope="session")
def _quick_consoles() -> Iterator[None]:
    with quick_consoles():
        yield


@pytest.fixture(scope="module")
def module_simulator() -> Iterator[Simulator]:
    """One for all tests of a file."""
    with Simulator() as running:
        yield running


@pytest.fixture
def reported(tmp_path: Path, emptied_ledger: Ledger, module_simulator: Simulator) -> Iterator[Reported]:
    """An installation whose elepay is the simulator."""
    module_simulator.post("reset", profile="clean", seed=1)
    settings = {"ELEPAY_BASE_URL": module_simulator.url, "ELEPAY_SECRET_KEY": KEY}
    settings["ONBOARD_CONSOLE_UPLOAD_MEGABYTES"] = "1"
    made = Reported(tmp_path, emptied_ledger, LEDGER_URL=f"sqlite:///{emptied_ledger.engine.place}", **settings)
    before, emptied_ledger.scope.account = emptied_ledger.account, made.ours.account
    yield made
    emptied_ledger.scope.account = before


@pytest.fixture
def console(reported: Reported) -> Iterator[Console]:
    """Serve the installation to a person."""
    with ExitStack() as stack:
        yield lambda person=APPROVER: stack.enter_context(Served(reported.ours, person))


@pytest.fixture
def night(reported: Reported) -> int:
    """A batch of sixty rows that ran: 33 created, 3 invalid, 18 refused, 6 unclear."""
    return a_night(reported).id


__all__ = ["Console", "Person"]
