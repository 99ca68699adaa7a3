"""An elepay and a Redis for the tests of hints, and what makes installations there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import Simulator
from hinted import Installation

from worker.embedded_redis import EmbeddedRedis


@pytest.fixture(scope="module")
def elepay() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture
def new(tmp_path: Path, elepay: Simulator, redis: str) -> Iterator[Callable[..., Installation]]:
    """Makes installations; elepay has nothing at first."""
    made: list[Installation] = []
    elepay.post("reset", profile="clean")

    def make(**settings: object) -> Installation:
        made.append(Installation(tmp_path, elepay, redis, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
