"""Starts our modules as processes that are forked from one that has imported everything.

A process of its own in every respect: environment, folder, session, descriptors, signals; only the second that Python
takes to import our libraries is spent once for all of them. What depends on how Python itself is started (its path, its
locale, a preloaded library) must be started the long way: `can_start` says so.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import json
import os
import platform
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

ROOT = Path(__file__).parent.parent
#: Imported once. What reads settings as it is imported is not among it.
IMPORTED = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.backends.base",
    "celery.apps.worker",
    "celery.beat",
    "celery.bin.worker",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.loaders.app",
    "celery.utils.debug",
    "celery.utils.static",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "encodings.cp932",
    "encodings.utf_8_sig",
    "kombu.transport.redis",
    "pandas",
    "psutil",
    "rich._emoji_codes",
    "rich.progress",
    "rich.table",
    "simulator.server",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "tasks.celery_tasks",
    "tasks.ledger.postgres",
    "tasks.ledger.migrations",
    "tasks.operations.resolve",
    "tasks.operations.show_row",
    "tasks.reports.notification_message",
    "tasks.reports.xlsx_report",
    "typer",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "worker.cli",
    "worker.commands.audit",
    "worker.commands.doctor",
    "worker.commands.rows",
    "worker.commands.run",
    "worker.commands.status",
    "worker.health_server",
    "worker.notification_channels",
    "worker.notifier",
    "worker.watcher.command",
    "worker.worker_process",
)
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
#: Names a program, in the environment of a command, that it runs before it begins; its workers do, too.
PATCH = "WARM_PATCH"
#: Commands that start workers; each has a process beside it from which those are forked.
_WITH_WORKERS = ("run", "resume", "approve", "retry", "watch")
#: By which Linux clones a process whose parent is that of the one that asks.
_CLONE, _CLONE_PARENT = {"x86_64": 56, "aarch64": 220}.get(platform.machine()), 0x8000
#: Room in the command line of a forked process for the words of the command that it becomes.
_WORDS_BYTES = 1000


def can_start(environment: Mapping[str, str]) -> bool:
    """Tell whether this environment makes no difference to how Python itself starts."""
    names = {name for name in {*environment, *_ENVIRONMENT} if name.startswith(_EARLY)}
    return all(environment.get(name) == _ENVIRONMENT.get(name) for name in names)


class Process:
    """A started process, with what `subprocess.Popen` has that tests use."""

    def __init__(self, connection: socket.socket, pid: int, args: Sequence[str], pipes: Sequence[int | None]) -> None:
        self.args, self.pid = list(args), pid
        self.returncode: int | None = None
        self._connection = connection
        self.stdout, self.stderr = (
            None if fd is None else os.fdopen(fd, encoding="utf-8", errors="replace") for fd in pipes
        )
        self._read: dict[IO[str], list[bytes]] = {one: [] for one in (self.stdout, self.stderr) if one}

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
        open_ones = [one for one in self._read if not one.closed]
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
        out, err = (b"".join(parts).decode("utf-8", "replace") for parts in self._read.values())
        return out, err

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

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.stdout, self.stderr):
            if one:
                one.close()
        self.wait()


class _Starter:
    """The process that starts the others; one for each process of tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")
        self._address = str(Path(self._folder.name) / "socket")
        self._pid = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, self._address, " " * _WORDS_BYTES],
            stdin=subprocess.PIPE,  # it ends when this is closed
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        ends = time.monotonic() + 60
        while not Path(self._address).exists():
            assert time.monotonic() < ends, "the process that starts the others does not come up"
            time.sleep(0.02)

    @property
    def is_ours(self) -> bool:
        return self._pid == os.getpid() and self._process.poll() is None

    def start(self, words: Sequence[str], environment: Mapping[str, str], folder: Path, fds: Sequence[int]) -> Any:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        _ask(connection, {"words": words, "environment": dict(environment), "folder": str(folder)}, fds)
        return connection, int(connection.recv(20))

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        self._folder.cleanup()


_starter: _Starter | None = None


