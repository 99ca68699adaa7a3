"""Breaks what the guarantees rest on, one place at a time, and runs the tests that must notice.

`make mutants`, or `python tests/mutants.py [NAME …]`: each mutant is a copy of the program in which one text is
replaced by another. It is caught if one of its tests fails. Ends with 1 if a mutant survives, and with 2 if a text is
no longer where it was, so that a change of the program cannot silently take a mutant away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LEDGER, EVIDENCE = "tests/integration/ledger", "tests/integration/test_evidence.py"
INTERLEAVINGS = "tests/integration/test_interleavings.py"
UNIT = "tests/unit/tasks"


class Mutant(NamedTuple):
    """One text replaced by another."""

    name: str
    path: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a row is claimed though a worker has it",
        "tasks/ledger/leases.py",
        "            rows.c.worker.is_(None),\n        )\n        runs",
        "        )\n        runs",
        (LEDGER,),
    ),
    Mutant(
        "a row is marked by a worker that does not have it",
        "tasks/ledger/leases.py",
        '        rows.c.worker == bindparam("w"),\n    )\n    .values(\n        state=RowState.SENDING',
        "    )\n    .values(\n        state=RowState.SENDING",
        (LEDGER, INTERLEAVINGS),
    ),
    Mutant(
        "rows of a stopped batch are marked",
        "tasks/ledger/leases.py",
        "[row for row in to_send if row.batch_id not in stopped]",
        "list(to_send)",
        (LEDGER,),
    ),
    Mutant(
        "an answer is recorded though the row was sent again",
        "tasks/ledger/outcome_writes.py",
        '        rows.c.attempts == bindparam("token"),\n        or_(',
        "        or_(",
        (LEDGER, INTERLEAVINGS),
    ),
    Mutant(
        "a source that another row holds is believed",
        "tasks/ledger/held_sources.py",
        "        asked = [str(outcome.source_id) for outcome in created if not outcome.names_row]\n",
        "        asked = []\n",
        ("tests/integration/test_held_sources.py",),
    ),
    Mutant(
        "a dead worker's row that was being sent waits again",
        "tasks/ledger/reaper.py",
        "                state=RowState.UNCLEAR,\n",
        "                state=RowState.WAITING,\n",
        (LEDGER, INTERLEAVINGS),
    ),
    Mutant(
        "a worker is taken for dead while a request of it may be under way",
        "tasks/ledger/reaper.py",
        "workers.c.lease_ends_at + workers.c.longest_request_seconds <= self.engine.sql_now",
        "workers.c.lease_ends_at <= self.engine.sql_now",
        (LEDGER, INTERLEAVINGS),
    ),
    Mutant(
        "a batch of another account is sent",
        "tasks/ledger/scope.py",
        "return and_(self.of_account, batches.c.runner.is_not_distinct_from(self.runner))",
        "return batches.c.runner.is_not_distinct_from(self.runner)",
        ("tests/integration/test_orders.py",),
    ),
    Mutant(
        "a batch of another command is sent",
        "tasks/ledger/scope.py",
        "return and_(self.of_account, batches.c.runner.is_not_distinct_from(self.runner))",
        "return self.of_account",
        ("tests/integration/test_runners.py",),
    ),
    Mutant(
        "a forgetful ledger sends",
        "tasks/ledger/leases.py",
        "            self.engine.memory.look(connection)\n            claimed",
        "            claimed",
        ("tests/integration/test_memory.py",),
    ),
    Mutant(
        "a batch is closed with rows that will still move",
        "tasks/ledger/lifecycle.py",
        "left = some_not_settled(batch_id)",
        "left = some_not_settled(0)",
        (LEDGER, INTERLEAVINGS),
    ),
    Mutant(
        "a row is sent before its batch's sample was looked up",
        "tasks/ledger/leases.py",
        "        sampled = exists().where(batches.c.id == slice_.batch_id, batches.c.sample_due_at.is_(None))",
        "        sampled = exists().where(batches.c.id == slice_.batch_id)",
        ("tests/integration/test_sampling.py",),
    ),
    Mutant(
        "a person may name a source that is another row's",
        "tasks/ledger/resolution.py",
        "        if holder is not None:",
        "        if holder is None:",
        ("tests/integration/test_held_sources.py", LEDGER),
    ),
    Mutant(
        "a request leaves though the lease may end before its answer",
        "tasks/send/worker_lease.py",
        "return worker == self.worker and self._clock() + seconds <= ends_at",
        "return True",
        (f"{UNIT}/test_worker_lease.py", f"{UNIT}/test_request_starter.py", INTERLEAVINGS),
    ),
    Mutant(
        "outcomes of a commit that failed are forgotten",
        "tasks/send/recording.py",
        "            self._queue.put_back_completed(completed)\n",
        "",
        (f"{UNIT}/test_recording.py", INTERLEAVINGS),
    ),
    Mutant(
        "a slice is done before its outcomes act on the batch",
        "tasks/send/recording.py",
        "        try:  # before their slice is done: a batch must not be closed that its last answers halt\n",
        "        self._queue.finish(completed)\n        try:\n",
        (f"{UNIT}/test_recording.py",),
    ),
    Mutant(
        "lists are believed to be up to date",
        "tasks/send/source_lookup.py",
        "        long_ago = self._jumps.since(ended_at, now) >= self._lag.seconds(now)\n",
        "        long_ago = True\n",
        ("tests/integration/test_absence.py", INTERLEAVINGS),
    ),
    Mutant(
        "lists need no control source",
        "tasks/send/source_lookup.py",
        "        return shown is not None and shown.seen_at >= _ended_at(row)",
        "        return True",
        ("tests/integration/test_absence.py", INTERLEAVINGS),
    ),
    Mutant(
        "a message sends rows behind a canary",
        "tasks/ledger/leases.py",
        "                approved,\n",
        "",
        ("tests/integration/test_messages.py",),
    ),
    Mutant(
        "an answer that names no source is believed",
        "tasks/elepay/answers.py",
        "            _require_source(fields, status, request)\n",
        "            pass\n",
        (EVIDENCE,),
    ),
    Mutant(
        "a list whose total is no number is complete",
        "tasks/elepay/client.py",
        "complete=type(total) is int and total ==",
        "complete=total ==",
        ("tests/integration/elepay_api/test_mutated_answers.py",),
    ),
    Mutant(
        "an incomplete list is believed",
        "tasks/send/source_lookup.py",
        "if not listed.complete or hides_metadata(listed):",
        "if hides_metadata(listed):",
        (EVIDENCE, "tests/integration/test_absence.py"),
    ),
    Mutant(
        "a list without metadata is believed",
        "tasks/send/source_lookup.py",
        "if not listed.complete or hides_metadata(listed):",
        "if not listed.complete:",
        (EVIDENCE, "tests/integration/test_absence.py"),
    ),
    Mutant(
        "a row whose answer is lost is sent again",
        "tasks/send/outcomes.py",
        "outcome.state, outcome.worker, outcome.not_before = RowState.UNCLEAR, situation.worker",
        "outcome.state, outcome.worker, outcome.not_before = RowState.WAITING, situation.worker",
        (f"{UNIT}/test_outcomes.py", INTERLEAVINGS),
    ),
    Mutant(
        "a batch that the key stops goes on",
        "tasks/send/batch_guards.py",
        "        if decision.effect is Effect.HALT:",
        "        if decision.effect is None:",
        (f"{UNIT}/test_recording.py",),
    ),
)


def main(names: list[str]) -> int:
    """Run the mutants of these names, or all; return the exit code."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if moved := [mutant.name for mutant in chosen if (ROOT / mutant.path).read_text("utf-8").count(mutant.before) != 1]:
        print("not where it was:", *moved, sep="\n  ")
        return 2
    survivors = []
    for mutant in chosen:
        started = time.monotonic()
        caught_by = next(_failing(mutant), "")
        print(f"{caught_by or 'SURVIVED':55} {time.monotonic() - started:5.0f} s  {mutant.name}", flush=True)
        if not caught_by:
            survivors.append(mutant.name)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} caught")
    return 1 if survivors else 0


def _failing(mutant: Mutant) -> Iterator[str]:
    """Yield the test files that fail with a mutant."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "program"
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        path = copy / mutant.path
        path.write_text(path.read_text("utf-8").replace(mutant.before, mutant.after), "utf-8")
        for tests in mutant.tests:
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "2", tests],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy)},
                capture_output=True,
                text=True,
                check=False,
            )
            if "\nFAILED " in ended.stdout:
                yield tests
            elif ended.returncode:
                raise RuntimeError(f"{tests} could not run: {ended.stdout[-300:]}{ended.stderr[-300:]}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
