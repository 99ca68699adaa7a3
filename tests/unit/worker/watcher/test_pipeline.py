"""Claims advance one step at a time: read, running, closed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from drop_folders import claim_folders, claimed, pipeline_of
from factories import write_csv

from tasks.operations import batch_lifecycle
from tasks.operations.accept_batch import Accepted
from tasks.services import Services
from worker.inboxes.local_folder import LocalFolder
from worker.watcher import pipeline
from worker.watcher.failure_log import FailureLog
from worker.watcher.summary import Summary

#: Nothing of it can be sent, so its batch finishes as soon as it is read.
INVALID = "customer_id,payment_method,resource,description\n,creditcard,ios,{}\n"


class Steps:
    """A pipeline, and what a test knows of its steps."""

    def __init__(
        self, services: Services, folder: LocalFolder, failures: FailureLog, accept: Callable[[Path], Accepted]
    ) -> None:
        self.ended, self.read, self.summary = threading.Event(), 0, Summary()
        self.claims = pipeline_of(
            services, folder, failures, accept, self.summary, on_read=self._on_read, on_end=self.ended.set
        )

    def _on_read(self) -> None:
        self.read += 1

    def advance(self) -> None:
        """Advance, wait for what was started, and collect it."""
        self.ended.clear()
        self.claims.advance()
        while self.claims.is_busy:
            assert self.ended.wait(30)
            self.ended.clear()
            self.claims.collect()


@pytest.fixture
def steps(services: Services, folder: LocalFolder, failures: FailureLog, accept: Callable[[Path], Accepted]) -> Steps:
    return Steps(services, folder, failures, accept)


def test_each_claim_is_read_and_closed_the_oldest_first(steps: Steps, folder: LocalFolder) -> None:
    for name in ("a.csv", "b.csv"):
        steps.claims.add(claimed(folder, name, INVALID.format(name)))
    assert (len(steps.claims), steps.claims.unread) == (2, 2)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            steps.advance()
    events = {line["claim"]: [] for line in logged if "claim" in line}
    for line in logged:
        if "claim" in line:
            events[line["claim"]].append(line["event"])
    assert list(events.values()) == [["file accepted", "file archived"]] * 2
    assert list(events) == sorted(events), "the oldest first"
    assert (len(steps.claims), steps.read, steps.summary.archived) == (0, 2, 2)
    assert claim_folders(folder) == []
    assert {path.name for path in folder.paths.archive.glob("*/*")} == {"1", "2"}


def test_a_step_that_fails_is_logged_and_does_not_delay_other_claims(steps: Steps, folder: LocalFolder) -> None:
    stuck = claimed(folder, "a.csv", INVALID.format(1))
    (stuck.folder / "claim.json").unlink()
    (stuck.folder / "claim.json").mkdir()  # it cannot be noted what is read
    steps.claims.add(stuck)
    steps.claims.add(claimed(folder, "b.csv", INVALID.format(2)))
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            steps.advance()
    failed = [line["what"] for line in logged if line["event"] == "held up, and tried again"]
    assert failed == [stuck.id]
    assert (len(steps.claims), steps.claims.unread, steps.summary.archived) == (1, 0, 1)
    assert not steps.claims.only_waits_for_people, "it is tried again"


def test_a_claim_that_another_watcher_took_over_is_dropped(steps: Steps, folder: LocalFolder) -> None:
    claim = claimed(folder, content=INVALID.format(1))
    steps.claims.add(claim)
    steps.advance()
    claim.folder.rename(claim.folder.with_name(f"{claim.id}@another"))
    with structlog.testing.capture_logs() as logged:
        steps.advance()
    assert [line["event"] for line in logged] == ["claim lost to another watcher"]
    assert len(steps.claims) == 0


def test_a_running_batch_stays_and_only_then_waits_for_people(
    steps: Steps, folder: LocalFolder, services: Services, tmp_path: Path
) -> None:
    steps.claims.add(claimed(folder, content=write_csv(tmp_path / "clean.csv", 3).read_text()))
    for _ in range(2):
        steps.advance()
    assert len(steps.claims) == 1
    assert not steps.claims.only_waits_for_people
    batch_lifecycle.pause(services.ledger, 1)
    steps.advance()
    assert steps.claims.only_waits_for_people
    assert len(steps.claims) == 1


def test_no_more_is_read_while_enough_batches_run(
    steps: Steps, folder: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "RUNNING_AT_ONCE", 1)
    for name in ("a.csv", "b.csv"):
        content = write_csv(tmp_path / "clean.csv", 3, prefix=name).read_text()
        steps.claims.add(claimed(folder, name, content))
    for _ in range(3):
        steps.advance()
    assert steps.claims.unread == 1
