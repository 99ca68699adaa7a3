"""Calls of our client at an address, and what a failure of one may say."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from factories import KEY
from pydantic import SecretStr
from raw_server import http, source_of

from tasks.elepay.client import ElepayApi
from tasks.elepay.http_transport import Deadlines
from tasks.errors import (
    ElepayError,
)
from tasks.models import SourceRequest

#: Generous where an answer is expected; tests of a deadline bring their own.
DEADLINES = Deadlines(connect=5, read=20, total=30)
HASTY = Deadlines(connect=1, read=1, total=2)
REQUEST = SourceRequest("cus_1", "creditcard", "ios", "Membership", {"frontUrl": "https://example.com"}, {"plan": "a"})
SECRET_WORDS = (KEY, "cus_1", "TARO", "YAMADA", "4242", "cred_")

CREATED = http(201, source_of())


def reset(connection: socket.socket) -> None:
    """End the connection by a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def in_drops(seconds: float, what: bytes) -> Callable[[socket.socket], None]:
    """Answer byte by byte, never silent for long, until `seconds` have passed or the caller has gone."""

    def drip(connection: socket.socket) -> None:
        for byte in what:
            connection.sendall(bytes([byte]))
            time.sleep(seconds / len(what))

    return drip


def client(url: str, deadlines: Deadlines = DEADLINES, key: str = KEY, **more: Any) -> ElepayApi:
    return ElepayApi(url, SecretStr(key), deadlines, **more)


def failure_of(create: Callable[..., Any], *arguments: Any, **more: Any) -> ElepayError:
    """The error of a call, after a look that it says nothing that is secret."""
    with pytest.raises(ElepayError) as caught:
        create(*arguments, **more)
    error = caught.value
    assert error.__cause__ is None, "a cause is printed with the error, and quotes address and customer"
    assert error.__suppress_context__ or error.__context__ is None
    told = f"{error} {error!r} {error.args} {vars(error)}"
    for word in SECRET_WORDS:
        assert word not in told
    return error
