from __future__ import annotations

import errno
import threading

import pytest

from tasks.errors import LedgerError
from tasks.memory_limits import is_out_of_memory, save_address_space


def caused(error: Exception) -> Exception:
    wrapped = LedgerError("the ledger cannot be used")
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (caused(MemoryError()), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("dictionary changed size during iteration"), False),
        (caused(ValueError()), False),
    ],
)
def test_only_a_lack_of_memory_is_called_one(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_threads_reserve_small_stacks() -> None:
    before = threading.stack_size()
    try:
        save_address_space()
        assert 0 < threading.stack_size() <= 1024 * 1024
    finally:
        threading.stack_size(before)
