"""The process that starts those of `tests.warm`: it has imported everything, and forks.

Beside each command that starts workers it leaves a process that clones them, as the command cannot fork them itself: it
has threads and connections then.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import inspect
import json
import os
import platform
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import apprise
import jinja2
import typer

from tasks.ledger import Ledger
from tests.warm import PATCH, PID_BYTES, ROOT, Signalled, ask, can_start
from worker import cli

#: Imported once. What reads settings as it is imported is not among it.
IMPORTED = (
    "billiard.pool",
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.beat",
    "celery.bin.worker",
    "celery.concurrency.thread",
    "celery.events.receiver",
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
    "encodings.latin_1",
    "encodings.unicode_escape",
    "encodings.utf_16_le",
    "encodings.utf_8_sig",
    "kombu.mixins",
    "kombu.transport.redis",
    "pandas",
    "psutil",
    "rich._emoji_codes",
    "rich._unicode_data.unicode17-0-0",
    "rich.markdown",
    "rich.progress",
    "rich.table",
    "simulator.server",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "sqlite3",
    "tasks.celery_tasks",
    "tasks.ledger.migrations",
    "tasks.ledger.postgres",
    "tasks.operations.show_row",
    "tasks.reports.notification_message",
    "tasks.reports.xlsx_report",
    "typer._adapters",
    "typer._click._textwrap",
    "typer._click.decorators",
    "typer.rich_utils",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "worker.cli",
    "worker.health_server",
    "worker.notification_channels",
    "worker.notifier",
    "worker.watcher.command",
    "worker.worker_name",
    "worker.worker_process",
    *(f"worker.commands.{each.stem}" for each in sorted((ROOT / "worker" / "commands").glob("[!_]*.py"))),
)
#: Commands that start workers; each has a process beside it from which those are forked.
_WITH_WORKERS = ("run", "resume", "approve", "retry", "watch", "rehearse")
#: Modules that are cloned when a command starts them.
_CLONED = ("worker.cli", "worker.notification_channels")
#: By which Linux clones a process whose parent is that of the one that asks.
_CLONE, _CLONE_PARENT = {"x86_64": 56, "aarch64": 220}.get(platform.machine()), 0x8000


# ---------------------------------------------------------------------- in the process that starts the others


def _serve(address: str) -> dict[str, Any] | None:
    """Fork a process for each request; return in each of them its request, and None at the end of all."""
    _prepare(Path(address).parent)
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
            try:
                given, fds = _received(connection)
            except (EOFError, ConnectionError):  # whoever asked was killed
                connection.close()
                continue
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
            with contextlib.suppress(OSError):
                connection.sendall(b"%*d" % (PID_BYTES, pid))  # the exit code may follow at once
            waiting[pid] = connection
        _reap(waiting)


def _prepare(folder: Path) -> None:
    """Do once what processes of ours do before their work, whatever their settings are."""
    for name in IMPORTED:
        importlib.import_module(name)
    for read in chain.from_iterable(map(_kept, list(sys.modules.values()))):
        found = read()
        for template in found.list_templates(["j2"]) if isinstance(found, jinja2.Environment) else ():
            found.get_template(template)
    apprise.Apprise.instantiate("json://localhost")  # loads all that it can deliver by
    Ledger.open(f"sqlite:///{folder}/ledger.db").close()
    built = {id(cli.app): typer.main.get_command(cli.app)}
    build, typer.main.get_command = typer.main.get_command, lambda app: built.get(id(app)) or build(app)


def _kept(module: ModuleType) -> list[Callable[[], Any]]:
    """Return what of a module of ours reads or builds something once and keeps it, whatever the settings are."""
    if module.__name__.partition(".")[0] not in ("tasks", "worker", "simulator"):
        return []
    caches = [each for each in vars(module).values() if isinstance(each, functools._lru_cache_wrapper)]
    return [each for each in caches if not inspect.signature(each).parameters]


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next request, and its descriptors. Raises EOFError when nobody asks any more."""
    size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
    if not size:
        raise EOFError
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_SPACE(3 * 4))
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
    if _CLONE and module == "worker.cli" and _starts_others(arguments, request["environment"]):
        request = _beside(request)
        module, *arguments = request["words"]
    os.setsid()
    for at, fd in enumerate(request["fds"]):
        os.dup2(fd, at)
        os.close(fd)
    if request.get("terminal"):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C is a signal
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if request.get("before"):
        of, name = request["before"]
        getattr(importlib.import_module(of), name)()
    program = arguments.pop(0) if module == "-c" else None
    _be_known_as([sys.executable, "-P", *(["-m", module] if program is None else ["-c", program]), *arguments])
    sys.argv[:] = [module, *arguments]
    sys.path[0:1] = [request["folder"], str(ROOT)]
    if PATCH in os.environ:
        runpy.run_path(os.environ[PATCH])
    code: object = 0
    try:
        if program is None:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            exec(program, {"__name__": "__main__"})
    except SystemExit as ended:
        code = ended.code or 0
    if not isinstance(code, int):
        raise SystemExit(code)
    _end_without_taking_apart(code)


