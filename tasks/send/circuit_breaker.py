"""What a process still sends when elepay, or what answers in its place, says nothing definite.

An answer is *definite* if it says whether a source was created: elepay's own, and not a page, a bare status, a
timeout or a broken connection. Each answer that is not leaves a row unclear, so the fewer requests meet a sign-in page
or an outage, the better:

1. until the first definite answer to a create of its batch, at most SLOW_START_ROWS creates of a batch are in flight
2. after OPEN_AFTER answers to creates without a definite one between them the breaker opens: nothing more is created,
   and the fleet pauses
3. after a gap that grows with each try comes a look-up of an unclear row; if elepay answers it, one row is sent
4. a definite answer to a create closes the breaker; every batch starts slowly again

The object is not locked: its owner calls it under a lock of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

#: Creates of a batch in flight before its first definite answer, in one process.
SLOW_START_ROWS = 10
#: So many answers without a definite one are an outage.
OPEN_AFTER = 20
#: The first gap between tries, doubled with each failure up to the last, in seconds.
FIRST_GAP_SECONDS = 1.0
LAST_GAP_SECONDS = 60.0
#: ... as long as elepay answers look-ups: then only creates get lost, each is cleared up by a look-up, and a small
#: file should not take a quarter of an hour.
LAST_GAP_WITH_ANSWERS_SECONDS = 8.0
#: The whole fleet pauses with gaps up to this; longer ones are this process's own, because it may be the only one that
#: is cut off. In an outage of elepay the other processes have noticed it themselves by then.
MOST_FLEET_PAUSE_SECONDS = 8.0
#: A row is sent without a look-up before it when no unclear row could be looked up for so long.
NO_LOOK_UP_SECONDS = 1.0


class CircuitBreaker:
    """Counts answers of one process; `clock` is any clock in seconds that never jumps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._creates_in_flight: Counter[int] = Counter()  # creates, by batch
        self._look_ups_in_flight = 0
        self._answered: set[int] = set()  # batches with a definite answer since the breaker last opened
        self._silent_creates = 0  # answers to creates since the last definite one
        self._silent_look_ups = 0  # the same of look-ups
        self._since: float | None = None  # when the first answer of those came
        self._gaps: int | None = None  # tries that have failed since it opened; None: it is closed
        self.try_at = 0.0  #: when the next try is, or the last one was, by `clock`
        self._elepay_answers = False  # the look-up of this try was answered

    @property
    def is_open(self) -> bool:
        """True while nothing may be created but one row at a time."""
        return self._gaps is not None

    @property
    def outage_seconds(self) -> float:
        """For how long nothing definite has come back; 0 unless that is an outage."""
        if self._since is None or not (self.is_open or self._silent_look_ups >= OPEN_AFTER):
            return 0.0
        return max(self._clock() - self._since, 0.001)

    def creates_allowed(self, batch_id: int) -> int | None:
        """Return how many rows of a batch may leave now; None: as many as there are."""
        if self.is_open:
            return int(self._may_try() and not self._creates_in_flight and self._look_up_is_done())
        if batch_id in self._answered:
            return None
        return max(0, SLOW_START_ROWS - self._creates_in_flight[batch_id])

    def look_ups_allowed(self) -> int | None:
        """Return how many look-ups may leave now; None: as many as there are."""
        if not self.is_open or self._elepay_answers:
            return None
        return int(self._may_try() and not self._look_ups_in_flight)

    def create_leaves(self, batch_id: int) -> None:
        """Note that a create is in flight."""
        self._creates_in_flight[batch_id] += 1

    def look_up_leaves(self) -> None:
        """Note that a look-up is in flight."""
        self._look_ups_in_flight += 1

    def create_ended(self, batch_id: int, definite: bool | None) -> float | None:
        """Note what a create brought (None: it never left); return for how long the fleet shall pause, if it shall."""
        self._creates_in_flight[batch_id] -= 1
        if not self._creates_in_flight[batch_id]:
            del self._creates_in_flight[batch_id]
        if definite is None:
            return None
        if definite:
            self._close(batch_id)
            return None
        self._silent_creates += 1
        self._note_silence()
        if self.is_open:
            return self._wait_longer() if self._may_try() else None
        return self._open() if self._silent_creates >= OPEN_AFTER else None

    def look_up_ended(self, definite: bool | None) -> float | None:
        """Note what a look-up brought (None: it was not asked); return for how long the fleet shall pause."""
        self._look_ups_in_flight -= 1
        if definite is None:
            return None
        if definite:
            self._silent_look_ups, self._elepay_answers = 0, True
            if not self._silent_creates:
                self._since = None
            return None
        self._silent_look_ups += 1
        self._note_silence()
        return self._wait_longer() if self.is_open and self._may_try() else None

    def _may_try(self) -> bool:
        return self._clock() >= self.try_at

    def _look_up_is_done(self) -> bool:
        not_looked_up = not self._look_ups_in_flight and self._clock() >= self.try_at + NO_LOOK_UP_SECONDS
        return self._elepay_answers or not_looked_up

    def _note_silence(self) -> None:
        if self._since is None:
            self._since = self._clock()

    def _open(self) -> float:
        self._gaps = 0
        self._answered.clear()
        return self._next_gap()

    def _wait_longer(self) -> float | None:
        assert self._gaps is not None, "it is open"
        self._gaps += 1
        gap = self._next_gap()
        return gap if FIRST_GAP_SECONDS * 2.0**self._gaps <= MOST_FLEET_PAUSE_SECONDS else None

    def _next_gap(self) -> float:
        last = LAST_GAP_WITH_ANSWERS_SECONDS if self._elepay_answers else LAST_GAP_SECONDS
        gap = min(FIRST_GAP_SECONDS * 2.0 ** (self._gaps or 0), last)
        self.try_at, self._elepay_answers = self._clock() + gap, False
        return gap

    def _close(self, batch_id: int) -> None:
        self._silent_creates = self._silent_look_ups = 0
        self._since = self._gaps = None
        self._answered.add(batch_id)
