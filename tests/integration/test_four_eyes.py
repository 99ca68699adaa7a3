"""Four eyes: two people stand behind every batch, whichever door they come through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import KEY, Command, Simulator, answer, makes_services, new_row, new_worker, write_csv
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import LedgerError, SecondPersonNeeded, SettingsError
from tasks.ledger import WATCH, Approval, Ledger
from tasks.models import HOLDS_ALL, BatchState, RowState, ShellName, Slice, Stop, StopCode
from tasks.operations.accept_batch import accept
from tasks.operations.approve import approve
from tasks.operations.cancel import cancel
from tasks.operations.four_eyes import person_key
from tasks.operations.pause import pause
from tasks.operations.resolve import give_up, resolve_as_absent
from tasks.operations.resume import NewOrders, resume
from tasks.operations.retry import retry
from tasks.services import Services
from worker.operator_identity import who as shell

pytestmark = pytest.mark.filterwarnings("error")
#: The same person, as other doors may spell the name.
SPELLINGS = ["Yamada.Taro", "YAMADA.TARO", "ｙａｍａｄａ．ｔａｒｏ", " yamada.taro ", "yamada\u200b.taro"]


@pytest.fixture
def make(tmp_path: Path, reset_simulator: Simulator) -> Iterator[Callable[..., Services]]:
    """Make what a door works with, for the settings given; all have the same ledger."""
    address = {"ELEPAY_SECRET_KEY": KEY, "ELEPAY_BASE_URL": reset_simulator.url}
    with makes_services(tmp_path, ONBOARD_FOUR_EYES="1", **address) as services:
        yield services


@pytest.fixture
def services(make: Callable[..., Services]) -> Services:
    return make()


def brought(services: Services, folder: Path, who: str = "taro", rows: int = 4, **more: str | int | bool) -> int:
    """A batch that somebody has brought."""
    file = write_csv(folder / f"f{rows}.csv", rows)
    return accept(services, file, **{"who": who, "brought_by": "run", **more}).batch.id  # type: ignore[arg-type]


def history(services: Services, batch: int) -> list[tuple[str, str | None]]:
    return [(line["what"], line["who"]) for line in services.ledger.history.lines(batch)]


def claimable(ledger: Ledger, batch: int) -> int:
    """How many rows a worker gets, whatever message it has."""
    return len(ledger.leases.claim(Slice(batch, 1, 1_000_000), new_worker(ledger).number))


def test_nothing_is_sent_before_somebody_else_approves(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path)
    found = services.ledger.batches.get(batch)
    assert (found.state, found.stop_code, found.canary) == (BatchState.PAUSED, StopCode.APPROVAL, HOLDS_ALL)
    assert claimable(services.ledger, batch) == 0, "not even by a message that names its rows"
    with pytest.raises(SecondPersonNeeded, match="taro brought batch"):
        approve(services, batch, who="taro")
    with pytest.raises(LedgerError, match="before somebody approves"):
        resume(services, batch, NewOrders(), who="hana")
    assert services.ledger.batches.get(batch).state is BatchState.PAUSED
    assert approve(services, batch, who="hana").batch.state is BatchState.RUNNING
    assert claimable(services.ledger, batch) > 0
    assert history(services, batch) == [("not allowed: approve, brought the batch", "taro"), ("approved", "hana")]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_person_under_another_spelling_is_the_same(services: Services, tmp_path: Path, spelling: str) -> None:
    batch = brought(services, tmp_path, "yamada.taro")
    with pytest.raises(SecondPersonNeeded):
        approve(services, batch, who=spelling)
    assert services.ledger.batches.get(batch).state is BatchState.PAUSED


@given(st.text(max_size=20))
def test_a_key_is_its_own_key_and_knows_no_case(name: str) -> None:
    key = person_key(name)
    assert person_key(key) == key
    assert person_key(name.upper().lower()) == person_key(name.lower()) or not name.isascii()


def test_a_shell_is_the_person_whom_the_settings_name(make: Callable[..., Services], tmp_path: Path) -> None:
    services = make(ONBOARD_SHELL_NAMES="taro@pay1=Yamada.Taro,hana@pay1=suzuki.hana")
    batch = brought(services, tmp_path, ShellName("taro@pay1"))
    for same in ("yamada.taro", ShellName("taro@pay1")):
        with pytest.raises(SecondPersonNeeded):
            approve(services, batch, who=same)
    with pytest.raises(SecondPersonNeeded, match="ONBOARD_SHELL_NAMES"):
        approve(services, batch, who=ShellName("jiro@pay1"))
    assert approve(services, batch, who=ShellName("hana@pay1")).batch.state is BatchState.RUNNING
    assert ("not allowed: approve, no known person", "jiro@pay1") in history(services, batch)


def test_a_shell_that_nobody_is_known_to_be_does_none_of_these_deeds(
    make: Callable[..., Services], tmp_path: Path
) -> None:
    services, stranger = make(), ShellName("jiro@pay1")
    with pytest.raises(SecondPersonNeeded):
        brought(services, tmp_path, stranger)
    assert services.ledger.batches.newest() == [], "nothing was made"
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    services.ledger.lifecycle.change_state(
        batch, BatchState.HALTED, Stop(StopCode.SILENT, {"batch": batch}), only_from=[BatchState.RUNNING]
    )
    with pytest.raises(SecondPersonNeeded):
        resume(services, batch, NewOrders(), who=stranger)
    cancel(services, batch, who=stranger)
    with pytest.raises(SecondPersonNeeded):
        retry(services, batch, who=stranger)
    assert ("not allowed: bring, no known person", stranger) in history(services, 0)


def test_whoever_brought_a_batch_resumes_it_after_a_pause_but_not_after_a_halt(
    services: Services, tmp_path: Path
) -> None:
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    pause(services, batch, who="taro")
    assert resume(services, batch, NewOrders(), who="taro").status.batch.state is BatchState.RUNNING
    for state, code in ((BatchState.HALTED, StopCode.SILENT), (BatchState.PAUSED, StopCode.BREAKER)):
        stop = Stop(code, {"refused": 9, "answers": 10, "batch": batch})
        services.ledger.lifecycle.change_state(batch, state, stop, only_from=[BatchState.RUNNING])
        with pytest.raises(SecondPersonNeeded):
            resume(services, batch, NewOrders(verify_first=True), who="Taro")
        assert services.ledger.batches.get(batch).state is state
        assert not services.ledger.batches.get(batch).verify, "nothing was changed"
        assert brought(services, tmp_path) == batch, "the same file is the same batch"
        assert services.ledger.batches.get(batch).state is state, "and running it resumes nothing"
        resume(services, batch, NewOrders(), who="hana")


def test_a_stop_that_comes_between_look_and_resume_is_not_resumed(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    stop = Stop(StopCode.BREAKER, {"refused": 9, "answers": 10, "batch": batch})
    services.ledger.lifecycle.pause(batch, stop)
    assert not services.ledger.lifecycle.resume(batch, "taro", stopped_by=StopCode.PERSON)
    assert services.ledger.batches.get(batch).stop_code is StopCode.BREAKER


def test_only_somebody_else_says_that_a_source_is_absent(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    worker = new_worker(services.ledger)
    rows = services.ledger.leases.claim(Slice(batch, 1, 1_000_000), worker.number)
    worker.mark(rows)
    worker.record(*(answer(row, RowState.UNCLEAR, code="not_found_again") for row in rows))
    with pytest.raises(SecondPersonNeeded):
        resolve_as_absent(services, batch, rows[0].line, who="taro")
    assert ("not allowed: absent, brought the batch", "taro") in history(services, batch)
    give_up(services, batch, rows[0].line, who="taro")
    assert resolve_as_absent(services, batch, rows[1].line, who="hana").state is RowState.WAITING


def test_a_file_of_a_drop_folder_needs_two_people(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path, ShellName("onboard@pay1"), brought_by=WATCH)
    first = approve(services, batch, who="taro").batch
    assert (first.state, first.first_approver) == (BatchState.PAUSED, "taro")
    with pytest.raises(SecondPersonNeeded, match="first approval"):
        approve(services, batch, who="TARO")
    assert claimable(services.ledger, batch) == 0
    assert approve(services, batch, who="hana").batch.state is BatchState.RUNNING
    assert history(services, batch) == [
        ("approved by the first of two people", "taro"),
        ("not allowed: approve, gave the first approval", "TARO"),
        ("approved", "hana"),
    ]


def test_corrected_files_and_retries_wait_for_approval_again(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path)
    cancel(services, batch, who="taro")
    child = retry(services, batch, who="taro").child
    assert child is not None
    assert (child.state, child.parent_id) == (BatchState.PAUSED, batch)
    with pytest.raises(SecondPersonNeeded):
        approve(services, child.id, who="taro")
    approve(services, child.id, who="hana")


def test_again_is_for_somebody_who_did_not_bring_these_rows(services: Services, tmp_path: Path) -> None:
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    worker = new_worker(services.ledger)
    rows = services.ledger.leases.claim(Slice(batch, 1, 1_000_000), worker.number)
    worker.mark(rows)
    worker.record(*map(answer, rows))
    assert services.ledger.lifecycle.close(batch)
    with pytest.raises(SecondPersonNeeded):
        brought(services, tmp_path, rows=3, again=True)  # another file, the same people in it
    assert [each.id for each in services.ledger.batches.newest()] == [batch]
    other = brought(services, tmp_path, "hana", again=True)
    with pytest.raises(SecondPersonNeeded):
        approve(services, other, who="hana")


def test_no_canary_sends_more_than_the_settings_allow(make: Callable[..., Services], tmp_path: Path) -> None:
    services = make(ONBOARD_CANARY="2")
    with pytest.raises(SettingsError, match="at most 2 rows"):
        brought(services, tmp_path, canary=3)
    batch = brought(services, tmp_path)
    assert services.ledger.batches.get(batch).state is BatchState.RUNNING
    assert claimable(services.ledger, batch) == 2
    small = brought(services, tmp_path, rows=2, who="taro")
    assert services.ledger.batches.get(small).state is not BatchState.RUNNING, "else all of it would be its canary"


def test_a_batch_keeps_its_rule_when_the_setting_is_taken_away(make: Callable[..., Services], tmp_path: Path) -> None:
    batch = brought(make(), tmp_path)
    without = make(ONBOARD_FOUR_EYES="0")
    with pytest.raises(SecondPersonNeeded):
        approve(without, batch, who="taro")


def test_without_the_rule_nothing_waits(make: Callable[..., Services], tmp_path: Path) -> None:
    services = make(ONBOARD_FOUR_EYES="0")
    batch = brought(services, tmp_path, ShellName("jiro@pay1"))
    assert services.ledger.batches.get(batch).state is BatchState.RUNNING
    assert services.ledger.batches.get(batch).who == "jiro@pay1"


def test_of_many_who_approve_at_once_two_different_people_count(ledger: Ledger, ledger_url: str) -> None:
    """Each of two people approves from several places at the same instant, on SQLite and on PostgreSQL."""
    for _ in range(5):
        reader = ledger.workers.add("elsewhere", 1, "", 60.0)
        batch = ledger.batches.add(
            name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None, four_eyes=True
        )
        ledger.rows.add(batch, [new_row(batch * 100 + 1)], again=False, own_spellings=False)
        ledger.lifecycle.start(batch, 100, needs_approval=True)
        people = ["taro", "hana"] * 4
        given: list[tuple[str, Approval]] = []
        barrier = threading.Barrier(len(people))

        def approve_at_once(who: str, batch: int = batch, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            given.append((who, ledger.lifecycle.approve(batch, who, one_of_two=who)))  # noqa: B023 - of this round

        threads = [threading.Thread(target=approve_at_once, args=(who,)) for who in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        firsts = [who for who, approval in given if approval is Approval.FIRST]
        seconds = [who for who, approval in given if approval is Approval.GIVEN]
        assert (len(firsts), len(seconds)) == (1, 1)
        assert firsts != seconds
        assert [line["what"] for line in ledger.history.lines(batch)] == [
            "approved by the first of two people",
            "approved",
        ]


def test_the_commands_obey_the_same_rule(tmp_path: Path, reset_simulator: Simulator) -> None:
    me = shell()
    onboard = Command(
        tmp_path, reset_simulator, ONBOARD_FOUR_EYES="1", ONBOARD_SHELL_NAMES=f"{me}=taro", ONBOARD_CANARY="0"
    )
    said = onboard.json("run", write_csv(tmp_path / "f.csv", 5))
    batch = said["batch"]
    assert (said["state"], said["books"]["open"]) == ("paused", 5)
    refused = onboard.json("approve", batch)
    assert (refused["exit"], f"{me} brought batch" in refused["error"]["message"]) == (2, True), refused
    assert reset_simulator.sources() == []


def test_by_commands_the_first_approval_of_a_dropped_file_is_stored(
    make: Callable[..., Services], tmp_path: Path, reset_simulator: Simulator
) -> None:
    names = f"{shell()}=taro"
    onboard = Command(tmp_path, reset_simulator, ONBOARD_FOUR_EYES="1", ONBOARD_SHELL_NAMES=names)
    services = make(ONBOARD_HOME=str(onboard.home))
    batch = brought(services, tmp_path, brought_by=WATCH)
    first = onboard("approve", batch)
    assert (first.returncode, "approved by one person" in first.stdout) == (0, True), first.stderr
    second = onboard("approve", batch)
    assert (second.returncode, "gave the first approval" in second.stderr) == (2, True)
    assert services.ledger.batches.get(batch).state is BatchState.PAUSED
    assert approve(services, batch, who="hana").batch.state is BatchState.RUNNING


def test_by_commands_nobody_decides_alone_about_what_they_brought(
    make: Callable[..., Services], tmp_path: Path, reset_simulator: Simulator
) -> None:
    names = f"{shell()}=taro"
    onboard = Command(tmp_path, reset_simulator, ONBOARD_FOUR_EYES="1", ONBOARD_SHELL_NAMES=names)
    services = make(ONBOARD_HOME=str(onboard.home))
    batch = brought(services, tmp_path)
    approve(services, batch, who="hana")
    worker = new_worker(services.ledger)
    rows = services.ledger.leases.claim(Slice(batch, 1, 1_000_000), worker.number)
    worker.mark(rows)
    worker.record(*map(answer, rows[1:]), answer(rows[0], RowState.UNCLEAR, code="not_found_again"))
    stop = Stop(StopCode.SILENT, {"batch": batch})
    services.ledger.lifecycle.change_state(batch, BatchState.HALTED, stop, only_from=[BatchState.RUNNING])
    for words in (
        ("resume", batch),
        ("resolve", batch, rows[0].line, "--absent"),
        ("run", "--again", "--yes", write_csv(tmp_path / "again.csv", 3)),
    ):
        said = onboard(*words)
        assert (said.returncode, f"brought batch {batch}" in said.stderr) == (2, True), said
    assert services.ledger.batches.get(batch).state is BatchState.HALTED
    assert [each.id for each in services.ledger.batches.newest()] == [batch]
    refused = [what for what, who in history(services, batch) if who == shell()]
    assert [what.split(",")[0] for what in refused] == [
        f"not allowed: {deed}" for deed in ("resume", "absent", "again")
    ]
    assert reset_simulator.sources() == []


def test_an_approved_batch_is_looked_up_in_part_and_sent_to_its_end(
    make: Callable[..., Services], tmp_path: Path, reset_simulator: Simulator
) -> None:
    onboard = Command(tmp_path, reset_simulator, ONBOARD_FOUR_EYES="1", ONBOARD_SHELL_NAMES=f"{shell()}=taro")
    services = make(ONBOARD_HOME=str(onboard.home))
    batch = brought(services, tmp_path, "hana", rows=12)
    said = onboard.json("approve", batch)
    assert (said["exit"], said["state"], said["books"]["created"]) == (0, "finished", 12), said
    assert len(reset_simulator.sources()) == 12
