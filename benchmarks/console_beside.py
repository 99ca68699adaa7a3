"""What is beside the pages that `console.py` measures: a run that sends, and people who have consoles open."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

import requests

from benchmarks.contestants import as_users_run_it
from tests.factories import Simulator, wait_until, write_csv

_EVERY = re.compile(r'data-every="(\d+)"')
#: As in `console.js`.
_GROWS, _SLOWEST_SECONDS = 1.25, 30.0
_BEGINS_WITHIN_SECONDS = 400


class Sending:
    """`onboard run` with its default settings and no limit, of one new file after the other, while the block lasts."""

    def __init__(self, folder: Path, simulator: Simulator, rows: int) -> None:
        self._folder, self._simulator, self._rows = folder, simulator, rows
        self._command = as_users_run_it(folder, simulator)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sending")
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        before = self.created()
        wait_until(lambda: self.created() > before, _BEGINS_WITHIN_SECONDS, "a row that is sent")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            name = f"cus_{time.time():.0f}"
            file = write_csv(self._folder / f"{name}.csv", self._rows, prefix=f"{name}_")
            self._process = self._command.start(
                "run", "--json", file, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            self._process.wait()
            file.unlink(missing_ok=True)

    def created(self) -> int:
        """Return how many sources the simulator has made; its statistics would keep it from answering for a while."""
        answer = requests.get(f"{self._simulator.url}/_sim/sources", params={"limit": 0}, timeout=60)
        return int(answer.json()["total"])

    @property
    def batch(self) -> int:
        """The batch that is sent, or was last."""
        with contextlib.closing(sqlite3.connect(self._folder / "home" / "ledger.db")) as ledger:
            return int(ledger.execute("select max(id) from batches").fetchone()[0])

    @property
    def is_sending(self) -> bool:
        """Whether rows of that batch leave now."""
        before = self.created()
        time.sleep(0.2)
        return self.created() > before


@contextlib.contextmanager
def opened(address: str, count: int, batch: int, open_for: float) -> Iterator[None]:
    """Have so many browsers open while the block lasts: half of them at a batch, half at what goes on tonight.

    They ask as seldom as browsers that were opened so many seconds ago.
    """
    ends = threading.Event()
    paths = [f"/batches/{batch}", "/"] * (count // 2)
    browsers = [threading.Thread(target=_look, args=(address, path, open_for, ends)) for path in paths]
    for one in browsers:
        one.start()
    try:
        yield
    finally:
        ends.set()
        for one in browsers:
            one.join()


def _look(address: str, path: str, open_for: float, ends: threading.Event) -> None:
    """Ask for a page again and again, as it says of itself."""
    said = _EVERY.search(_page(address, path))
    seconds = float(said[1]) if said else _SLOWEST_SECONDS  # the batch has just ended
    asked_at = 0.0
    while asked_at + seconds < open_for:
        asked_at, seconds = asked_at + seconds, _more_seldom(seconds)
    wait = random.uniform(0, seconds) if open_for else seconds
    while not ends.wait(wait):
        _page(address, path)
        wait = seconds = _more_seldom(seconds)


def _more_seldom(seconds: float) -> float:
    return min(seconds * _GROWS, _SLOWEST_SECONDS)


def _page(address: str, path: str) -> str:
    """Return a page, by a connection of its own: the console closes one that was silent for five seconds."""
    with contextlib.closing(HTTPConnection(address.removeprefix("http://"), timeout=60)) as connection:
        connection.request("GET", path, headers={"HX-Request": "true"})
        return connection.getresponse().read().decode()
