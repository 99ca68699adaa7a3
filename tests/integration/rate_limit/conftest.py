"""Limiters that share one allowance on a real Valkey."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from rate_fleet import clock
from redis import Redis

from tasks.send.rate_limit import RateLimit, connect


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of its own to look, and to set the scene."""
    client = Redis.from_url(redis_url, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def limiter_of(redis_url: str) -> Iterator[Callable[[float], RateLimit]]:
    """Limiters with this limit, all sharing one allowance."""
    clients: list[Redis] = []

    def limiter_of(limit: float) -> RateLimit:
        clients.append(connect(redis_url))
        return RateLimit(clients[-1], limit, clock=clock)

    yield limiter_of
    for client in clients:
        client.close()
