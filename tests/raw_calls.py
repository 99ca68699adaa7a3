"""Calls a raw server with clients of elepay that are closed at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from factories import KEY, wait_until
from pydantic import SecretStr
from raw_server import RawServer, Scripted, http

from tasks.elepay.client import ElepayApi
from tasks.elepay.http_transport import Deadlines
from tasks.errors import ElepayError
from tasks.models import Source, SourceRequest

DEADLINES = Deadlines(connect=5, read=20, total=30)
#: A list without sources.
EMPTY = http(200, {"total": 0, "sources": []})
Client = Callable[[RawServer], ElepayApi]


@contextlib.contextmanager
def clients() -> Iterator[Client]:
    """Clients that are closed at the end."""
    opened: list[ElepayApi] = []

    def connect(server: RawServer) -> ElepayApi:
        opened.append(ElepayApi(server.url, SecretStr(KEY), DEADLINES))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def create(api: ElepayApi, number: int) -> Source | ElepayError:
    try:
        return api.create_source(SourceRequest(f"cus_{number}", "creditcard", "ios"), f"ref_{number}")
    except ElepayError as error:
        return error


def said(result: Source | ElepayError) -> str:
    """The id of a source, or the code of an error."""
    return result.id if isinstance(result, Source) else result.code


def failure(call: Callable[..., Any], *arguments: Any, **more: Any) -> ElepayError:
    with pytest.raises(ElepayError) as caught:
        call(*arguments, **more)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def error(code: str = "M005000", request_id: str | None = "req_1", status: int = 400, *headers: str) -> bytes:
    return http(status, {"errorCode": code, "requestId": request_id}, *headers)


def closed_by_client(server: Scripted, connections: int) -> None:
    wait_until(lambda: server.closed_by_client >= connections, what="the end of the connection")
