"""Checks an uploaded file in a process of its own, so that no page waits for it and no file takes a console down.

::

    start ──path, result, Settings──> a new Python, main ──CheckedUpload──> result (a file)

The result is a pickle of our own, in a folder for its owner only.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tasks.accept.subprocess_reader import reading_failed
from tasks.csv_records import records_at
from tasks.errors import OnboardingError
from tasks.files.atomic_write import atomic_write
from tasks.memory_limits import save_address_space
from tasks.operations.check import CheckedFile, check
from tasks.services import Services
from tasks.settings import Settings

#: Invalid rows whose cells are shown.
ROWS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class CheckedUpload:
    """What would become of an uploaded file; exactly one of the first two is there."""

    checked: CheckedFile | None
    error: OnboardingError | None = None  #: why it cannot be used, or was not checked
    cells: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  #: line -> cells of the first invalid rows


def start(file: Path, result: Path, settings: Settings) -> int:
    """Begin to check a file; return the process that writes `result`."""
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main(__import__('sys').stdin.buffer)"]
    child = subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
    )
    assert child.stdin
    with contextlib.suppress(BrokenPipeError), child.stdin as task:  # it has ended: whoever looks finds no result
        pickle.dump((file, result, settings), task)
    threading.Thread(target=child.wait, name="upload check", daemon=True).start()
    return child.pid


def read(result: Path) -> CheckedUpload | None:
    """Return what a check has written; None: it has not come to its end."""
    try:
        found: CheckedUpload = pickle.loads(result.read_bytes())  # noqa: S301 - our own process wrote it
    except FileNotFoundError:
        return None
    except (AttributeError, EOFError, ImportError, pickle.UnpicklingError) as error:  # of another version
        return CheckedUpload(None, reading_failed(error))
    return found


def main(task: IO[bytes]) -> None:
    """Check the file that `task` names and write what came of it: all that this process is for."""
    save_address_space()
    file, result, settings = pickle.load(task)  # noqa: S301 - our own parent
    with atomic_write(result) as target:
        pickle.dump(_checked(file, settings), target)


def _checked(file: Path, settings: Settings) -> CheckedUpload:
    try:
        checked = check(Services(settings), file)
        lines = [row.line for row in checked.rows[:ROWS_SHOWN]]
        return CheckedUpload(checked, None, records_at(file, checked.opened.format, lines))
    except OnboardingError as error:
        return CheckedUpload(None, error)
    except Exception as error:  # noqa: BLE001 - whatever it is, its text may quote the file
        return CheckedUpload(None, reading_failed(error))
