"""Drop folders of tests: real folders with a clock that a test moves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from factories import ManualClock

from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.inboxes.local_folder import LocalFolder
from worker.inboxes.protocol import Claim, CompleteFile
from worker.watcher.closing import ClaimCloser
from worker.watcher.failure_log import FailureLog
from worker.watcher.pipeline import ClaimPipeline
from worker.watcher.reading import ClaimReader
from worker.watcher.summary import Summary


def open_folder(root: Path, clock: ManualClock, *, settle_seconds: float = 5.0) -> LocalFolder:
    """The drop folder below `root`, as one more watcher sees it."""
    folder = LocalFolder(
        root / "drop", time_zone="Asia/Tokyo", settle_seconds=settle_seconds, silent_seconds=120.0, now=clock
    )
    folder.prepare()
    folder.send_heartbeat()
    return folder


def drop(folder: LocalFolder, name: str, content: str = "a\n", *, at: float | None = None) -> Path:
    """Write a file into the inbox."""
    path = folder.paths.inbox / name
    path.write_text(content)
    if at is not None:
        os.utime(path, (at, at))
    return path


def claimed(folder: LocalFolder, name: str = "a.csv", content: str = "a\n") -> Claim:
    """A file that was dropped and claimed."""
    drop(folder, name, content)
    claim = folder.claim(CompleteFile(name))
    assert claim is not None
    return claim


def with_report(claim: Claim, text: str = "report") -> Claim:
    """A claim with a report that is not published."""
    claim.reports.mkdir(exist_ok=True)
    (claim.reports / "summary.json").write_text(text)
    return claim


def claim_folders(folder: LocalFolder) -> list[Path]:
    """The folders of all claims."""
    return list(folder.paths.processing.glob("*@*"))


def pipeline_of(
    services: Services,
    folder: LocalFolder,
    failures: FailureLog,
    accept: Callable[[Path], Accepted],
    summary: Summary,
    *,
    on_read: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> ClaimPipeline:
    """A pipeline of claims that retries nothing while a test runs."""
    return ClaimPipeline(
        folder,
        services.ledger,
        ClaimReader(folder, services.ledger, services.files, accept),
        ClaimCloser(services, folder, summary, lang="en", excel_safe=False, on_closed=lambda _: None),
        failures,
        retry_seconds=3600.0,
        on_read=on_read,
        on_end=on_end,
    )
