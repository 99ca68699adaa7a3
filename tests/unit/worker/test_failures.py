"""What is said about whatever was raised, and what is never repeated."""

from __future__ import annotations

import errno
import io
import sqlite3

import pytest
import redis
import requests
from sqlalchemy.exc import OperationalError

from tasks.errors import LedgerError
from worker.failures import failure_of, take_any_text

SECRET = "sk_test_hidden"


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (LedgerError("the ledger is away"), 2, "the ledger is away"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 2, "the disk is full: /x"),
        (PermissionError(errno.EACCES, "Permission denied"), 2, "Permission denied"),
        (sqlite3.DatabaseError(SECRET), 2, "ONBOARD_HOME"),
        (OperationalError("select 1", {}, Exception(SECRET)), 2, "LEDGER_URL"),
        (redis.exceptions.ResponseError(SECRET), 2, "REDIS_URL"),
        (requests.exceptions.InvalidURL(SECRET), 2, "ELEPAY_BASE_URL"),
        (ModuleNotFoundError(SECRET, name="psycopg"), 2, "driver"),
        (MemoryError(), 70, "not enough memory"),
        (KeyError(SECRET), 70, "Nothing is lost"),
        (OSError(SECRET), 70, "fault of the program"),
        (UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET), 70, "fault of the program"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_exception_is_a_sentence_and_an_exit_code_and_no_secret(
    error: Exception, exit_code: int, said: str
) -> None:
    failure = failure_of(error)
    assert (failure.exit_code, failure.code) == (exit_code, type(error).__name__)
    assert said in failure.message
    assert "hidden" not in failure.message


def test_a_fault_says_where_it_is() -> None:
    with pytest.raises(TypeError) as caught:
        io.StringIO().write(1)  # type: ignore[arg-type]
    assert f"TypeError > {__name__}:" in failure_of(caught.value).message


@pytest.mark.parametrize(
    ("encoding", "written"), [("ascii", "鍵\\udcff"), ("utf-8", "鍵\\udcff"), ("cp932", "鍵\\udcff")]
)
def test_the_standard_streams_take_any_text(encoding: str, written: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    take_any_text(stream)
    stream.write("鍵\udcff")
    stream.flush()
    content = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert content.decode("cp932" if encoding == "cp932" else "utf-8") == "鍵\\udcff"
