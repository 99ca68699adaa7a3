"""A PostgreSQL behind a proxy that falls silent."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxy import Proxy


@pytest.fixture
def proxy(postgres_folder: str) -> Iterator[Proxy]:
    """A proxy in front of the PostgreSQL server."""
    folder = postgres_folder.split(maxsplit=1)[0].removeprefix("host=")
    with Proxy(f"{folder}/.s.PGSQL.5432") as running:
        yield running


@pytest.fixture
def url(proxy: Proxy, postgres_url: str) -> str:
    """The ledger's URL, through the proxy."""
    name = postgres_url.split("@/")[1].split("?", maxsplit=1)[0]
    return f"postgresql+psycopg://postgres@127.0.0.1:{proxy.port}/{name}"
