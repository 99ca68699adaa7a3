"""Makes what tests need: rows, batches, files, a running simulator, a running command."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from tasks.accept.request_codec import content_of, request_of
from tasks.identities import identity_of, spelling_of
from tasks.ledger import Ledger
from tasks.ledger.schema import ledger_identity, metadata
from tasks.models import Account, BatchState, LeasedRow, NewRow, Outcome, RowState, Slice
from tests import warm

ROOT = Path(__file__).parent.parent
KEY = "sk_test_0123456789"


def new_row(
    record: int,
    *,
    customer: str | None = None,
    reference: str = "",
    description: str | None = None,
    state: str = "waiting",
) -> NewRow:
    """One record on its way into the ledger."""
    customer = customer or f"cus_{record:06d}"
    request = request_of(description, {}, {})
    return NewRow(
        record=record,
        line=record + 1,
        state=state,
        identity=identity_of(customer, "creditcard", "ios", reference) if state == "waiting" else None,
        customer_id=customer,
        payment_method="creditcard",
        resource="ios",
        request=request,
        content=content_of(request),
        reasons=None if state == "waiting" else b'[["missing_value","customer_id","",""]]',
        spelling=spelling_of(customer, "creditcard", "ios", reference) if state == "waiting" else None,
    )


@dataclass
class Hand:
    """A worker as the ledger sees it."""

    ledger: Ledger
    number: int
    lease_seconds: float = 60.0

    def mark(self, rows: Sequence[LeasedRow]) -> set[tuple[int, int]]:
        """Mark rows `sending` and count attempts as the send loop does."""
        wave = self.ledger.leases.record_and_mark(self.number, [], rows, self.lease_seconds)
        for row in rows:
            if (row.batch_id, row.record) in wave.marked:
                row.attempts += 1
        return wave.marked

    def record(self, *outcomes: Outcome) -> None:
        """Write outcomes."""
        self.ledger.leases.record_and_mark(self.number, outcomes, [], self.lease_seconds)


def new_worker(ledger: Ledger, lease_seconds: float = 60.0, longest_request_seconds: float = 40.0) -> Hand:
    """Register a worker on a machine that nobody can examine."""
    return Hand(ledger, ledger.workers.add("elsewhere", 1, "", lease_seconds, longest_request_seconds), lease_seconds)


def ledger_of(url: str, account: Account) -> Ledger:
    """The ledger of an account, made if there is none."""
    Ledger.create(url, account)
    return Ledger.open(url, account)


def empty(ledger: Ledger) -> Ledger:
    """Take everything out of a SQLite ledger but its version and its id; its numbers begin with 1 again."""
    with ledger.engine.write() as connection:
        for table in reversed(metadata.sorted_tables):
            if table is not ledger_identity:
                connection.execute(table.delete())
        connection.execute(text("delete from sqlite_sequence"))
    return ledger


@contextlib.contextmanager
def makes_services(folder: Path, **given: str) -> Iterator[Callable[..., Any]]:
    """Make `Services` of one home, each for these settings and others; their ledgers are closed at the end."""
    from tasks.services import Services  # for the tests that need none of it, too much to import
    from tasks.settings import load_settings

    made: list[Services] = []

    def services(**settings: str) -> Services:
        made.append(Services(load_settings({"ONBOARD_HOME": str(folder), **given, **settings}, folder=folder)))
        return made[-1]

    yield services
    for each in made:
        if "ledger" in each.__dict__:
            each.ledger.close()


def running_batch(
    ledger: Ledger,
    rows: int | list[NewRow] = 10,
    *,
    slice_rows: int = 100,
    again: bool = False,
    own_spellings: bool = False,
) -> int:
    """A batch that runs, with so many waiting rows."""
    reader = ledger.workers.add("elsewhere", 1, "", 60.0)
    batch = ledger.batches.add(name="f.csv", sha256="0" * 64, file_format={}, reader=reader, parent_id=None)
    new = [new_row(record) for record in range(1, rows + 1)] if isinstance(rows, int) else rows
    ledger.rows.add(batch, new, again=again, own_spellings=own_spellings)
    ledger.lifecycle.start(batch, slice_rows)
    ledger.workers.end(reader)
    return batch


def batches_that_run(ledger: Ledger) -> list[int]:
    """The ids of the batches that somebody is at work for, newest first."""
    return [batch.id for batch in ledger.batches.newest() if batch.state is BatchState.RUNNING]


def whole(batch: int) -> Slice:
    """The slice that starts a batch, as `running_batch` cuts it."""
    return Slice(batch, 1, 1_000_000)


def answer(row: LeasedRow, state: RowState = RowState.CREATED, **more: Any) -> Outcome:
    """The outcome of a row's last attempt."""
    if state is RowState.CREATED:
        more.setdefault("source_id", f"src_{row.record}")
        more.setdefault("source_status", "pending")
    return Outcome(row.batch_id, row.record, row.attempts, state, **more)


