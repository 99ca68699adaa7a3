"""Who may send a batch: the command that brought it, or fleet and watchers; what is interrupted, and goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from factories import (
    Command,
    Hand,
    Simulator,
    ledger_of,
    new_row,
    new_worker,
    running_batch,
    wait_until,
    whole,
    write_csv,
)

from tasks.errors import LedgerError
from tasks.ledger import WATCH, Ledger
from tasks.models import NO_ACCOUNT, Account, BatchState, Stop, StopCode
from tasks.operations import batch_lifecycle
from tasks.send_window import Window
from worker.notifier import UnattendedBatches
from worker.worker_pool import WorkerPool

LEASE = 60.0


def command_of(url: str, lease_seconds: float = LEASE) -> tuple[Ledger, int]:
    """The ledger as a command with workers of its own sees it, and the command's registration."""
    ledger = Ledger.open(url)
    return ledger, ledger.workers.add_command("elsewhere", 1, "", lease_seconds)


def worker_of(ledger: Ledger, url: str) -> tuple[Ledger, Hand]:
    """A worker process of that command."""
    theirs = Ledger.open(url)
    theirs.scope.runner = ledger.scope.runner
    return theirs, new_worker(theirs)


def test_a_commands_batch_is_sent_by_its_own_workers_only(ledger: Ledger, ledger_url: str) -> None:
    first, _ = command_of(ledger_url)
    second, _ = command_of(ledger_url)
    batch = running_batch(first, 3)
    for other in (ledger, second):
        assert other.dispatch.take_due() == []
        assert other.leases.claim(whole(batch), new_worker(other).number) == []
    theirs, worker = worker_of(first, ledger_url)
    assert [one.batch_id for one in first.dispatch.take_due()] == [batch]
    assert len(theirs.leases.claim(whole(batch), worker.number)) == 3
    for one in (first, second, theirs):
        one.close()


def test_a_batch_of_the_fleet_is_not_sent_by_a_command(ledger: Ledger, ledger_url: str) -> None:
    batch = running_batch(ledger, 3)
    command, _ = command_of(ledger_url)
    assert command.dispatch.take_due() == []
    assert command.leases.claim(whole(batch), new_worker(command).number) == []
    assert [one.batch_id for one in ledger.dispatch.take_due()] == [batch]
    command.close()


def test_a_message_that_reaches_the_fleet_in_error_is_due_again_at_once(ledger: Ledger, ledger_url: str) -> None:
    command, _ = command_of(ledger_url)
    running_batch(command, 3)
    (rung,) = command.dispatch.take_due()
    assert command.dispatch.take_due() == []
    assert ledger.leases.claim(rung, new_worker(ledger).number) == []
    ledger.dispatch.finish(rung)
    assert command.dispatch.take_due() == [rung]
    command.close()


def test_the_unread_messages_of_a_command_take_no_room_from_the_fleet(ledger: Ledger, ledger_url: str) -> None:
    command, _ = command_of(ledger_url)
    running_batch(command, [new_row(n, customer=f"other_{n}") for n in range(1, 41)], slice_rows=1)
    batch = running_batch(ledger, 40, slice_rows=1)
    assert len(command.dispatch.take_due(room=10)) == 10
    assert [one.batch_id for one in ledger.dispatch.take_due(room=10)] == [batch] * 10
    command.close()


def test_a_batch_is_interrupted_while_nothing_of_its_command_is_at_work(ledger: Ledger, ledger_url: str) -> None:
    command, registration = command_of(ledger_url)
    batch = running_batch(command, 3)
    theirs, worker = worker_of(command, ledger_url)
    assert ledger.batches.get(batch).state is BatchState.RUNNING
    command.workers.end(registration)
    assert ledger.batches.get(batch).state is BatchState.RUNNING, "its worker is still at work"
    theirs.workers.end(worker.number)
    assert ledger.batches.get(batch).state is BatchState.INTERRUPTED
    assert [one.state for one in ledger.batches.newest()] == [BatchState.INTERRUPTED]
    assert [one.id for one in ledger.batches.unfinished()] == [batch]
    command.workers.add_command("elsewhere", 1, "", LEASE)
    assert ledger.batches.get(batch).state is BatchState.RUNNING, "it was only asleep"
    for one in (command, theirs):
        one.close()


