"""The name of a worker, which no other worker of its fleet may have at the same time: a lease in Redis."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

import structlog

from tasks import process_identity
from tasks.errors import RateLimitUnavailable, SettingsError
from tasks.send.rate_limit import connect, hold_key, release_key

log = structlog.get_logger("onboard")

#: A worker of another machine that has not renewed its name for so long is gone.
LEASE_SECONDS = 15.0
_ASK_SECONDS = 0.5


class WorkerName:
    """A name that this process holds, or is to hold."""

    def __init__(
        self,
        redis_url: str,
        account: str,
        name: str,
        *,
        lease_seconds: float = LEASE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        pid = os.getpid()
        self._me = f"{process_identity.host()} {pid} {process_identity.started(pid)} "
        self._beat = 0
        self._name, self._key = name, f"onboard:worker:{account}:{name}"
        self._redis = connect(redis_url, connections=2)
        self._lease_seconds, self._sleep = lease_seconds, sleep

    def take(self) -> None:
        """Take the name. Raises SettingsError if another worker that is alive has it.

        A holder of this machine whose process is gone has lost it at once; one of another machine if it gives no sign
        of life for the length of its lease, which is waited for. While Redis is out of reach nobody can tell, and the
        worker has nothing to do.
        """
        with contextlib.suppress(RateLimitUnavailable):
            first, ends = self._hold(), time.monotonic() + self._lease_seconds
            holder = first
            while not self._is_mine(holder):
                is_gone = _is_gone(holder) or (holder == first and time.monotonic() > ends)
                if not is_gone and (_is_here(holder) or holder != first):
                    raise SettingsError(
                        "another worker of this fleet has the name {name}: give this one a name of its own"
                        " (`onboard worker --name`, or celery's -n)",
                        name=self._name,
                    )
                if not is_gone:
                    self._sleep(_ASK_SECONDS)
                holder = self._hold(instead_of=holder if is_gone else "")

    def keep(self) -> None:
        """Renew the name from now on, in a thread of its own."""
        threading.Thread(target=self._renew, name="name", daemon=True).start()

    def release(self) -> None:
        """Let another worker have the name at once."""
        with contextlib.suppress(RateLimitUnavailable):
            release_key(self._redis, self._key, self._me)

    def _hold(self, instead_of: str = "") -> str:
        self._beat += 1
        return hold_key(self._redis, self._key, self._me, self._beat, self._lease_seconds, instead_of=instead_of)

    def _is_mine(self, holder: str) -> bool:
        return holder.startswith(self._me)

    def _renew(self) -> None:
        was_mine = True
        while True:
            self._sleep(self._lease_seconds / 3)
            with contextlib.suppress(RateLimitUnavailable):
                is_mine = self._is_mine(self._hold())
                if was_mine and not is_mine:
                    log.warning("another worker has this name", name=self._name)
                was_mine = is_mine


def _is_here(holder: str) -> bool:
    return holder.split(" ", maxsplit=1)[0] == process_identity.host()


def _is_gone(holder: str) -> bool:
    """Return whether a holder was a process of this machine that has ended."""
    host, pid, started = (*holder.split(" "), "", "")[:3]
    return host == process_identity.host() and pid.isdigit() and process_identity.is_dead(int(pid), started)
