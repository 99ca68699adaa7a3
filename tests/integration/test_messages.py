"""Whatever lies in the queue of a fleet: its worker lives, sends nothing that is not due, and sends what is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from factories import KEY, Command, Simulator, ledger_of, new_row, new_worker, wait_until, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_messages import NO_MESSAGES, ODD, messages, slice_message
from redis import Redis

from tasks.models import Account, Slice
from worker.embedded_redis import EmbeddedRedis

CANARY, ROWS = 3, 6


class Fleet:
    """One worker with a Redis, and what it has logged."""

    def __init__(self, folder: Path, simulator: Simulator, redis_url: str) -> None:
        self.simulator = simulator
        self.command = Command(folder, simulator, REDIS_URL=redis_url, LEDGER_URL=f"sqlite:///{folder / 'fleet.db'}")
        assert self.command("status").returncode == 0
        self._redis = Redis.from_url(redis_url)
        prefix = f"onboard:{Account(False, simulator.url).key}:"
        self._queue, self._taken = f"{prefix}onboard", f"{prefix}unacked"
        self._log = folder / "log"
        self._names = itertools.count(1)
        with self._log.open("w") as log:
            self.worker = self.command.start("worker", "--name", "one", stdout=log.fileno(), stderr=log.fileno())
        wait_until(lambda: "worker ready" in self.log, what="the worker")

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def canary_batch(self) -> int:
        """Return a batch whose first rows were sent and whose others wait for a person."""
        name = next(self._names)
        file = write_csv(self._log.parent / f"{name}.csv", ROWS, prefix=f"c{name}_")
        said = self.command.json("run", "--no-workers", "--canary", CANARY, file)
        assert said["state"] == "paused"
        return int(said["batch"])

    def receive(self, sent: Sequence[Any]) -> None:
        """Put messages into the queue, and wait until none is left."""
        self._redis.lpush(self._queue, *(one if isinstance(one, bytes) else json.dumps(one) for one in sent))
        wait_until(
            lambda: not self._redis.llen(self._queue) and not self._redis.hlen(self._taken), 120, "an empty queue"
        )

    def expect_in_order(self, batch: int) -> None:
        """Expect that only the canary rows were sent, and that a word of a person lets the worker send the others."""
        before = self.simulator.statistics()["created"]
        assert self.command.json("status", batch)["books"]["created"] == CANARY
        self.command("approve", batch)
        assert self.command.until_finished(batch)["books"]["created"] == ROWS
        statistics = self.simulator.statistics()
        assert statistics["created"] == before + ROWS - CANARY
        assert statistics["references"]["doubled_count"] == 0
        assert self.worker.poll() is None
        for word in (KEY, "TARO YAMADA", "Traceback"):
            assert word not in self.log

    def end(self) -> None:
        self.worker.terminate()
        assert self.worker.wait(60) == 0
        self._redis.close()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One for all tests here."""
    folder = tmp_path_factory.mktemp("fleet")
    with Simulator() as simulator, EmbeddedRedis(folder) as redis:
        fleet = Fleet(folder, simulator, redis.url)
        yield fleet
        fleet.end()


def test_messages_that_are_not_ours_are_dropped_with_a_word(fleet: Fleet) -> None:
    batch = fleet.canary_batch()
    fleet.receive([*ODD, slice_message(batch, 1, ROWS), slice_message(batch, CANARY + 1, ROWS)])
    assert fleet.log.count("a message that this program does not send was dropped") > len(ODD) * 0.8
    assert fleet.log.count("a message names a slice that the ledger does not have") >= 2
    assert "the consumer failed" not in fleet.log
    fleet.expect_in_order(batch)


@pytest.mark.resilience
def test_what_is_no_message_at_all_ends_nothing(fleet: Fleet) -> None:
    batch = fleet.canary_batch()
    fleet.receive(NO_MESSAGES[:1])
    fleet.expect_in_order(batch)


@pytest.mark.resilience
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(messages(), min_size=20, max_size=20))
def test_no_messages_keep_a_worker_from_its_work(fleet: Fleet, drawn: list[Any]) -> None:
    batch = fleet.canary_batch()
    fleet.receive(drawn)
    fleet.expect_in_order(batch)


def test_no_message_sends_rows_behind_a_canary(ledger_url: str) -> None:
    ledger = ledger_of(ledger_url, Account(False, "https://here"))
    reader = ledger.workers.add("elsewhere", 1, "", 60.0)
    batch = ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    ledger.rows.add(batch, [new_row(record) for record in range(1, ROWS + 1)])
    ledger.lifecycle.start(batch, 100, canary_rows=CANARY)
    early, whole = Slice(batch, CANARY + 1, ROWS), Slice(batch, 1, ROWS)
    assert [ledger.dispatch.has(one) for one in (early, whole)] == [True, False]
    assert ledger.leases.claim(early, new_worker(ledger).number) == []
    assert len(ledger.leases.claim(whole, new_worker(ledger).number)) == CANARY
    ledger.close()
