"""A night whose elepay is the stranger, judged by the truth that it keeps, the ledger and the reports."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from conftest import ROWS, Night
from factories import Command
from sqlalchemy import create_engine, text
from stranger import Stranger

#: How far the program reckons that lists may be behind.
RECKONED_LAG_SECONDS = 6


class StrangerNight(Night):
    """A night whose elepay is the stranger."""

    simulator: Stranger  # type: ignore[assignment]

    @property
    def stranger(self) -> Stranger:
        return self.simulator

    def machine(self, **settings: Any) -> Command:
        """A machine with a folder of its own."""
        return super().machine(**{"ONBOARD_LIST_LAG_SECONDS": RECKONED_LAG_SECONDS, **settings})

    def finish(self, command: Command, file: Path, *, seconds: float = 100, wrong_runs: int = 3) -> dict[str, Any]:
        """Run a file, and resume its batch until it is finished; later runs are answered honestly."""
        said: dict[str, Any] = {}
        for number in range(1, wrong_runs + 4):
            again = ("resume", said["batch"]) if said else ("run", file)
            said = self.start(command, *again, "--json").json(seconds)
            if said["exit"] != 3:
                self.note(runs=number)
                return said
            if number == wrong_runs:
                self.stranger.behave()
        return said

    def expect(self, command: Command, said: dict[str, Any], *, rows: int = ROWS, refused: int = 0) -> None:
        """Expect that each row has its own source, but for those that elepay refuses."""
        figures = self.figures(command, said)
        assert figures == {
            "doubled": 0,
            "wrong": 0,
            "wrong in results.csv": 0,
            "balance": True,
            "created": rows - refused,
            "refused": refused,
            "unclear": 0,
            "open": 0,
            "without a row": 0,
            "exit": 1 if refused else 0,
        }, said.get("state_reason")

    def figures(self, command: Command, said: dict[str, Any]) -> dict[str, Any]:
        """Compare the ledger, the reports and the truth; note what came of it."""
        struck, counts = self.stranger.doubtful(), said["books"]
        created = sources_of_created_rows(command)
        figures = {
            "doubled": len(self.stranger.doubled()),
            "wrong": len(wrong_rows(command, self.stranger)),
            "wrong in results.csv": len(wrong_results(said, self.stranger)),
            "balance": counts["balance"],
            **{name: counts[name] for name in ("created", "refused", "unclear", "open")},
            "without a row": self.stranger.total - len(created),
            "exit": said["exit"],
        }
        creates = len(self.stranger.creates)
        self.note(rows=counts["records"], faults=len(struck), creates=creates, lists=self.stranger.requests["list"])
        for name, number in figures.items():
            self.record(name.replace(" ", "_"), number)
        if struck:
            asked = (
                creates + self.stranger.requests["list"] - len({reference for _, reference in self.stranger.creates})
            )
            self.record("requests_per_doubtful_row", round(asked / len(struck), 2))
        return figures


def sources_of_created_rows(command: Command) -> set[str]:
    """Return the ids of the sources that the ledger has for created rows, of all batches."""
    return {source_id for _, source_id in _created(command)}


def wrong_rows(command: Command, stranger: Stranger) -> list[tuple[str, str]]:
    """Return the created rows whose source was not made for their customer; no customer has two rows here."""
    made = [(customer, source_id, stranger.source(source_id)) for customer, source_id in _created(command)]
    return [(customer, source_id) for customer, source_id, one in made if one is None or one.customer != customer]


def wrong_results(said: dict[str, Any], stranger: Stranger) -> list[str]:
    """Return the references that results.csv calls created with a source that was not made for them."""
    with Path(said["reports"]["results"]).open(encoding="utf-8", newline="") as file:
        return [
            row["onboarding_ref"]
            for row in csv.DictReader(file)
            if row["onboarding_state"] == "created"
            and row["onboarding_source_id"] not in stranger.sources_of(row["onboarding_ref"])
        ]


def _created(command: Command) -> list[tuple[str, str]]:
    engine = create_engine(command.ledger_url)
    with engine.connect() as connection:
        found = connection.execute(text("select customer_id, source_id from rows where state = 'created'")).all()
    engine.dispose()
    return [(str(row[0]), str(row[1])) for row in found]