def _end_without_taking_apart(code: int) -> None:
    """Do what Python does at its end, but for taking all modules apart: that would copy all that was imported."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            raise SystemExit(code) from None  # Python has its own way to say so
    os._exit(code)


def _starts_others(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a command starts workers, or processes that deliver what it has to notify."""
    notifies = {"ONBOARD_NOTIFY_URLS", "ONBOARD_NOTIFY_COMMAND"} & {*environment}
    return arguments[:1] != [] and (arguments[0] in _WITH_WORKERS or (arguments[0] == "worker" and bool(notifies)))


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
        _Popen.beside, _Popen.one_at_a_time = ours, threading.Lock()
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


class _Cloned(Signalled):
    """A cloned process, with what `subprocess.Popen` has that our program uses of it."""

    def __init__(self, args: Sequence[str], pid: int, stdin: int | None, stdout: int | None, text: bool) -> None:
        self.args, self.pid = args, pid
        self.returncode: int | None = None
        self.stdin = None if stdin is None else os.fdopen(stdin, "wb")
        self.stdout = None if stdout is None else os.fdopen(stdout, "r" if text else "rb")

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        if timeout is None:
            return self._ended(0)
        ends = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return self.returncode

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def communicate(self, given: bytes | None = None, timeout: float | None = None) -> tuple[Any, None]:
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.stdin as stdin:
                stdin.write(given or b"")
        said = None if self.stdout is None else self.stdout.read()
        self.wait(timeout)
        return said, None


class _Popen(subprocess.Popen[bytes]):
    """What is `subprocess.Popen` in a command that starts others of ours: those are cloned, all else is started."""

    beside: ClassVar[socket.socket]  #: leads to the process that clones
    one_at_a_time: ClassVar[threading.Lock]

    def __new__(cls, args: Sequence[str], **more: Any) -> Any:
        words, environment = list(map(str, args)), more.get("env") or os.environ
        ours = words[1:3] == ["-P", "-m"] and words[3] in _CLONED and more.get("start_new_session")
        if not ours or not can_start(environment):
            return super().__new__(cls)
        before = more.get("preexec_fn")
        request = {
            "words": words[3:],
            "environment": dict(environment),
            "folder": str(more.get("cwd") or Path.cwd()),
            "before": before and [before.__module__, before.__name__],
        }
        with contextlib.ExitStack() as ends:
            kept, given = zip(
                *(_end(more.get(name), number, ends) for number, name in enumerate(("stdin", "stdout", "stderr"))),
                strict=True,
            )
            with cls.one_at_a_time:
                ask(cls.beside, request, given)
                pid = int(cls.beside.recv(20))
        return _Cloned(args, pid, kept[0], kept[1], bool(more.get("text")))


def _end(wanted: Any, number: int, ends: contextlib.ExitStack) -> tuple[int | None, int]:
    """Return this process's end of a stream, if it is a pipe, and the end of the process to be started."""
    if wanted is None:
        return None, number
    if wanted == subprocess.PIPE:
        read, write = os.pipe()
        kept, given = (read, write) if number else (write, read)
        ends.callback(os.close, given)
        return kept, given
    if wanted == subprocess.DEVNULL:
        given = os.open(os.devnull, os.O_RDWR)
        ends.callback(os.close, given)
        return None, given
    return None, wanted if isinstance(wanted, int) else wanted.fileno()


if __name__ == "__main__":
    _request = _serve(sys.argv[1])
    if _request is not None:
        _become(_request)
