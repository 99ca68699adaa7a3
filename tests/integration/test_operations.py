"""The use cases by themselves, in this process: real ledger, real simulator, no command."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import KEY, Simulator, answer, makes_services, new_row, new_worker, running_batch, whole, write_csv

from tasks import operations
from tasks.errors import LedgerError, SettingsError
from tasks.models import BatchState, RowState, Stop, StopCode
from tasks.operations.accept_batch import accept
from tasks.operations.approve import approve
from tasks.operations.audit import audit
from tasks.operations.cancel import cancel
from tasks.operations.check import check
from tasks.operations.installation_checks import check_installation
from tasks.operations.ledger_setup import accept_ledger_as_it_is
from tasks.operations.pause import pause
from tasks.operations.resolve import give_up, resolve_as_absent, resolve_as_created
from tasks.operations.resume import NewOrders, resume
from tasks.operations.retention import tidy
from tasks.operations.retry import retry
from tasks.operations.sendable_methods import sendable_methods
from tasks.operations.show_row import show_row
from tasks.operations.status import list_batches, list_left_alone, show_batch
from tasks.send_window import Window
from tasks.services import Services

DECISIONS = [
    accept,
    accept_ledger_as_it_is,
    approve,
    audit,
    cancel,
    give_up,
    pause,
    resolve_as_absent,
    resolve_as_created,
    resume,
    retry,
]


@pytest.fixture
def make(tmp_path: Path, simulator: Simulator) -> Iterator[Callable[..., Services]]:
    """Make what a door works with, for the settings given; all have the same ledger."""
    home = tmp_path / "home"
    home.mkdir()
    address = {"ELEPAY_SECRET_KEY": KEY, "ELEPAY_BASE_URL": simulator.url}
    with makes_services(home, **address) as services:
        yield services


@pytest.fixture
def services(make: Callable[..., Services]) -> Services:
    """What a door works with."""
    return make()


def history(services: Services, batch: int) -> list[tuple[str, str | None]]:
    return [(line["what"], line["who"]) for line in services.ledger.history.lines(batch)]


@pytest.mark.parametrize("decide", DECISIONS, ids=lambda decide: str(decide.__name__))
def test_whoever_decides_has_to_say_who(decide: Callable[..., Any]) -> None:
    who = inspect.signature(decide).parameters["who"]
    assert (who.kind, who.default) == (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.empty)


def test_what_an_operation_returns_cannot_be_changed() -> None:
    modules = [
        importlib.import_module(f"{operations.__name__}.{found.name}")
        for found in pkgutil.iter_modules(operations.__path__)
    ]
    classes = {
        each
        for module in modules
        for name, each in vars(module).items()
        if dataclasses.is_dataclass(each) and each.__module__ == module.__name__ and not name.startswith("_")
    }
    assert len(classes) > 15
    assert [each for each in classes if not each.__dataclass_params__.frozen] == []  # type: ignore[union-attr]


def test_pause_resume_and_cancel_say_who_and_refuse_what_cannot_be(services: Services) -> None:
    batch = running_batch(services.ledger, 2)
    paused = pause(services, batch, who="sato@pages").batch
    assert (paused.state, paused.stop) == (
        BatchState.PAUSED,
        Stop(StopCode.PERSON, {"who": "sato@pages", "batch": batch}),
    )
    with pytest.raises(LedgerError, match="only a running batch can be paused"):
        pause(services, batch, who="sato@pages")
    window = Window.of("01:00", "05:00", "Asia/Tokyo")
    resumed = resume(services, batch, NewOrders(window), who="ito@pages")
    assert (resumed.was_running, resumed.status.batch.state, resumed.status.batch.stop) == (
        False,
        BatchState.RUNNING,
        None,
    )
    assert resumed.status.batch.window == str(window)
    assert cancel(services, batch, who="ito@pages").batch.state is BatchState.CANCELLED
    with pytest.raises(LedgerError, match="only an unfinished batch can be cancelled"):
        cancel(services, batch, who="ito@pages")
    with pytest.raises(LedgerError, match="only a stopped batch can be resumed"):
        resume(services, batch, NewOrders(), who="ito@pages")
    deeds = history(services, batch)
    assert [who for _, who in deeds] == ["sato@pages", "ito@pages", "ito@pages", "ito@pages"]
    assert deeds[0][0] == f"paused: paused by sato@pages; onboard resume {batch} goes on"
    assert deeds[-1][0] == "cancelled: cancelled by ito@pages"


def test_a_batch_that_somebody_sends_gets_new_orders_only(services: Services) -> None:
    batch = running_batch(services.ledger, 2)
    worker = new_worker(services.ledger)
    assert services.ledger.batches.get(batch).is_worked_on
    with pytest.raises(LedgerError, match="only a stopped batch"):
        resume(services, batch, NewOrders(), who="ito@pages")
    resumed = resume(services, batch, NewOrders(verify_first=True), who="ito@pages")
    assert (resumed.was_running, resumed.status.batch.verify) == (True, True)
    services.ledger.workers.end(worker.number)


def test_a_batch_of_which_the_ledger_has_forgotten_sources_goes_on_with_look_ups_only(services: Services) -> None:
    batch = running_batch(services.ledger, 2)
    stop = Stop(StopCode.FORGOTTEN, {"unknown": 1, "sampled": 2, "batch": batch})
    assert services.ledger.lifecycle.pause(batch, stop)
    with pytest.raises(LedgerError, match="--verify-first"):
        resume(services, batch, NewOrders(), who="ito@pages")
    assert resume(services, batch, NewOrders(verify_first=True), who="ito@pages").status.batch.verify


@pytest.mark.parametrize(
    "decide",
    [
        lambda services, batch: approve(services, batch, who="a"),
        lambda services, batch: resume(services, batch, NewOrders(), who="a"),
        lambda services, batch: resolve_as_absent(services, batch, 2, who="a"),
        lambda services, batch: give_up(services, batch, 2, who="a"),
    ],
)
def test_nobody_decides_about_the_batch_of_another_account(
    make: Callable[..., Services], decide: Callable[[Services, int], object]
) -> None:
    mine = make()
    batch = running_batch(mine.ledger, 1)
    other = make(ELEPAY_BASE_URL="http://127.0.0.1:9")
    with pytest.raises(LedgerError, match="belongs to test mode at"):
        decide(other, batch)
    assert history(mine, batch) == []


def unclear_row(services: Services) -> int:
    """A finished batch whose only row waits for a person."""
    batch = running_batch(services.ledger, 1)
    worker = new_worker(services.ledger)
    (row,) = services.ledger.leases.claim(whole(batch), worker.number)
    worker.mark([row])
    worker.record(answer(row, RowState.UNCLEAR, code="lookup_inconclusive"))
    services.ledger.workers.end(worker.number)
    assert services.ledger.lifecycle.close(batch)
    return batch


def test_a_row_that_is_given_up_stays_unclear_and_is_decided_once(services: Services) -> None:
    batch = unclear_row(services)
    given_up = give_up(services, batch, 2, who="sato@pages")
    assert (given_up.state, given_up.status.counts.unclear) == (RowState.UNCLEAR, 1)
    with pytest.raises(LedgerError, match="does not wait for a person"):
        give_up(services, batch, 2, who="sato@pages")
    shown = show_row(services, batch, 2)
    assert [(line["what"], line["who"]) for line in shown.history][-1] == ("resolved: given_up", "sato@pages")
    with pytest.raises(LedgerError, match="no record of batch"):
        show_row(services, batch, 9)


def test_a_row_is_absent_only_when_elepay_says_so(services: Services, simulator: Simulator) -> None:
    batch = unclear_row(services)
    simulator.control(list_500=1.0, max_faults_per_key=1000)
    with pytest.raises(LedgerError, match="elepay did not say"):
        resolve_as_absent(services, batch, 2, who="sato@pages")
    simulator.control(list_500=0.0)
    absent = resolve_as_absent(services, batch, 2, who="sato@pages")
    assert (absent.state, absent.status.batch.state, absent.status.counts.open) == (
        RowState.WAITING,
        BatchState.RUNNING,
        1,
    )


def test_a_source_is_taken_on_a_persons_word_where_elepay_cannot_be_asked(
    services: Services, make: Callable[..., Services], simulator: Simulator
) -> None:
    batch = unclear_row(services)
    with pytest.raises(LedgerError, match="elepay has no source src_none"):
        resolve_as_created(services, batch, 2, "src_none", who="sato@pages")
    unasked = resolve_as_created(make(ELEPAY_SECRET_KEY=""), batch, 2, "src_seen", who="sato@pages")
    assert unasked.answer is not None
    assert (unasked.state, unasked.answer.status, unasked.status.counts.created) == (RowState.CREATED, "", 1)


def test_only_what_has_ended_and_could_pass_now_is_retried(services: Services) -> None:
    batch = running_batch(services.ledger, 1)
    with pytest.raises(LedgerError, match="only a finished or cancelled batch"):
        retry(services, batch, who="a")


def test_a_file_is_accepted_with_who_brought_it_and_checked_alike(services: Services, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", 3)
    checked = check(services, file)
    assert (checked.to_send, checked.invalid, checked.records) == (3, 0, 3)
    accepted = accept(services, file, who="sato@pages", brought_by="pages", canary=1)
    assert (accepted.batch.state, accepted.batch.records, accepted.batch.brought_by) == (BatchState.RUNNING, 3, "pages")
    assert pause(services, accepted.batch.id, who="ito@pages")
    again = accept(services, file, who="sato@pages", brought_by="pages")
    assert (again.goes_on, again.batch.id) == (True, accepted.batch.id)
    assert history(services, accepted.batch.id)[-1] == ("running", "sato@pages")


def test_elepay_is_asked_once_for_its_methods_and_a_wrong_key_says_so(
    services: Services, make: Callable[..., Services], simulator: Simulator
) -> None:
    assert "creditcard" in (sendable_methods(services) or ())
    assert sendable_methods(services) is sendable_methods(services)
    assert sum(simulator.statistics()["requests"].values()) == 1
    simulator.control(accepted_keys=["sk_test_another"])
    with pytest.raises(SettingsError, match="ELEPAY_SECRET_KEY"):
        sendable_methods(make())


def test_what_an_installation_lacks_is_a_fact_each(make: Callable[..., Services], simulator: Simulator) -> None:
    assert [each.subject for each in check_installation(make()) if not each.ok] == []
    simulator.control(accepted_keys=["sk_test_another"])
    ill = make(REDIS_URL="redis://127.0.0.1:9/0")
    assert [each.subject for each in check_installation(ill) if not each.ok] == ["elepay", "redis"]


def test_batches_are_listed_with_their_counts_and_those_left_alone(services: Services) -> None:
    batch = running_batch(services.ledger, [new_row(1), new_row(2, state="invalid")])
    listed = list_batches(services)
    assert [(each.batch.id, each.counts.open, each.counts.invalid) for each in listed.batches] == [(batch, 1, 1)]
    assert listed.rate is None
    assert [each.batch.id for each in list_left_alone(services, ())] == [batch]
    assert list_left_alone(services, (batch,)) == ()
    assert show_batch(services, batch).status == listed.batches[0]
    with pytest.raises(LedgerError, match="there is no batch 7"):
        show_batch(services, 7)


def test_nothing_is_tidied_where_everything_is_kept(make: Callable[..., Services]) -> None:
    with pytest.raises(SettingsError, match="ONBOARD_KEEP_DAYS"):
        tidy(make(ONBOARD_KEEP_DAYS="0"))


def test_a_machine_that_goes_on_with_the_file_of_another_can_write_its_reports(
    make: Callable[..., Services], tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "a.csv", 2)
    first = make()
    batch = accept(first, file, who="ops", brought_by="run").batch
    (tmp_path / "other").mkdir()
    ledger_url = f"sqlite:///{tmp_path / 'home' / 'ledger.db'}"
    other = make(ONBOARD_HOME=str(tmp_path / "other"), LEDGER_URL=ledger_url)
    accepted = accept(other, file, who="ops", brought_by="run")
    assert (accepted.batch.id, accepted.goes_on) == (batch.id, True)
    assert other.kept_file(batch).read_bytes() == file.read_bytes()
