"""Keeps Redis, the workers and the ledger going, for every running batch, whoever accepted it."""

from __future__ import annotations

import time

import structlog

from tasks.ledger import Ledger
from tasks.settings import Settings
from worker.embedded_redis import EmbeddedRedis
from worker.watcher.failure_log import FailureLog
from worker.worker_pool import TICK_SECONDS, Workers, reap_and_dispatch

log = structlog.get_logger("onboard")


class Upkeep:
    """What a watcher does every TICK_SECONDS; `redis` and `workers` are its own, None those of a fleet."""

    def __init__(
        self,
        ledger: Ledger,
        settings: Settings,
        failures: FailureLog,
        *,
        redis: EmbeddedRedis | None,
        workers: Workers | None,
    ) -> None:
        self._ledger, self._settings, self._failures = ledger, settings, failures
        self._redis, self._workers = redis, workers
        self._ran_at = float("-inf")

    def run_soon(self) -> None:
        """Let the next `run_if_due` run: a new batch can be dispatched."""
        self._ran_at = float("-inf")

    def run_if_due(self) -> None:
        """Restart what has died, recover rows of dead workers, and dispatch slices that are due.

        Raises OnboardingError if Redis or the workers cannot be kept alive: a supervisor must start the whole anew; and
        LedgerReplaced. Other failures are logged, and tried again.
        """
        if time.monotonic() - self._ran_at < TICK_SECONDS:
            return
        self._ran_at = time.monotonic()
        restarted = self._redis is not None and self._redis.look_after()
        if self._workers is not None:
            self._workers.look_after()
        with self._failures.logged("ledger and Redis"):
            self._ledger.require_memory()
            if restarted:
                log.warning("the private Valkey had died and was started again")
                self._ledger.dispatch.repeat()
            reap_and_dispatch(self._ledger, self._settings)
