"""A watcher keeps the ledger going for every batch."""

from __future__ import annotations

import pytest
from factories import new_row, new_worker, running_batch, whole

from tasks.errors import LedgerReplaced
from tasks.ledger import Ledger
from tasks.models import RowState
from tasks.operations import batch_lifecycle
from tasks.services import Services
from worker.watcher.failure_log import FailureLog
from worker.watcher.upkeep import Upkeep


@pytest.fixture
def upkeep(services: Services, failures: FailureLog) -> Upkeep:
    return Upkeep(services.ledger, services.settings, failures, redis=None, workers=None)


def batch_of_a_dead_worker(ledger: Ledger, customer: str) -> int:
    """A batch of which a dead worker has leased all rows; it is paused, so that nothing of it is dispatched."""
    batch, worker = running_batch(ledger, [new_row(1, customer=customer)]), new_worker(ledger, lease_seconds=0.0)
    ledger.leases.claim(whole(batch), worker.number)
    batch_lifecycle.pause(ledger, batch)
    return batch


def test_rows_of_dead_workers_are_recovered_as_soon_as_it_is_asked_to_run(ledger: Ledger, upkeep: Upkeep) -> None:
    for customer in ("cus_1", "cus_2"):
        batch = batch_of_a_dead_worker(ledger, customer)
        assert ledger.queries.count_states(batch) == {RowState.CLAIMED: 1}
        upkeep.run_soon()
        upkeep.run_if_due()
        assert ledger.queries.count_states(batch) == {RowState.WAITING: 1}


def test_a_replaced_ledger_ends_the_watcher(services: Services, upkeep: Upkeep) -> None:
    ledger, home = services.ledger, services.settings.home
    upkeep.run_if_due()
    ledger.close()
    for path in home.glob("ledger.db*"):
        path.unlink()
    Ledger.open(services.ledger_url, services.account).version()  # a new one in its place
    ledger.engine.memory.look_again()
    upkeep.run_soon()
    with pytest.raises(LedgerReplaced):
        upkeep.run_if_due()
