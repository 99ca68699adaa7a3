"""A client that is closed at the end, and a simulator for all tests of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from elepay_calls import DEADLINES, REQUEST, client
from factories import KEY, Simulator

from tasks.elepay.client import ElepayApi
from tasks.elepay.http_transport import Deadlines
from tasks.models import Source, SourceRequest


@pytest.fixture
def calls() -> Iterator[Callable[..., Any]]:
    """Call create_source at an address with a client that is closed at the end."""
    opened: list[ElepayApi] = []

    def create(
        url: str,
        request: SourceRequest = REQUEST,
        deadlines: Deadlines = DEADLINES,
        key: str = KEY,
        trust_env: bool = False,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Source:
        opened.append(client(url, deadlines, key, trust_env=trust_env))
        return opened[-1].create_source(request, "ref_1", may_leave=may_leave)

    yield create
    for one in opened:
        one.close()


@pytest.fixture
def simulator(reset_simulator: Simulator) -> Simulator:
    """The one of this file, as if just started."""
    return reset_simulator
