"""Where a claim ends: archive, rejected files, outbox; each step can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from drop_folders import claim_folders, claimed
from factories import write_csv

from tasks.errors import LedgerError, UnusableFile
from tasks.ledger import Ledger
from tasks.models import Notification, NotificationKind
from tasks.operations import batch_lifecycle
from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.inboxes.local_folder import LocalFolder
from worker.inboxes.protocol import Claim
from worker.watcher.claim_in_progress import ClaimInProgress
from worker.watcher.closing import ClaimCloser
from worker.watcher.summary import Summary

INVALID = "customer_id,payment_method,resource\n,creditcard,ios\n"


@pytest.fixture
def summary() -> Summary:
    return Summary()


@pytest.fixture
def closed() -> list[Claim]:
    """The claims that were closed."""
    return []


@pytest.fixture
def closer(services: Services, folder: LocalFolder, summary: Summary, closed: list[Claim]) -> ClaimCloser:
    return ClaimCloser(services, folder, summary, lang="en", excel_safe=False, on_closed=closed.append)


@pytest.fixture
def finished(folder: LocalFolder, accept: Callable[[Path], Accepted]) -> ClaimInProgress:
    """A claim whose only row is invalid."""
    claim = claimed(folder, content=INVALID)
    return ClaimInProgress(claim, batch_id=accept(claim.file).batch.id)


@pytest.fixture
def running(folder: LocalFolder, tmp_path: Path, accept: Callable[[Path], Accepted]) -> ClaimInProgress:
    claim = claimed(folder, content=write_csv(tmp_path / "clean.csv", 3).read_text())
    return ClaimInProgress(claim, batch_id=accept(claim.file).batch.id)


def test_a_finished_batch_is_reported_and_archived(
    closer: ClaimCloser,
    ledger: Ledger,
    folder: LocalFolder,
    finished: ClaimInProgress,
    summary: Summary,
    closed: list[Claim],
) -> None:
    assert closer.is_due(finished, states=ledger.batches.states([1]))
    closer.close(finished)
    (archived,) = closed
    assert archived.file.read_text() == INVALID
    assert archived.folder.parent.parent == folder.paths.archive
    published = folder.paths.outbox / "1-a"
    assert json.loads((published / "summary.json").read_text())["books"]["invalid"] == 1
    assert {path.name for path in archived.reports.iterdir()} == {path.name for path in published.iterdir()}
    assert (summary.archived, summary.exit_code) == (1, 1), "a row needs a person"
    assert claim_folders(folder) == []


def test_a_claim_that_was_published_but_not_archived_is_closed_again(
    closer: ClaimCloser, folder: LocalFolder, finished: ClaimInProgress, summary: Summary
) -> None:
    folder.paths.archive.rmdir()
    folder.paths.archive.touch()
    with pytest.raises(NotADirectoryError):
        closer.close(finished)
    assert summary.archived == 0
    folder.paths.archive.unlink()
    folder.prepare()
    closer.close(finished)
    assert [path.name for path in folder.paths.outbox.iterdir()] == ["1-a"]
    assert summary.archived == 1


def test_a_repetition_is_notified_and_archived(
    closer: ClaimCloser,
    folder: LocalFolder,
    finished: ClaimInProgress,
    summary: Summary,
    notifications: Callable[[], list[Notification]],
) -> None:
    before = len(notifications())
    again = ClaimInProgress(claimed(folder, "b.csv", INVALID), batch_id=finished.batch_id, is_repeat=True)
    assert closer.is_due(again, states={})
    closer.close(again)
    (notice,) = folder.paths.outbox.glob("1-b-again-*/notice.json")
    assert json.loads(notice.read_text())["verdict"] == "already_onboarded"
    assert [path.name for path in folder.paths.archive.glob("*/*")] == ["1-again"]
    assert [news.kind for news in notifications()[before:]] == [NotificationKind.REPEATED]
    assert (summary.already_onboarded, summary.exit_code) == (1, 0)


def test_an_unusable_file_is_rejected_with_its_reason(
    closer: ClaimCloser, folder: LocalFolder, summary: Summary, closed: list[Claim]
) -> None:
    progress = ClaimInProgress(claimed(folder), unusable=UnusableFile("missing_column", "A column is missing."))
    assert closer.is_due(progress, states={})
    closer.close(progress)
    (rejected,) = closed
    assert rejected.folder.parent.parent == folder.paths.rejected
    assert json.loads((rejected.reports / "notice.json").read_text())["error"]["code"] == "missing_column"
    assert (summary.rejected, summary.exit_code) == (1, 1)


def test_a_running_batch_is_not_closed(closer: ClaimCloser, ledger: Ledger, running: ClaimInProgress) -> None:
    assert not closer.is_due(running, states=ledger.batches.states([1]))


def test_a_batch_that_waits_for_a_person_is_logged_once(
    closer: ClaimCloser, ledger: Ledger, running: ClaimInProgress
) -> None:
    assert running.batch_id is not None
    batch_lifecycle.pause(ledger, running.batch_id)
    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            assert not closer.is_due(running, states=ledger.batches.states([1]))
    assert [line["event"] for line in logged] == ["batch waits for a person"]
    assert running.waits_for_a_person
    batch_lifecycle.resume(ledger, running.batch_id)
    assert not closer.is_due(running, states=ledger.batches.states([1]))
    assert not running.waits_for_a_person


def test_a_claim_whose_batch_is_gone_says_so_and_holds_nobody_up(closer: ClaimCloser, running: ClaimInProgress) -> None:
    running.batch_id = 77
    assert closer.is_due(running, states={})
    with pytest.raises(LedgerError, match="there is no batch 77"):
        closer.close(running)


def test_a_cancelled_batch_is_closed(closer: ClaimCloser, ledger: Ledger, running: ClaimInProgress) -> None:
    assert running.batch_id is not None
    batch_lifecycle.cancel(ledger, running.batch_id)
    assert closer.is_due(running, states=ledger.batches.states([1]))


def test_a_claim_that_another_watcher_has_is_not_closed(
    closer: ClaimCloser, folder: LocalFolder, finished: ClaimInProgress
) -> None:
    claim = finished.claim
    claim.folder.rename(claim.folder.with_name(f"{claim.id}@another"))
    with pytest.raises(FileNotFoundError):
        closer.close(finished)
    assert list(folder.paths.outbox.iterdir()) == []
