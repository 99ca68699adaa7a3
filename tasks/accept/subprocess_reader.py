"""Reads a large file in a process of its own, so that the ledger takes rows in while the next ones are read.

::

    read_rows_beside ──path, OpenedFile, AcceptanceChecks──> python -m tasks.accept.subprocess_reader
                     <──rows, a chunk at a time; at the end Warnings, or what was raised──

Two pipes with pickles of our own between parent and child. The child holds nothing but the chunk it works on; it ends
when its parent does, at its next write.
"""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, read_rows
from tasks.errors import OnboardingError, UnusableFile
from tasks.memory_limits import NO_MEMORY, is_out_of_memory, save_address_space
from tasks.models import NewRow

#: From this size on a file is worth a process, which takes most of a second to start.
BESIDE_BYTES = 16 * 1024 * 1024
#: Fewer than `read_rows` has by itself, because two processes hold them.
_CHUNK_ROWS = 12_000


def read_rows_beside(
    path: Path, opened: OpenedFile, rules: AcceptanceChecks, warnings: Warnings
) -> Generator[list[NewRow], None, None]:
    """Yield what `read_rows` yields, and raise what it raises, from a process of its own.

    Raises OnboardingError if that process dies.
    """
    # -P: no module of the folder that the command runs in; a group of its own: Ctrl-C is for its parent
    command = [sys.executable, "-P", "-m", "tasks.accept.subprocess_reader"]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as child:
        try:
            yield from _received(child, (path, opened, rules), warnings)
        finally:
            child.kill()
            with contextlib.suppress(OSError):  # it may have died before it took its task
                child.stdin.close()  # type: ignore[union-attr]


def _received(
    child: subprocess.Popen[bytes], task: tuple[Any, ...], warnings: Warnings
) -> Generator[list[NewRow], None, None]:
    to_child, from_child = child.stdin, child.stdout
    assert to_child
    assert from_child
    try:
        pickle.dump(task, to_child)
        to_child.flush()
        while isinstance(found := pickle.load(from_child), list):  # noqa: S301 - our own child
            rows = list(map(NewRow._make, found))
            del found  # before the next ones are there
            yield rows
            del rows
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise OnboardingError(
            "the process that reads the file ended (exit code {code}): is there enough memory? Run it again",
            code=child.wait(),
        ) from error
    if isinstance(found, OnboardingError):
        raise found
    warnings.found.update(found.found)


def main(task: IO[bytes], rows: IO[bytes]) -> None:
    """Read the file that `task` names and write its rows."""
    path, opened, rules = pickle.load(task)  # noqa: S301 - our own parent
    warnings = Warnings()
    last: Warnings | OnboardingError = warnings
    try:
        for chunk in read_rows(path, opened, rules, _CHUNK_ROWS, warnings):
            pickle.dump(list(map(tuple, chunk)), rows, protocol=pickle.HIGHEST_PROTOCOL)
            rows.flush()
    except UnusableFile as error:
        last = error
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the file
        last = reading_failed(error)
    pickle.dump(last, rows)
    rows.flush()


def reading_failed(error: Exception) -> OnboardingError:
    """Return what to say of an exception that is no fault of the file; nothing of its text."""
    if is_out_of_memory(error):
        return OnboardingError("reading the file failed: {why}", why=NO_MEMORY)
    return OnboardingError(
        "reading the file failed ({kind}): this is a fault of the program", kind=type(error).__name__
    )


if __name__ == "__main__":
    save_address_space()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the parent is gone: so is this process
    main(sys.stdin.buffer, sys.stdout.buffer)
