"""An installation whose hints are followed: what they name is typed, against a real simulator.

Rows are sent by this process's own sending loop, as a worker's would (`work`). Commands are those of the command line;
`onboard run` and `onboard retry` are their use cases and `work`, because what they add is processes.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from factories import KEY, Command, Simulator, new_worker
from rich.console import Console

from tasks.models import Batch, BatchState, Outcome, RowState, Slice, SourceRequest
from tasks.operations import accept_batch, batch_lifecycle, report
from tasks.operations.retry import retry
from tasks.operations.sendable_methods import sendable_methods
from tasks.reports.writing import FILES
from tasks.services import Services
from tasks.settings import load_settings
from tests.reported import cells
from worker.commands import rows
from worker.screen import Screen, open_screen

HEADER = "customer_id,payment_method,resource,description,reference\n"
_TYPED = re.compile(r"`((?:[A-Z_]+=\S+ )?onboard [^`]+)`")
_ENDED = ("failed", "inactive", "deleted")
#: What a row is left as, by hand: state, code, and whether elepay has its source nevertheless.
Left = tuple[RowState, str, bool]


def lines_of(customers: Iterable[str], method: str = "creditcard") -> str:
    """A file with one record a customer."""
    return HEADER + "".join(f"{customer},{method},ios,Membership,\n" for customer in customers)


class Installation:
    """A ledger, its files and reports in a folder, and the sending loop."""

    def __init__(self, folder: Path, simulator: Simulator, redis_url: str, **settings: object) -> None:
        self.folder, self.simulator = folder, simulator
        self.environment = {
            "ELEPAY_SECRET_KEY": KEY,
            "ELEPAY_BASE_URL": simulator.url,
            "ELEPAY_REQUESTS_PER_SECOND": "0",
            "ONBOARD_HOME": str(folder / "home"),
            "ONBOARD_LOOK_UP_DELAY_SECONDS": "0.1",
            "ONBOARD_LIST_LAG_SECONDS": "0.3",
            "ONBOARD_BREAKER_ANSWERS": "0",
            "REDIS_URL": redis_url,
            "COLUMNS": "200",
            **{name: str(value) for name, value in settings.items()},
        }
        self.services = Services(load_settings(self.environment, folder=folder))
        self.services.settings.home.mkdir(parents=True, exist_ok=True)
        self.ledger = self.services.ledger
        self.asks_for_methods = True  #: whether elepay says which methods the key has, as a file is read

    def close(self) -> None:
        """End the sending loop."""
        self.services.send_loop.stop(5)
        self.ledger.close()

    # ------------------------------------------------------------------------------------------------- making rows

    def accept(self, content: str | bytes, name: str = "customers.csv", **rules: Any) -> Batch:
        """Bring a file into the ledger."""
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.accept_path(file, **rules)

    def accept_path(self, file: Path, **rules: Any) -> Batch:
        """Bring a file that is there into the ledger, as `onboard run` does."""
        settings = self.services.settings
        self.services.sendable_methods = None  # as a command of its own would, it asks
        sendable = sendable_methods(self.services) if self.asks_for_methods else None
        accept = accept_batch.AcceptRules(
            intake=self.services.intake_rules(sendable=sendable),
            slice_rows=settings.slice_rows,
            lease_seconds=60.0,
            brought_by="run",
            **rules,
        )
        return accept_batch.accept_file(file, ledger=self.ledger, files=self.services.files, rules=accept).batch

    def run(self, content: str | bytes | Path, name: str = "customers.csv", **rules: Any) -> Batch:
        """Bring a file into the ledger, and send it as far as it goes."""
        accepted = (
            self.accept_path(content, **rules) if isinstance(content, Path) else self.accept(content, name, **rules)
        )
        return self.work(accepted.id)

    def work(self, batch_id: int, seconds: float = 60.0) -> Batch:
        """Send and look up what is due until the batch does not move any more by itself."""
        services, ends = self.services, time.monotonic() + seconds
        while not batch_lifecycle.is_over(self.ledger, batch_id):
            assert time.monotonic() < ends, f"{batch_id}: {self.ledger.queries.count_states(batch_id)}"
            batch_lifecycle.reap(self.ledger, look_up_delay_seconds=services.settings.look_up_delay_seconds)
            slices: list[Slice] = []
            batch_lifecycle.dispatch(self.ledger, slices.append)
            for one in slices:
                batch_lifecycle.onboard_slice(services.send_loop, self.ledger, services.sampler, one)
        return self.ledger.batches.get(batch_id)

    def leave(self, batch: Batch, rows: Mapping[int, Left], *, undecided: bool = False) -> None:
        """Let rows (by record) have been sent by a worker that is gone, and be left as they are given."""
        self.ledger.sampling.end(batch.id)
        worker = new_worker(self.ledger)
        claimed = self.ledger.leases.claim(Slice(batch.id, 1, 1_000_000), worker.number)
        sent = [row for row in claimed if row.record in rows]
        worker.mark(sent)
        now = self.ledger.now()
        for row in sent:
            state, code, exists = rows[row.record]
            if exists:
                source = SourceRequest(row.customer_id, row.payment_method, row.resource)
                self.services.api.create_source(source, row.reference)
            outcome = Outcome(row.batch_id, row.record, row.attempts, state, code=code or None)
            if state is RowState.UNCLEAR:
                outcome.ended_at, outcome.not_before = now, None if undecided else now
            worker.record(outcome)
        self.ledger.leases.release(worker.number, [row for row in claimed if row.record not in rows], {})
        self.ledger.workers.end(worker.number)

    # ------------------------------------------------------------------------------------------------ reading hints

    def report(self, batch_id: int, lang: str = "en") -> dict[str, dict[str, str]]:
        """Write the reports of a batch; return what stands in results.csv by customer."""
        paths = report.write(self.services, self.ledger.batches.get(batch_id), lang=lang)
        return {row["customer_id"] or row["onboarding_record"]: row for row in cells(paths["results"])}

    def reports(self, batch_id: int) -> Path:
        """The folder of a batch's reports."""
        return self.services.settings.home / "reports" / str(batch_id)

    def failures(self, batch_id: int) -> Path:
        """The report that is to be corrected."""
        return self.reports(batch_id) / FILES["failures"]

    # ----------------------------------------------------------------------------------------------- following them

    def follow(
        self,
        batch_id: int,
        hints: Iterable[str],
        *,
        file: Path | None = None,
        fix: Callable[[Path], None] | None = None,
    ) -> None:
        """Do what hints say: type each command that they name, and run failures.csv where they say so.

        Each hint is followed to its end; the second of two ways that it offers (after "or") is left alone.
        """
        commands, run_failures = [], False
        for hint in hints:
            run_failures = run_failures or "failures.csv" in hint
            ways = [] if "failures.csv" in hint else _TYPED.findall(re.split(r"; or |; if ", hint)[0])
            commands += [one for one in ways if one not in commands]
        for one in commands:
            is_done = self.ledger.batches.get(batch_id).state is BatchState.FINISHED and " resume " in one
            if not is_done:  # by what another hint said
                self.type(one)
        if run_failures:
            self.run(self.failures(batch_id))
        self.work(batch_id)

    def type(self, words: str, file: Path | None = None) -> None:
        """Type one command of a hint, and see that it is taken."""
        given = dict(re.findall(r"([A-Z_]+)=(\S+)", words.partition("onboard")[0]))
        typed = shlex.split(words.partition("onboard")[2])
        if typed[:1] == ["run"]:
            assert file is not None
            self.run(file, again="--again" in typed, refuse_finished_file=False)
        elif typed[:1] == ["retry"]:
            self.retry(int(typed[1]))
        elif typed[:1] == ["resolve"]:
            assert self.onboard(*typed, **given).returncode in (0, 1)
            self.settle(int(typed[1]))
        else:
            done = self.onboard(*typed, **given)
            looks = typed[0] in ("doctor", "status", "report", "audit", "check")
            assert done.returncode == 0 or (looks and done.returncode != 2), f"{words}: {done.stdout}{done.stderr}"
            if not looks:
                self.work(int(typed[1]))

    def retry(self, batch_id: int) -> None:
        """What `onboard retry` does besides its processes."""
        self.services.sendable_methods = None
        for each in retry(self.services, batch_id, who="test").batches(batch_id):
            self.work(each)

    def settle(self, batch_id: int) -> None:
        """Look each unclear row up in the dashboard, as a person does, say what is so, and type what that answers."""
        said = io.StringIO()
        there = {one["reference"]: one["id"] for one in self.simulator.sources()}
        for row in self.ledger.resolution.unclear_rows(batch_id):
            created = there.get(row.reference)
            code, _ = rows.resolve(
                self.services,
                batch_id,
                row.line,
                Screen(Console(file=said, width=200), open_screen("en", "UTC").texts),
                created=created,
                absent=created is None,
                give_up=False,
            )
            assert code == 0
        for words in dict.fromkeys(re.findall(r"onboard (?:resume|approve|retry) \d+", said.getvalue())):
            self.type(words)
        self.work(batch_id)

    def onboard(self, *words: str, **given: str) -> subprocess.CompletedProcess[str]:
        """Type a command."""
        return Command(self.folder, **{**self.environment, **given})(*words)

    def sources(self) -> Counter[str]:
        """Living sources at elepay by customer."""
        return Counter(one["customerId"] for one in self.simulator.sources() if one["status"] not in _ENDED)

    def delete(self, customer: str) -> None:
        """Let a customer's sources be deleted at elepay."""
        for one in self.simulator.sources():
            if one["customerId"] == customer:
                self.simulator.post(f"sources/{one['id']}/status", status="deleted")


def judge(place: Installation, customers: Any, *, twice: Any = ()) -> None:
    """Each of these customers has exactly one living source (those of `twice` have two), and nobody else has any."""
    assert place.sources() == {**dict.fromkeys(customers, 1), **dict.fromkeys(twice, 2)}
    assert place.simulator.statistics()["references"]["doubled_count"] == 0


def edited(path: Path, change: Callable[[dict[str, str]], dict[str, str] | None]) -> None:
    """Correct a report: each row is changed, or deleted (None)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        titles, kept = list(rows.fieldnames or ()), [row for row in map(change, rows) if row is not None]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, titles)
        writer.writeheader()
        writer.writerows(kept)
