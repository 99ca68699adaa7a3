"""What a claimed file is: a new batch, its own batch of an earlier reading, a repetition, or unusable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drop_folders import claimed
from factories import running_batch, write_csv

from tasks.errors import UnusableFile
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, Notification, NotificationKind
from tasks.operations import batch_lifecycle
from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.inboxes.local_folder import LocalFolder
from worker.inboxes.protocol import CompleteFile
from worker.watcher.claim_in_progress import ClaimInProgress
from worker.watcher.reading import ClaimReader


@pytest.fixture
def reader(folder: LocalFolder, services: Services, accept: Callable[[Path], Accepted]) -> ClaimReader:
    return ClaimReader(folder, services.ledger, services.files, accept)


@pytest.fixture
def clean(tmp_path: Path) -> str:
    return write_csv(tmp_path / "clean.csv", 3).read_text()


def claim_of(folder: LocalFolder, content: str, name: str = "a.csv") -> ClaimInProgress:
    return ClaimInProgress(claimed(folder, name, content))


def outcome(progress: ClaimInProgress) -> tuple[int | None, bool, str | None]:
    """Batch, whether it repeats that, code of an unusable file."""
    return progress.batch_id, progress.is_repeat, progress.unusable.code if progress.unusable else None


def test_a_new_content_becomes_a_batch(reader: ClaimReader, folder: LocalFolder, ledger: Ledger, clean: str) -> None:
    progress = claim_of(folder, clean)
    assert not progress.is_read
    reader.read(progress)
    assert outcome(progress) == (1, False, None)
    assert progress.is_read
    assert progress.claim.facts["batch"] == 1
    assert progress.claim.facts["sha256"] == ledger.batches.get(1).sha256


def test_a_content_of_another_claim_is_a_repetition(reader: ClaimReader, folder: LocalFolder, clean: str) -> None:
    first, second = claim_of(folder, clean), claim_of(folder, clean, "b.csv")
    reader.read(first)
    reader.read(second)
    assert outcome(second) == (1, True, None)
    assert second.claim.facts["batch"] is None, "the batch belongs to the other claim"


def test_a_content_that_finished_before_is_a_repetition(
    reader: ClaimReader, folder: LocalFolder, ledger: Ledger
) -> None:
    invalid = "customer_id,payment_method,resource\n,creditcard,ios\n"
    first, second = claim_of(folder, invalid), claim_of(folder, invalid, "b.csv")
    reader.read(first)
    folder.archive(first.claim, "1")
    assert ledger.batches.get(1).state is BatchState.FINISHED
    reader.read(second)
    assert outcome(second) == (1, True, None)


def test_a_content_that_was_cancelled_is_accepted_again(
    reader: ClaimReader, folder: LocalFolder, ledger: Ledger, clean: str
) -> None:
    first, second = claim_of(folder, clean), claim_of(folder, clean, "b.csv")
    reader.read(first)
    assert batch_lifecycle.cancel(ledger, 1)
    reader.read(second)
    assert outcome(second) == (2, False, None)


def test_a_claim_that_was_interrupted_after_its_batch_was_made_continues_with_it(
    reader: ClaimReader, folder: LocalFolder, services: Services, clean: str, accept: Callable[[Path], Accepted]
) -> None:
    progress = claim_of(folder, clean)
    folder.note(progress.claim, **folder.read_version(progress.claim), after=0, batch=None)
    accept(progress.claim.file)
    kept = services.files.get(f"{progress.claim.facts['sha256']}.csv")
    assert kept is not None
    kept.unlink()  # its watcher ran on another machine
    reader.read(progress)
    assert outcome(progress) == (1, False, None)
    assert progress.claim.facts["batch"] == 1
    assert kept.read_text() == clean


@pytest.mark.parametrize("is_kept_here", [True, False])
def test_a_claim_that_was_interrupted_is_not_a_repetition_of_its_own_finished_batch(
    reader: ClaimReader,
    folder: LocalFolder,
    services: Services,
    accept: Callable[[Path], Accepted],
    is_kept_here: bool,
) -> None:
    progress = claim_of(folder, "customer_id,payment_method,resource\n,creditcard,ios\n")
    folder.note(progress.claim, **folder.read_version(progress.claim), after=0, batch=None)
    assert accept(progress.claim.file).batch.state is BatchState.FINISHED
    if not is_kept_here:
        services.files.remove(f"{progress.claim.facts['sha256']}.csv")
    reader.read(progress)
    assert outcome(progress) == (1, False, None)


def test_a_claim_continues_with_its_batch_though_its_file_has_grown_since(
    reader: ClaimReader, folder: LocalFolder, services: Services
) -> None:
    batch = running_batch(services.ledger, 3)  # its checksum is 000…
    progress = claim_of(folder, "a\n")
    folder.note(progress.claim, sha256="0" * 64, after=0, batch=None)
    with services.files.put(f"{'0' * 64}.csv") as file:
        file.write(b"what was accepted")
    reader.read(progress)
    assert (*outcome(progress), progress.claim.facts["sha256"]) == (batch, False, None, "0" * 64)


def test_a_link_is_rejected_unread(
    reader: ClaimReader, folder: LocalFolder, notifications: Callable[[], list[Notification]]
) -> None:
    (folder.paths.inbox / "link.csv").symlink_to("/etc/hostname")
    claim = folder.claim(CompleteFile("link.csv"))
    assert claim is not None
    progress = ClaimInProgress(claim)
    reader.read(progress)
    assert outcome(progress) == (None, False, "unreadable_file")
    assert [notification.kind for notification in notifications()] == [NotificationKind.REJECTED]


def test_an_unusable_file_is_rejected(reader: ClaimReader, folder: LocalFolder) -> None:
    progress = claim_of(folder, "name,mail\na,b\n")
    reader.read(progress)
    assert outcome(progress) == (None, False, "missing_column")
    assert progress.is_read


def test_a_file_that_changes_while_it_is_read_is_read_again(folder: LocalFolder, services: Services) -> None:
    def accept(_: Path) -> Any:
        raise UnusableFile("changed_while_reading", "It changed.")

    progress = claim_of(folder, "a\n")
    with pytest.raises(UnusableFile):
        ClaimReader(folder, services.ledger, services.files, accept).read(progress)
    assert not progress.is_read


def test_a_claim_of_a_batch_that_is_unfinished_and_nobodys_continues_it(
    reader: ClaimReader, folder: LocalFolder, tmp_path: Path, clean: str, accept: Callable[[Path], Accepted]
) -> None:
    dropped_elsewhere = tmp_path / "elsewhere.csv"
    dropped_elsewhere.write_text(clean)
    batch: Batch = accept(dropped_elsewhere).batch
    assert batch.sha256 == hashlib.sha256(clean.encode()).hexdigest()
    progress = claim_of(folder, clean)
    reader.read(progress)
    assert outcome(progress) == (batch.id, False, None)