def write_csv(
    path: Path, rows: int, *, prefix: str = "cus_", method: str = "creditcard", resource: str = "ios"
) -> Path:
    """A clean file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id", "payment_method", "resource", "description", "metadata.plan"])
        for number in range(1, rows + 1):
            writer.writerow([f"{prefix}{number:06d}", method, resource, f"Membership {number}", "gold"])
    return path


def program(*names: str) -> str:
    """Return the path of a program; without it the test fails in CI and is skipped elsewhere."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        said = f"{' or '.join(names)} is not installed (make tools)"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    return found


#: Languages in which what takes long is done; English by `make resilience` only.
LANGUAGES = ("ja", pytest.param("en", marks=pytest.mark.resilience))

#: Set by `--resilience`.
searches_at_full_length = False


def examples(full: int, least: int = 5) -> int:
    """Return how many examples a search takes: all of them by `make resilience`, a tenth otherwise."""
    return full if searches_at_full_length else max(least, full // 10)


class Simulator:
    """The simulator as a process of its own; ends with the `with` block."""

    def __init__(self, profile: str = "clean", seed: int = 1, port: int = 0, **knobs: Any) -> None:
        self.profile, self.seed, self.port, self.knobs = profile, seed, port, knobs

    def __enter__(self) -> Simulator:
        words = ["--port", str(self.port), "--profile", self.profile, "--seed", str(self.seed)]
        self._process = warm.start("simulator", *words, environment=os.environ, folder=ROOT, stderr=2)
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        self.url = next(word for word in said.split() if word.startswith("http://"))
        if self.knobs:
            self.control(**self.knobs)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def control(self, **knobs: Any) -> None:
        """Change knobs at run time."""
        answer = requests.post(f"{self.url}/_sim/control", json=knobs, timeout=60)
        assert answer.status_code == 200, answer.text

    def post(self, path: str, **body: Any) -> None:
        """Call another control."""
        answer = requests.post(f"{self.url}/_sim/{path}", json=body, timeout=60)
        assert answer.status_code == 200, answer.text

    def statistics(self) -> dict[str, Any]:
        """What the simulator counted."""
        found: dict[str, Any] = requests.get(f"{self.url}/_sim/statistics", timeout=60).json()
        return found

    def sources(self) -> list[dict[str, Any]]:
        """Every source that exists there."""
        found = requests.get(f"{self.url}/_sim/sources?limit=100000", timeout=60).json()
        return list(found["sources"])


class Command:
    """The command line as a user runs it, in a folder of its own; with one worker, and started by `warm`."""

    warm = True

    def __init__(self, folder: Path, simulator: Simulator | None = None, **settings: Any) -> None:
        self.folder = folder
        self.source: Path | str = settings.get("PYTHONPATH", ROOT)  #: where the program is, as PYTHONPATH takes it
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ELEPAY_", "ONBOARD_"))},
            "ELEPAY_SECRET_KEY": KEY,
            "ELEPAY_REQUESTS_PER_SECOND": "0",
            "ONBOARD_HOME": str(folder / "home"),
            "ONBOARD_LOOK_UP_DELAY_SECONDS": "0.5",
            "ONBOARD_LIST_LAG_SECONDS": "2",
            "COLUMNS": "120",
            **({"ONBOARD_WORKERS": "1"} if self.warm else {}),
            **({"ELEPAY_BASE_URL": simulator.url} if simulator else {}),
            **{name: str(value) for name, value in settings.items()},
        }
        self.environment.pop("REDIS_URL", None) if "REDIS_URL" not in settings else None

    @property
    def home(self) -> Path:
        """Its ONBOARD_HOME."""
        return Path(self.environment["ONBOARD_HOME"])

    @property
    def ledger_url(self) -> str:
        """Its ledger."""
        return self.environment.get("LEDGER_URL") or f"sqlite:///{self.home / 'ledger.db'}"

    def start(
        self,
        *arguments: object,
        stdout: int | None = None,
        stderr: int | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> subprocess.Popen[str] | warm.Process:
        """Start it and go on; what it prints goes to these descriptors, or to pipes."""
        environment = {**self.environment, "PYTHONPATH": str(self.source)}
        words = list(map(str, arguments))
        if self.warm and preexec is None and self.source == ROOT and warm.can_start(environment):
            return warm.start(
                "worker.cli", *words, environment=environment, folder=self.folder, stdout=stdout, stderr=stderr
            )
        return subprocess.Popen(
            [sys.executable, "-m", "worker.cli", *words],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.PIPE if stderr is None else stderr,
            text=True,
            start_new_session=True,
            preexec_fn=preexec,
        )

    def __call__(self, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            raise AssertionError(f"no end within {timeout} s:\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, *arguments: object, timeout: float = 120) -> dict[str, Any]:
        """Run it with --json and return the object that it printed last."""
        done = self(*arguments, "--json", timeout=timeout)
        assert done.stdout.strip(), done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return {**found, "exit": done.returncode, "stderr": done.stderr}

    def until_finished(self, batch: int, seconds: float = 60.0) -> dict[str, Any]:
        """Wait for the end of a batch that others send; return what `status` says of it."""
        with contextlib.closing(Ledger.open(self.ledger_url)) as ledger:
            wait_until(
                lambda: ledger.batches.get(batch).state is BatchState.FINISHED, seconds, f"the end of batch {batch}"
            )
        return self.json("status", batch)


class MeasuredCommand(Command):
    """The same, just as a user starts it."""

    warm = False


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(number) for number in task.read_text().split()]
    return found


def command_line(pid: int) -> bytes:
    """Return the words that a process was started by, each ended by a NUL; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class ManualClock:
    """A monotonic clock that a test moves; its time is in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def wait_until(condition: Any, seconds: float = 60.0, what: str = "it") -> None:
    """Wait for a condition, and fail when it does not come true."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


@contextlib.contextmanager
def untakable(path: Path) -> Iterator[None]:
    """Let nobody rename or write something, root included: immutable; for all but root unreadable or unwritable."""
    if os.getuid() == 0:
        done = subprocess.run(["chattr", "+i", path], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"files cannot be made immutable here: {done.stderr.strip()}")
        try:
            yield
        finally:
            subprocess.run(["chattr", "-i", path], check=True)
        return
    before = path.stat().st_mode
    path.chmod(0o500 if path.is_dir() else 0)
    try:
        yield
    finally:
        path.chmod(before)


@contextlib.contextmanager
def in_the_way(folder: Path) -> Iterator[None]:
    """Let nothing be written to a folder, not even by root: a file takes its place, also if a watcher was quicker."""
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    while not folder.is_file():
        try:
            folder.touch(exist_ok=False)
        except FileExistsError:
            folder.rmdir()  # the watcher has made it anew
    yield
    folder.unlink()
    aside.rename(folder)