def start(
    module: str,
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process:
    """Start `python -m module`; its output goes to these descriptors, or to pipes."""
    global _starter  # noqa: PLW0603 - one for all tests of this process
    if _starter is None or not _starter.is_ours:
        _starter = _Starter()
    pipes: list[int | None] = []
    given: list[int] = []
    with contextlib.ExitStack() as ends:
        for fd in (stdout, stderr):
            read, write = (None, fd) if fd is not None else os.pipe()
            if fd is None:
                ends.callback(os.close, write)
            pipes.append(read)
            given.append(write)
        connection, pid = _starter.start([module, *arguments], environment, folder, given)
    return Process(connection, pid, [module, *arguments], pipes)


def stop() -> None:
    """End the process that starts the others."""
    global _starter  # noqa: PLW0603 - as above
    if _starter is not None and _starter.is_ours:
        _starter.end()
    _starter = None


# ---------------------------------------------------------------------- in the process that starts the others


def _serve(address: str) -> dict[str, Any] | None:
    """Fork a process for each request; return in each of them its request, and None at the end of all."""
    for name in IMPORTED:
        __import__(name)
    gc.collect()
    gc.freeze()  # else the first collection of each forked process would copy all that is imported
    told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address + ".new")
    listening.listen(50)
    os.rename(address + ".new", address)  # noqa: PTH104 - seen only when it listens
    waiting: dict[int, socket.socket] = {}
    while True:
        ready = select.select([listening, told, 0], [], [])[0]
        if 0 in ready:
            return None
        if told in ready:
            os.read(told, 4096)
        if listening in ready:
            connection, _ = listening.accept()
            given, fds = _received(connection)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listening, connection, *waiting.values()):
                    one.close()
                os.close(told)
                os.close(tell)
                return {**given, "fds": fds}
            for fd in fds:
                os.close(fd)
            connection.sendall(str(pid).encode())
            waiting[pid] = connection
        _reap(waiting)


def _ask(connection: socket.socket, request: Mapping[str, Any], fds: Sequence[int]) -> None:
    given = json.dumps(request).encode()
    connection.sendall(len(given).to_bytes(4, "big"))
    connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    connection.sendall(given)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next request, and its descriptors. Raises EOFError when nobody asks any more."""
    size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    if not size:
        raise EOFError
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(2 * 4))
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    return json.loads(connection.recv(size, socket.MSG_WAITALL)), list(fds)


def _reap(waiting: dict[int, socket.socket]) -> None:
    for pid in list(waiting):
        if (ended := os.waitpid(pid, os.WNOHANG))[0]:
            with waiting.pop(pid) as connection, contextlib.suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(ended[1])).encode())


def _become(request: dict[str, Any]) -> None:
    """Be the process that was asked for."""
    module, *arguments = request["words"]
    if _CLONE and module == "worker.cli" and arguments[:1] and arguments[0] in _WITH_WORKERS:
        request = _beside(request)
        module, *arguments = request["words"]
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    for at, fd in enumerate(request["fds"], 1):
        os.dup2(fd, at)
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    _be_known_as([sys.executable, "-P", "-m", module, *arguments])
    sys.argv[:] = [module, *arguments]
    sys.path[0:1] = [request["folder"], str(ROOT)]
    if PATCH in os.environ:
        runpy.run_path(os.environ[PATCH])
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _be_known_as(words: Sequence[str]) -> None:
    """Let the command line of this process, as others see it, be this; the rest of its room is NULs."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    starts, ends = int(fields[45]), int(fields[46])
    shown = os.fsencode("\0".join(words))[: ends - starts - 1]
    ctypes.memmove(starts, shown.ljust(ends - starts, b"\0"), ends - starts)


# ---------------------------------------------------------------------- beside a command that starts workers


def _beside(request: dict[str, Any]) -> dict[str, Any]:
    """Fork a process that clones this one's workers; return what to become: in this process, and in each worker.

    The command itself cannot fork them: it has threads and connections then.
    """
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        _Popen.beside = ours
        subprocess.Popen = _Popen  # type: ignore[assignment,misc]
        return request
    for one in (ours.fileno(), *request["fds"]):
        os.close(one)
    ours.detach()
    os.setsid()
    while True:
        try:
            given, fds = _received(theirs)
        except (EOFError, ConnectionError):
            os._exit(0)
        pid = _clone()
        if not pid:
            theirs.close()
            return {**given, "fds": fds}
        for fd in fds:
            os.close(fd)
        theirs.sendall(str(pid).encode())


def _clone() -> int:
    """Fork a brother of this process, which has one thread: the new process is a child of this one's parent."""
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(_CLONE, _CLONE_PARENT, 0, 0, 0, 0))
    (python.PyOS_AfterFork_Parent if pid else python.PyOS_AfterFork_Child)()
    assert pid >= 0, "clone failed"
    return pid


class _Worker:
    """A started worker, with what `subprocess.Popen` has that a command uses of it."""

    def __init__(self, args: Sequence[str], pid: int) -> None:
        self.args, self.pid = args, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.wait(os.WNOHANG)

    def wait(self, options: int = 0) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def terminate(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class _Popen(subprocess.Popen[bytes]):
    """What is `subprocess.Popen` in a command that starts workers: those are cloned, all else is started."""

    beside: ClassVar[socket.socket]  #: leads to the process that clones

    def __new__(cls, args: Sequence[str], **more: Any) -> Any:
        if list(args[1:5]) != ["-P", "-m", "worker.cli", "worker"] or not can_start(more["env"]):
            return super().__new__(cls)
        request = {"words": args[3:], "environment": more["env"], "folder": str(Path.cwd())}
        _ask(cls.beside, request, [more["stdout"].fileno(), more["stderr"].fileno()])
        return _Worker(args, int(cls.beside.recv(20)))


if __name__ == "__main__":
    _request = _serve(sys.argv[1])
    if _request is not None:
        _become(_request)
