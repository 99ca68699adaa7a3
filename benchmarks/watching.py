"""What processes take, as the kernel counts it (Linux)."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import redis

_TICKS = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.2


def processor_seconds(*sessions: int) -> float:
    """Return user and system time of our children that have ended, and of the living processes of some sessions.

    The difference of two calls is what happened between them: a command with all its descendants, if it began and ended
    in between (the kernel adds up what a parent has waited for), and servers that live on, by their sessions.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = 0
    for path in Path("/proc").glob("[0-9]*/stat") if sessions else ():
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) in sessions:
                living += sum(map(int, fields[11:15]))
    return ended.ru_utime + ended.ru_stime + living / _TICKS


class Peaks:
    """The most memory that each process of a run had, and its private Valkey, seen until they end."""

    def __init__(self, parent: int, home: Path) -> None:
        self.megabytes: dict[str, float] = {}  #: by what the process is; of several, the largest
        self.redis_megabytes = 0.0
        self._parent, self._home = parent, home
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @contextlib.contextmanager
    def seen(self) -> Iterator[Peaks]:
        """Look again and again inside the block; the kernel keeps each process's peak between two looks."""
        self._thread.start()
        try:
            yield self
        finally:
            self._over.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            for pid in (self._parent, *_children(self._parent)):
                with contextlib.suppress(OSError, StopIteration):
                    self._look(pid)
            with contextlib.suppress(OSError, ValueError, redis.RedisError):
                self._look_at_redis()

    def _look(self, pid: int) -> None:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
        name = Path(words[0].partition(" ")[0]).name
        if "-m" in words:  # a command of ours, or the process that reads a large file
            module, does = words[words.index("-m") + 1 :][:2]
            name = f"onboard {does}" if module == "worker.cli" else module
        self.megabytes[name] = max(peak, self.megabytes.get(name, 0))

    def _look_at_redis(self) -> None:
        folder = (self._home / "valkey.pid").read_text().splitlines()[2]
        with redis.Redis(unix_socket_path=f"{folder}/socket") as server:
            peak = float(server.info("memory")["used_memory_peak"])
        self.redis_megabytes = max(self.redis_megabytes, peak / 1e6)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