def test_a_command_that_slept_past_its_lease_has_its_batch_back(ledger: Ledger, ledger_url: str) -> None:
    command = Ledger.open(ledger_url)
    runner = WorkerPool(command, lease_seconds=0.2)
    batch = running_batch(command, 3)
    wait_until(lambda: ledger.batches.get(batch).state is BatchState.INTERRUPTED, what="the end of its lease")
    ledger.reaper.reap(look_up_delay_seconds=0.0)  # its registration is gone now
    runner.keep([batch])
    assert ledger.batches.get(batch).state is BatchState.RUNNING
    assert [one.batch_id for one in command.dispatch.take_due()] == [batch]
    runner.end()
    assert ledger.batches.get(batch).state is BatchState.INTERRUPTED
    command.close()


def test_only_a_batch_that_nobody_works_on_is_taken_and_its_messages_are_sent_anew(ledger_url: str) -> None:
    first, registration = command_of(ledger_url)
    batch = running_batch(first, 3)
    (rung,) = first.dispatch.take_due()
    second, _ = command_of(ledger_url)
    assert not second.lifecycle.take(batch)
    assert second.dispatch.take_due() == []
    first.workers.end(registration)
    assert second.lifecycle.take(batch)
    assert second.lifecycle.take(batch), "it is its own already"
    assert second.dispatch.take_due() == [rung], "the message of the first command reaches nobody"
    assert not first.lifecycle.take(batch)
    for one in (first, second):
        one.close()


def test_a_batch_of_the_fleet_is_taken_only_while_no_fleet_is_there(ledger: Ledger, ledger_url: str) -> None:
    batch = running_batch(ledger, 3)
    command, _ = command_of(ledger_url)
    fleet = new_worker(ledger)
    assert not command.lifecycle.take(batch)
    ledger.workers.end(fleet.number)
    another_account = ledger_of(ledger_url, Account(live=False, address="https://elsewhere.example"))
    new_worker(another_account)
    assert command.lifecycle.take(batch), "the workers of another account do not count"
    for one in (command, another_account):
        one.close()


def test_what_a_watcher_brought_goes_back_to_watchers_and_fleet(ledger: Ledger, ledger_url: str) -> None:
    command, registration = command_of(ledger_url)
    batches = []
    for name, brought_by in (("w", WATCH), ("r", "run")):
        reader = command.workers.add("elsewhere", 1, "", LEASE)
        batch = command.batches.add(
            name=name, sha256=name, file_format={}, reader=reader, parent_id=None, brought_by=brought_by
        )
        command.rows.add(batch, [new_row(1, customer=f"cus_{name}")])
        command.lifecycle.start(batch, 10)
        command.workers.end(reader)
        batches.append(batch)
    batch_lifecycle.reap(ledger, look_up_delay_seconds=0.0)
    assert ledger.dispatch.take_due() == [], "its command is at work"
    command.workers.end(registration)
    batch_lifecycle.reap(ledger, look_up_delay_seconds=0.0)
    assert [one.batch_id for one in ledger.dispatch.take_due()] == [batches[0]]
    assert ledger.batches.get(batches[1]).state is BatchState.INTERRUPTED
    command.close()


@pytest.mark.parametrize("stop", ["paused", "halted", "interrupted"])
def test_a_stopped_batch_goes_on_with_whoever_resumes_it(ledger: Ledger, ledger_url: str, stop: str) -> None:
    command, registration = command_of(ledger_url)
    batch = running_batch(command, 3)
    (rung,) = command.dispatch.take_due()
    assert not batch_lifecycle.resume(ledger, batch, "somebody"), "it runs"
    if stop == "paused":
        assert batch_lifecycle.pause(ledger, batch, "somebody")
        assert ledger.batches.get(batch).stop_code is StopCode.PERSON
    elif stop == "halted":
        assert command.lifecycle.change_state(
            batch, BatchState.HALTED, Stop(StopCode.SILENT), only_from=[BatchState.RUNNING]
        )
    command.workers.end(registration)
    assert batch_lifecycle.resume(ledger, batch, "somebody")
    now = ledger.batches.get(batch)
    assert (now.state, now.runner, now.stop) == (BatchState.RUNNING, None, None)
    assert ledger.dispatch.take_due() == [rung]
    command.close()


def test_a_reopened_batch_belongs_to_whoever_opened_it(ledger: Ledger, ledger_url: str) -> None:
    command, _ = command_of(ledger_url)
    batch = running_batch(command, [new_row(1, state="invalid")])
    assert command.lifecycle.close(batch)
    with ledger.engine.write() as connection:
        ledger.dispatch.reopen(connection, batch)
    assert (ledger.batches.get(batch).state, ledger.batches.get(batch).runner) == (BatchState.RUNNING, None)
    command.close()


