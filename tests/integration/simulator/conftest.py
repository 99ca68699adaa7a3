"""One simulator for all tests of one file, and elepay's caller."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from factories import Simulator
from simulator_calls import Client


@pytest.fixture(scope="module")
def process() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def elepay(process: Simulator) -> Iterator[Client]:
    """An empty elepay without faults."""
    process.post("reset")
    client = Client(process)
    yield client
    client.session.close()
