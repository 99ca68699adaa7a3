"""Nights and mornings at random, and what somebody who sees everything would say is open after each step.

The truth is kept here by customer, from what was written into files, what elepay (the simulator) has, and what people
decided; nothing of it is read from the program but which record of a batch is whose.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hinted import HEADER, Installation, edited
from sqlalchemy import text

from tasks.errors import LedgerError
from tasks.models import BatchState
from tasks.operations import batch_lifecycle, open_work, resolve
from tasks.operations.cancel import cancel

#: Customers by what becomes of their first rows: created; a mistyped method; a missing one; refused until elepay knows
#: them. Their ids say so.
CUSTOMERS = [f"{kind}_{number}" for kind in ("cus", "typo", "empty", "missing") for number in range(3)]
_METHODS = {"typo": "creditcart", "empty": ""}


class Key(NamedTuple):
    """A row."""

    batch: int
    record: int


class Open(NamedTuple):
    """Work of a customer."""

    key: Key
    state: str


class Mornings:
    """Steps, chosen by a seed, and the truth after them."""

    def __init__(self, place: Installation, seed: int) -> None:
        self.place, self.random = place, random.Random(seed)
        self.open: dict[str, Open] = {}
        self.dismissed: dict[str, Open] = {}
        self.created: set[str] = set()
        self.owned: set[str] = set()  #: customers with an unclear row: nothing of them is sent
        self.corrected: set[str] = set()  #: the source system has them right
        self.elepay_knows_all = False
        self.waiting: tuple[int, list[str]] | None = None  #: a batch that was paused before its first row
        self.did: list[str] = []
        self._files = 0

    # ----------------------------------------------------------------------------------------------------- the truth

    def is_bad(self, customer: str) -> bool:
        """Whether the source system still has it wrong."""
        return customer.partition("_")[0] in _METHODS and customer not in self.corrected

    def _brought(self, batch: int, customers: Iterable[tuple[str, bool]], *, lost: bool = False) -> None:
        """A file was sent to its end, with these customers, whose rows were right or wrong."""
        for customer, is_bad in customers:
            key = self._key(batch, customer)
            if is_bad:
                self._is_open(customer, key, "invalid")
            elif customer in self.created | self.owned:
                continue  # skipped: the identity has its row
            elif customer.startswith("missing") and not self.elepay_knows_all and not lost:
                self._is_open(customer, key, "refused")
            elif lost:
                self._is_open(customer, key, "unclear")
                self.owned.add(customer)
            else:
                self._is_created(customer)

    def _is_open(self, customer: str, key: Key, state: str) -> None:
        self.open[customer] = Open(key, state)
        self.dismissed.pop(customer, None)

    def _is_created(self, customer: str) -> None:
        self.created.add(customer)
        self.open.pop(customer, None)
        self.dismissed.pop(customer, None)

    def _key(self, batch: int, customer: str) -> Key:
        with self.place.ledger.engine.read() as connection:
            query = text("select record from rows where batch_id = :batch and customer_id = :customer")
            return Key(batch, connection.execute(query, {"batch": batch, "customer": customer}).scalar_one())

    # ------------------------------------------------------------------------------------------------------ the steps

    def step(self) -> None:
        """Do one thing at random that can be done now."""
        while not (name := self._tried(self.random.choice(STEPS))):
            continue
        self.did.append(name)

    def _tried(self, step: Callable[[Mornings], str | None]) -> str | None:
        return step(self)

    def dump(self) -> str:
        """The source system dumps some customers, as it has them by now."""
        chosen = self._some()
        batch = self.place.run(self._lines(chosen), self._name())
        self._brought(batch.id, [(customer, self.is_bad(customer)) for customer in chosen])
        return f"dump {chosen} as {batch.id}"

    def lose_answers(self) -> str | None:
        """A dump in whose night every answer is lost, and look-ups say nothing."""
        chosen = [customer for customer in self._some() if not customer.startswith("missing")][:4]
        if not chosen:
            return None
        faults = {"commit_then_drop_connection": 1.0, "list_500": 1.0}
        self.place.simulator.control(**faults, max_faults_per_key=1000)
        try:
            batch = self.place.run(self._lines(chosen), self._name())
        finally:
            self.place.simulator.control(**dict.fromkeys(faults, 0.0))
        self._brought(batch.id, [(customer, self.is_bad(customer)) for customer in chosen], lost=True)
        return f"lose {chosen} as {batch.id}"

    def correct_source_system(self) -> str | None:
        """Somebody corrects a customer where its rows come from.

        Where no method stands nobody knows which row is meant, so that is corrected by reports only.
        """
        wrong = [customer for customer in CUSTOMERS if self.is_bad(customer) and not customer.startswith("empty")]
        if not wrong:
            return None
        customer = self.random.choice(wrong)
        self.corrected.add(customer)
        return f"correct {customer}"

    def elepay_learns(self) -> str | None:
        """Customers that did not exist do now."""
        if self.elepay_knows_all or self.random.random() < 0.6:
            return None
        self.elepay_knows_all = True
        self.place.simulator.control(missing_prefix="nobody_")
        return "elepay knows all"

    def run_failures(self) -> str | None:
        """A report is corrected: of its rows some rightly, some not, and some are deleted."""
        batches = {each.key.batch for each in self.open.values()} - self._unfinished()
        if not batches:
            return None
        batch = self.random.choice(sorted(batches))
        self.place.report(batch)
        return self._corrected(self.place.failures(batch), f"failures of {batch}")

    def run_open(self) -> str | None:
        """What is open over all nights is written to a file and corrected there."""
        path = self.place.folder / f"open-{self._name()}"
        written = open_work.write_open_work(self.place.services, path)
        if not written.files:
            return None
        in_files = [each for each in self.open.values() if each.state != "unclear"]
        assert sum(written.files.values()) == len(in_files)
        assert written.to_be_resolved == len(self.open) - len(in_files)
        one = self.random.choice(sorted(written.files))  # corrected reports have columns of their own
        return self._corrected(one, f"open ({one.name})")

    def _corrected(self, report: Path, what: str) -> str:
        path, rows = self.place.folder / f"corrected-{self._name()}", []
        path.write_bytes(report.read_bytes())

        def change(row: dict[str, str]) -> dict[str, str] | None:
            customer = row["customer_id"]
            fate = self.random.choice(["right", "right", "as it is", "deleted"])
            is_wrong = row["payment_method"] != "creditcard"
            if fate == "deleted" or (is_wrong and fate != "right" and customer in self.created | self.owned):
                return None
            if fate == "right":
                row["payment_method"] = "creditcard"
            rows.append((customer, row["payment_method"] != "creditcard"))
            return row

        edited(path, change)
        if not rows:
            return f"{what}: all deleted"
        batch = self.place.run(path)
        self._brought(batch.id, rows)
        return f"{what}: {rows} as {batch.id}"

    def retry(self) -> str | None:
        """A batch is tried again: what was refused or never sent, and unclear rows are looked up once more."""
        batches = {each.key.batch for each in self.open.values() if each.state != "invalid"} - self._unfinished()
        if not batches:
            return None
        batch = self.random.choice(sorted(batches))
        with self.place.ledger.engine.read() as connection:
            query = text("select customer_id, state from rows where batch_id = :batch order by record")
            rows = [(row[0], row[1]) for row in connection.execute(query, {"batch": batch})]
        again = [customer for customer, state in rows if state in ("refused", "waiting")]
        unclear = [customer for customer, state in rows if state == "unclear" and self._waits_for_person(customer)]
        cancelled = self.place.ledger.batches.get(batch).state is BatchState.CANCELLED
        if cancelled and not again:
            return None
        before = max(each.id for each in self.place.ledger.batches.newest())
        self.place.retry(batch)
        if again:
            self._brought(before + 1, [(customer, False) for customer in again])
        for customer in () if cancelled else unclear:
            self.owned.discard(customer)
            self._is_created(customer)
        return f"retry {batch}: {again}, {unclear}"

    def _waits_for_person(self, customer: str) -> bool:
        work = self.open.get(customer) or self.dismissed.get(customer)
        return work is not None and work.state == "unclear"

    def dismiss(self) -> str | None:
        """Somebody sets a row aside."""
        if not self.open:
            return None
        customer = self.random.choice(sorted(self.open))
        work = self.dismissed[customer] = self.open.pop(customer)
        open_work.dismiss(self.place.services, work.key.batch, [self._line(work.key)], "left us", who="ito@desk")
        return f"dismiss {customer}"

    def undo(self) -> str | None:
        """... and takes that back."""
        if not self.dismissed:
            return None
        customer = self.random.choice(sorted(self.dismissed))
        work = self.open[customer] = self.dismissed.pop(customer)
        lines = [self._line(work.key)]
        open_work.take_back_dismissals(self.place.services, work.key.batch, lines, who="ito@desk")
        return f"undo {customer}"

    def resolve(self) -> str | None:
        """Somebody decides an unclear row; a word that elepay contradicts is not taken."""
        unclear = sorted(customer for customer, each in self.open.items() if each.state == "unclear")
        if not unclear:
            return None
        customer, services = self.random.choice(unclear), self.place.services
        key = self.open[customer].key
        line, decision = self._line(key), self.random.choice(["created", "given up", "absent"])
        if decision == "created":
            (source,) = (each["id"] for each in self.place.simulator.sources() if each["customerId"] == customer)
            resolve.resolve_as_created(services, key.batch, line, source, who="ito@desk")
            self.owned.discard(customer)
            self._is_created(customer)
        elif decision == "given up":
            resolve.give_up(services, key.batch, line, who="ito@desk")
            del self.open[customer]
        else:
            with pytest.raises(LedgerError, match="elepay has it"):
                resolve.resolve_as_absent(services, key.batch, line, who="ito@desk")
        return f"{customer} is {decision}"

    def pause(self) -> str | None:
        """A dump is stopped before its first row; its rows are nobody's work, and those that they take up neither."""
        if self.waiting is not None:
            return None
        chosen = self._some()
        batch = self.place.accept(self._lines(chosen), self._name()).id
        is_paused, sent = batch_lifecycle.pause(self.place.ledger, batch, "ito@desk"), []
        for customer in chosen:
            if self.is_bad(customer):
                self._is_open(customer, self._key(batch, customer), "invalid")
            elif customer not in self.created | self.owned:
                sent.append(customer)
                self.owned.add(customer)
                self.open.pop(customer, None)
                self.dismissed.pop(customer, None)
        assert is_paused is bool(sent), "a batch with nothing to send has finished"
        self.waiting = (batch, sent) if sent else None
        return f"pause {chosen} as {batch}"

    def go_on(self) -> str | None:
        """What was stopped goes on, or is cancelled."""
        if self.waiting is None:
            return None
        (batch, sent), self.waiting = self.waiting, None
        self.owned.difference_update(sent)
        if self.random.random() < 0.5:
            batch_lifecycle.resume(self.place.ledger, batch)
            self.place.work(batch)
            self._brought(batch, [(customer, False) for customer in sent])
            return f"resume {batch}"
        cancel(self.place.services, batch, who="ito@desk")
        for customer in sent:
            self._is_open(customer, self._key(batch, customer), "waiting")
        return f"cancel {batch}"

    # -------------------------------------------------------------------------------------------------------- helpers

    def _unfinished(self) -> set[int]:
        return set() if self.waiting is None else {self.waiting[0]}

    def _some(self) -> list[str]:
        """Some customers; none whose identity has a row is brought wrongly: that would be work of another kind."""
        chosen = self.random.sample(CUSTOMERS, self.random.randint(2, 7))
        return [each for each in chosen if not (self.is_bad(each) and each in self.created | self.owned)] or ["cus_0"]

    def _lines(self, customers: Iterable[str]) -> str:
        rows = (
            (customer, _METHODS[customer.partition("_")[0]] if self.is_bad(customer) else "creditcard")
            for customer in customers
        )
        return HEADER + "".join(f"{customer},{method},ios,Membership {self._files},\n" for customer, method in rows)

    def _name(self) -> str:
        self._files += 1
        return f"{self._files}.csv"

    def _line(self, key: Key) -> int:
        with self.place.ledger.engine.read() as connection:
            query = text("select line from rows where batch_id = :batch and record = :record")
            return int(connection.execute(query, key._asdict()).scalar_one())


STEPS: list[Callable[[Mornings], str | None]] = [
    *[Mornings.dump, Mornings.run_failures] * 2,
    Mornings.lose_answers,
    Mornings.correct_source_system,
    Mornings.elepay_learns,
    Mornings.run_open,
    Mornings.retry,
    Mornings.dismiss,
    Mornings.undo,
    Mornings.resolve,
    Mornings.pause,
    Mornings.go_on,
]


def facts_of(path: Path) -> dict[str, Any]:
    """Return what stands in summary.json."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found
