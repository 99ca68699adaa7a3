"""A failure is logged once, and its end once; personal data never."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from tasks.errors import LedgerError, LedgerReplaced, UnusableFile
from worker.watcher.failure_log import FailureLog, UnclaimableFiles


def test_a_failure_is_logged_once_and_its_end_too(tmp_path: Path) -> None:
    failures = FailureLog(tmp_path)
    full = OSError(28, "No space left on device", str(tmp_path / "outbox" / "yamada.csv"))
    with structlog.testing.capture_logs() as logged:
        for error in (full, full, LedgerError("gone"), None, None):
            with failures.logged("x"):
                if error is not None:
                    raise error
        failures.failed("y", UnusableFile("changed_while_reading", "…"))
        failures.failed("y", ZeroDivisionError("yamada"))
    assert [(line["event"], line.get("why")) for line in logged] == [
        ("held up, and tried again", "outbox: No space left on device"),
        ("held up, and tried again", "gone"),
        ("no longer held up", None),
        ("held up, and tried again", "changed_while_reading"),
        ("held up, and tried again", "ZeroDivisionError"),
        ("unexpected failure", None),
    ]
    assert "yamada" not in str([line for line in logged if "exc_info" not in line])


@pytest.mark.parametrize("error", [LedgerReplaced("another"), ZeroDivisionError()])
def test_a_replaced_ledger_and_a_bug_end_the_watcher(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)), FailureLog(tmp_path).logged("x"):
        raise error


@pytest.fixture
def files(tmp_path: Path) -> UnclaimableFiles:
    return UnclaimableFiles(FailureLog(tmp_path))


def update(files: UnclaimableFiles, *names: str, untried: tuple[str, ...] = ()) -> tuple[str, list[tuple[str, str]]]:
    """Return what is new, and what was logged about which file."""
    with structlog.testing.capture_logs() as logged:
        new = files.update(dict.fromkeys(names, PermissionError(13, "Permission denied")), untried)
    return new, [(line["event"], line["what"]) for line in logged]


def test_each_file_is_logged_once_and_once_when_it_is_over(files: UnclaimableFiles) -> None:
    assert update(files, "a\nb.csv") == (
        "a_b.csv (Permission denied)",
        [("held up, and tried again", "inbox/a_b.csv")],
    )
    assert update(files, "a\nb.csv") == ("", [])
    assert update(files) == ("", [("no longer held up", "inbox/a_b.csv")])
    assert update(files) == ("", [])


def test_many_files_are_one_notification(files: UnclaimableFiles) -> None:
    new, logged = update(files, *(f"{number}.csv" for number in range(5)))
    assert new == ", ".join(f"{number}.csv (Permission denied)" for number in range(3)) + ", +2"
    assert len(logged) == 5


def test_a_file_that_was_not_tried_stays_as_it_was(files: UnclaimableFiles) -> None:
    update(files, "a.csv")
    assert update(files, untried=("a.csv", "b.csv")) == ("", [])
    assert update(files, "a.csv") == ("", []), "known"
