"""How long whoever failed to sign in has to wait, by name and by address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

#: So many failures of a name, and of an address, cost nothing; several people may share an address.
FREE_OF_NAME, FREE_OF_ADDRESS = 4, 20
LONGEST_WAIT_SECONDS = 300.0
#: Names and addresses that are remembered; the one that was used longest ago is forgotten first.
MOST_KEYS = 10_000


@dataclass
class _Failures:
    count: int = 0
    free_at: float = 0.0


class Attempts:
    """Counts failures; safe to share between threads. A name that nobody has waits like any other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()
        self._lock = threading.Lock()

    def seconds_to_wait(self, name: str, address: str) -> float:
        """Return for how long no attempt with this name, or from this address, is looked at; 0: try.

        An attempt that may be tried counts as failed until `succeeded`: a thousand at once are no thousand tries.
        """
        with self._lock:
            now = self._clock()
            keys = {f"name {name}": FREE_OF_NAME, f"address {address}": FREE_OF_ADDRESS}
            waits = [found.free_at - now for key in keys if (found := self._failures.get(key))]
            if waits and max(waits) > 0:
                return max(waits)
            for key, free in keys.items():
                self._fail(key, free, now)
            return 0.0

    def _fail(self, key: str, free: int, now: float) -> None:
        found = self._failures.setdefault(key, _Failures())
        self._failures.move_to_end(key)
        found.count += 1
        if found.count > free:
            found.free_at = now + min(2.0 ** min(found.count - free, 30), LONGEST_WAIT_SECONDS)
        while len(self._failures) > MOST_KEYS:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of a name, and one of its address."""
        with self._lock:
            self._failures.pop(f"name {name}", None)
            if found := self._failures.get(f"address {address}"):
                found.count, found.free_at = max(found.count - 1, 0), 0.0