@pytest.mark.parametrize(
    ("code", "goes_on"),
    [(StopCode.INTERRUPT, True), (StopCode.PERSON, True), (StopCode.DEADLINE, True), (StopCode.BREAKER, False)],
)
@pytest.mark.resilience
@pytest.mark.representative
def test_the_same_file_goes_on_after_the_stops_of_people_only(
    tmp_path: Path, simulator: Simulator, code: StopCode, goes_on: bool
) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 8)
    assert onboard.json("run", "--canary", 3, file)["state"] == "paused"
    ledger = Ledger.open(onboard.ledger_url, NO_ACCOUNT)
    values = '{"batch": 1, "who": "somebody", "refused": 9, "answers": 9}'
    with ledger.engine.write() as connection:
        connection.exec_driver_sql(f"update batches set canary = 0, stop_code = '{code}', state_reason = '{values}'")
        ledger.dispatch.make_due(connection, 1)
    ledger.close()
    said = onboard.json("run", file)
    assert (said["exit"], said["state"]) == ((0, "finished") if goes_on else (3, "paused")), said["stderr"]
    if not goes_on:
        assert "stays paused" in said["stderr"]
        assert onboard.json("resume", 1)["state"] == "finished"
    assert simulator.statistics()["created"] == 8


def test_a_finished_batch_cannot_be_resumed_or_approved(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard.json("run", write_csv(tmp_path / "a.csv", 2))["exit"] == 0
    for word in ("resume", "approve"):
        done = onboard(word, 1)
        assert done.returncode == 2
        assert "batch 1" in done.stderr
    with pytest.raises(LedgerError, match="no batch 7"):
        Ledger.open(onboard.ledger_url).batches.get(7)


# ------------------------------------------------------------------------------------------- batches left alone


def told(ledger: Ledger) -> list[tuple[str, int | None]]:
    """The news so far: kind and batch."""
    return [(one.kind.value, one.batch_id) for one in ledger.outbox.unplanned("nobody", ledger.now() + 1, 0.0)]


def test_a_batch_whose_command_is_gone_is_told_once_each_time(ledger: Ledger, ledger_url: str) -> None:
    ledger.outbox.register_channels(["nobody"], 0.0)
    command, number = command_of(ledger_url)
    batch = running_batch(command, 3)
    unattended = UnattendedBatches(ledger)
    unattended.notify()
    assert told(ledger) == [], "its command lives"
    command.workers.end(number)
    for _ in range(3):
        unattended.notify()
        UnattendedBatches(ledger).notify()
    assert told(ledger) == [("interrupted", batch)], "by whoever notices first"
    again, number = command_of(ledger_url)
    again.lifecycle.take(batch)
    unattended.notify()
    again.workers.end(number)
    unattended.notify()
    assert told(ledger) == [("interrupted", batch)] * 2
    ledger.lifecycle.change_state(batch, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    assert ledger.batches.unattended() == []
    for one in (command, again):
        one.close()


def test_rows_that_are_due_and_that_nobody_takes_are_told_after_a_while(ledger: Ledger) -> None:
    ledger.outbox.register_channels(["nobody"], 0.0)
    clock = [0.0]
    unattended = UnattendedBatches(ledger, 300.0, lambda: clock[0])
    batch = running_batch(ledger, 3)
    worker = new_worker(ledger)
    ledger.dispatch.take_due()  # and its message gets lost
    unattended.notify()
    clock[0] = 200.0
    held = ledger.leases.claim(whole(batch), worker.number)
    unattended.notify()
    clock[0] = 400.0
    unattended.notify()
    assert told(ledger) == [], "somebody holds them"
    ledger.leases.release(worker.number, held, {})
    ledger.dispatch.finish(whole(batch))
    unattended.notify()
    clock[0] = 690.0
    unattended.notify()
    assert told(ledger) == [], "not long enough"
    for clock[0] in (701.0, 800.0):
        unattended.notify()
    assert told(ledger) == [("unattended", batch)]


def test_a_batch_that_waits_for_its_window_or_for_a_time_is_not_left_alone(ledger: Ledger) -> None:
    batch = running_batch(ledger, 3)
    assert [one.id for one in ledger.batches.unattended()] == [batch]
    ledger.dispatch.put_off(whole(batch), ledger.now() + 60.0)
    assert ledger.batches.unattended() == []
    ledger.dispatch.put_off(whole(batch), 0.0)
    now = datetime.fromtimestamp(ledger.now(), UTC)
    opens, closes = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (2, 3))
    ledger.lifecycle.change_window(batch, str(Window.of(opens, closes, "UTC")), "somebody")
    assert ledger.batches.unattended() == []
