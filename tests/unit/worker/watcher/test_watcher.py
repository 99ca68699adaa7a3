"""The whole watcher in this process: dropped files come to their end, without workers, Redis or elepay."""

from __future__ import annotations

import threading
import time

import pytest
from drop_folders import claim_folders, drop
from factories import wait_until

from tasks.services import Services
from worker.command_runtime import AtWork, Redis
from worker.inboxes.local_folder import LocalFolder
from worker.interrupts import Interrupts
from worker.watcher.command import open_inbox
from worker.watcher.watcher import STOPPED, Options, Watcher

#: Nothing of it can be sent, so its batch finishes as soon as it is read.
INVALID = "customer_id,payment_method,resource,description\n,creditcard,ios,{}\n"


@pytest.fixture
def interrupts() -> Interrupts:
    return Interrupts()


@pytest.fixture
def work(services: Services, interrupts: Interrupts) -> AtWork:
    services.sendable_methods = (time.monotonic(), frozenset({"creditcard"}))  # what elepay would answer
    return AtWork(interrupts, None, None, Redis())


def test_once_brings_what_is_there_to_its_end(services: Services, folder: LocalFolder, work: AtWork) -> None:
    drop(folder, "a.csv", INVALID)
    drop(folder, "again.csv", INVALID)
    drop(folder, "broken.csv", "name,mail\na,b\n")
    watcher = Watcher(services, Options(once=True), folder, work)
    assert watcher.run() == 1, "one was rejected, and a row needs a person"
    assert watcher.summary.counts() == {"taken": 3, "archived": 1, "rejected": 1, "already_onboarded": 1}
    assert len(watcher.claims) == 0
    assert claim_folders(folder) == list(folder.paths.inbox.iterdir()) == []
    assert len(list(folder.paths.outbox.iterdir())) == 2
    assert not watcher.pulse.stopped


def test_once_with_nothing_to_do_ends_at_once(services: Services, folder: LocalFolder, work: AtWork) -> None:
    assert Watcher(services, Options(once=True), folder, work).run() == 0


def test_a_dropped_file_wakes_the_watcher_and_an_interrupt_ends_it(
    services: Services, folder: LocalFolder, work: AtWork, interrupts: Interrupts
) -> None:
    """It scans once an hour otherwise, so it is the event of the file system that wakes it."""
    watcher = Watcher(services, Options(), folder, work)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(watcher.run()))
    thread.start()
    try:
        numbers = iter(range(10_000))

        def drop_more() -> bool:
            number = next(numbers)
            drop(folder, f"{number}.csv", INVALID.format(number))
            return watcher.summary.archived > 0

        wait_until(drop_more, what="the end of a file")
    finally:
        interrupts._count += 1
        thread.join(30)
    assert codes in ([0], [STOPPED]), "it may be that files were left"
    assert (codes == [STOPPED]) == bool(claim_folders(folder))


def test_the_drop_folder_is_that_of_the_option_or_of_the_settings(services: Services, folder: LocalFolder) -> None:
    assert open_inbox(services.settings, folder.paths.root).location == str(folder.paths.root)
    assert open_inbox(services.settings, None).location == str(services.settings.home / "drop")
