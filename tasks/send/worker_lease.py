"""The number of this process in the ledger, and until when the rows that it has claimed are its own."""

from __future__ import annotations

from collections.abc import Callable


class WorkerLease:
    """Kept by the loop's thread, read by all others; `register` returns a new number, `clock` never jumps."""

    def __init__(self, register: Callable[[], int], seconds: float, clock: Callable[[], float]) -> None:
        self._register, self._clock = register, clock
        self.seconds = seconds
        self.worker = 0  #: the number in the ledger; 0 before `register`
        self._ends_at = self._renewed_at = 0.0

    def register(self) -> None:
        """Take a new number, with a lease of its own."""
        started = self._clock()
        self.worker = self._register()
        self._ends_at, self._renewed_at = started + self.seconds, started

    def renew(self, started: float, *, kept: bool) -> None:
        """Note a transaction that began at `started` and prolonged the lease; `kept`: it had not ended before."""
        if kept:
            self._ends_at = started + self.seconds
        self._renewed_at = started

    @property
    def must_be_renewed(self) -> bool:
        """True once a quarter of it has passed."""
        return self._clock() - self._renewed_at > self.seconds / 4

    def outlives(self, worker: int, seconds: float) -> bool:
        """Return whether rows that `worker` has marked are this process's own for so many seconds more."""
        ends_at = self._ends_at  # before the look at the worker: a new one has a new lease
        return worker == self.worker and self._clock() + seconds <= ends_at
