"""Starts our modules as processes that are forked from one that has imported everything.

A process of its own in every respect: environment, folder, session, descriptors, signals; only the second that Python
takes to import our libraries is spent once for all of them. What depends on how Python itself is started (its path, its
locale, a preloaded library) must be started the long way: `can_start` says so.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Protocol

ROOT = Path(__file__).parent.parent
_PYTHON = sys.executable
# whatever this shell wants: else every process of every run compiles the modules of the tests, and the program's
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

#: Variables that Python or the C library reads before a program of ours begins.
_EARLY = ("PYTHON", "LC_", "LANG", "LD_", "TZ", "MALLOC_")
#: With which the process that starts the others is started, whatever a test has changed when it is first needed.
_ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OPENBLAS_NUM_THREADS": "1",  # numpy's threads would not be there in a forked process
}
#: Names, in the environment of processes of tests, the socket of a process that is shared by them.
_ADDRESS = "WARM_SERVER"
#: Names a program, in the environment of a command, that it runs before it begins; its workers do, too.
PATCH = "WARM_PATCH"
#: A process is named by so many bytes.
PID_BYTES = 10
#: Room in the command line of a forked process for the words of the command that it becomes.
WORDS_BYTES = 1000


def can_start(environment: Mapping[str, str]) -> bool:
    """Tell whether this environment makes no difference to how Python itself starts."""
    names = {name for name in {*environment, *_ENVIRONMENT} if name.startswith(_EARLY)}
    return all(environment.get(name) == _ENVIRONMENT.get(name) for name in names)


class Signalled(Protocol):
    """A process that takes signals as `subprocess.Popen` does."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code; None: it still runs."""

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Process(Signalled):
    """A started process, with what `subprocess.Popen` has that tests use."""

    def __init__(self, connection: socket.socket, pid: int, args: Sequence[str], pipes: Sequence[int | None]) -> None:
        self.args, self.pid = list(args), pid
        self.returncode: int | None = None
        self._connection = connection
        self.stdout, self.stderr = (
            None if fd is None else os.fdopen(fd, encoding="utf-8", errors="replace") for fd in pipes
        )
        self._read: dict[IO[str] | None, list[bytes]] = {one: [] for one in (self.stdout, self.stderr) if one}

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            told = self._connection.recv(100)
            self._connection.close()
            assert told, "the process that starts the others has died"
            self.returncode = int(told)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read what it prints until its end. Raises subprocess.TimeoutExpired; what was read is kept."""
        ends = None if timeout is None else time.monotonic() + timeout
        open_ones = [one for one in self._read if one and not one.closed]
        while open_ones:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            ready = select.select(open_ones, [], [], left)[0]
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            for one in ready:
                chunk = os.read(one.fileno(), 65536)
                if chunk:
                    self._read[one].append(chunk)
                else:
                    one.close()
                    open_ones.remove(one)
        self.wait(None if ends is None else max(0.0, ends - time.monotonic()))
        parts = (self._read.get(one, []) for one in (self.stdout, self.stderr))
        out, err = (b"".join(each).decode("utf-8", "replace") for each in parts)
        return out, err

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.stdout, self.stderr):
            if one:
                one.close()
        self.wait()


def ask(connection: socket.socket, request: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Send a request, and descriptors with it."""
    given = json.dumps(request).encode()
    connection.sendall(len(given).to_bytes(4, "big"))
    connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    connection.sendall(given)


class Given(Process):
    """A process of ours that is given something and says nothing, as notifier and console start theirs."""

    stdin: IO[bytes]

    @classmethod
    def popen(cls, words: Sequence[str], **more: Any) -> Any:
        """Start what `subprocess.Popen` would."""
        environment = {**(more.get("env") or os.environ), "PYTHONPATH": str(ROOT)}
        begins = list(words[:3])
        if begins not in ([_PYTHON, "-P", "-c"], [_PYTHON, "-P", "-m"]) or not can_start(environment):
            return subprocess.Popen(words, **more)
        ours = words[2:] if begins[2] == "-c" else words[3:]
        read, write = os.pipe()
        with open(os.devnull, "wb") as nowhere, open(read, "rb"):  # noqa: PTH123 - a descriptor
            to_nowhere = nowhere.fileno()
            begun = _begin(ours, environment, Path.cwd(), (read, to_nowhere, to_nowhere))
        started = cls(*begun, words, (None, None))
        started.stdin = os.fdopen(write, "wb")
        return started

    def communicate(self, given: bytes = b"", timeout: float | None = None) -> None:  # type: ignore[override]
        """Give it all, and wait for its end. Raises subprocess.TimeoutExpired."""
        with contextlib.suppress(BrokenPipeError), self.stdin as stdin:
            stdin.write(given)
        self.wait(timeout)


def subprocess_of_given() -> SimpleNamespace:
    """Return what a module may use as `subprocess` that starts such processes."""
    return SimpleNamespace(**{**vars(subprocess), "Popen": Given.popen})


class _Starter:
    """The process that starts the others: one for each process of tests, or one for all of them (`share`)."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self.address = str(Path(self._folder.name) / "socket")
        self._pid = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", ROOT / "tests" / "warm_server.py", self.address, " " * WORDS_BYTES],
            stdin=subprocess.PIPE,  # it ends when this is closed
            env=_ENVIRONMENT,
            start_new_session=True,
        )

    @property
    def is_of_this_process(self) -> bool:
        return self._pid == os.getpid()

    @property
    def is_ours(self) -> bool:
        return self.is_of_this_process and self._process.poll() is None

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()


_starter: _Starter | None = None


def share() -> None:
    """Start the process that starts the others, for the processes of tests that this one is about to start, too."""
    os.environ[_ADDRESS] = _our_starter().address


def _our_starter() -> _Starter:
    global _starter  # noqa: PLW0603 - one for all tests of this process
    if _starter is None or not _starter.is_ours:
        _starter = _Starter()
    return _starter


def _connect() -> socket.socket:
    address = os.environ.get(_ADDRESS) or _our_starter().address
    ends = time.monotonic() + 60
    while not Path(address).exists():
        assert _starter is None or _starter.is_ours, "the process that starts the others has died"
        assert time.monotonic() < ends, "the process that starts the others does not come up"
        time.sleep(0.02)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    return connection


def _begin(
    words: Sequence[str], environment: Mapping[str, str], folder: Path, fds: Sequence[int], *, terminal: bool = False
) -> tuple[socket.socket, int]:
    connection = _connect()
    given = {"words": list(words), "environment": dict(environment), "folder": str(folder), "terminal": terminal}
    ask(connection, given, fds)
    return connection, int(connection.recv(PID_BYTES, socket.MSG_WAITALL))


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    terminal: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process:
    """Start `python -m module`, or a program (`-c`); its output goes to these descriptors, or to pipes.

    A terminal is its standard input, and that of its session.
    """
    pipes: list[int | None] = []
    with contextlib.ExitStack() as ends:
        given = [os.open(os.devnull, os.O_RDONLY) if terminal is None else os.dup(terminal)]
        ends.callback(os.close, given[0])
        for fd in (stdout, stderr):
            read, write = (None, fd) if fd is not None else os.pipe()
            if fd is None:
                ends.callback(os.close, write)
            pipes.append(read)
            given.append(write)
        words = [module, *arguments]
        begun = _begin(words, environment, folder, given, terminal=terminal is not None)
    return Process(*begun, words, pipes)


def stop() -> None:
    """End the process that starts the others."""
    global _starter  # noqa: PLW0603 - as above
    if _starter is not None and _starter.is_of_this_process:
        _starter.end()
    _starter = None
