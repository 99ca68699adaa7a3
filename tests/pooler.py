"""The real pgbouncer, in transaction mode, in front of a PostgreSQL of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from factories import program
from listeners import free_port


class Pooler:
    """pgbouncer on a free port of the loopback; gives `sessions` sessions of the server to all clients in turn."""

    def __init__(self, server: Path, sessions: int = 4) -> None:
        self._server, self._sessions = server, sessions  #: the folder of the server's socket file

    def __enter__(self) -> Pooler:
        pgbouncer = program("pgbouncer", "/usr/sbin/pgbouncer")
        self._folder = Path(tempfile.mkdtemp(prefix="pooler"))
        self._folder.chmod(0o755)  # pgbouncer runs as the server's user
        self.port = free_port()
        (self._folder / "users").write_text('"postgres" ""\n')
        (self._folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={self._server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = trust\nauth_file = {self._folder / 'users'}\npool_mode = transaction\n"
            f"default_pool_size = {self._sessions}\nmax_client_conn = 500\n"
        )
        user = ["-u", self._server.owner()] if os.getuid() == 0 else []
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [pgbouncer, "-q", *user, str(self._folder / "pgbouncer.ini")], stdout=log, stderr=log
            )
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < ends, (self._folder / "log").read_text()
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)
        shutil.rmtree(self._folder)

    def url(self, name: str) -> str:
        """Return LEDGER_URL of a database behind it."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"
