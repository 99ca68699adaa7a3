"""The judge of every night: the ledger and what the simulator counted, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from factories import Command, Simulator
from sqlalchemy import create_engine, text

PLACES = ("created", "skipped", "invalid", "refused", "unclear", "open")


class Row(NamedTuple):
    """A row as the ledger has it."""

    record: int
    state: str
    source_id: str | None
    code: str | None
    attempts: int
    adopted: bool


def rows_of(command: Command, batch: int) -> list[Row]:
    """Read a batch's rows with plain SQL."""
    engine = create_engine(command.ledger_url)
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "select record, state, source_id, code, attempts, adopted from rows where batch_id = :b order by record"
            ),
            {"b": batch},
        ).all()
    engine.dispose()
    return [Row(row[0], row[1], row[2], row[3], row[4], bool(row[5])) for row in found]


def count_history(command: Command, what: str) -> int:
    """Count the history's lines that begin so."""
    engine = create_engine(command.ledger_url)
    with engine.connect() as connection:
        found = connection.execute(
            text("select count(*) from history where what like :w"), {"w": what + "%"}
        ).scalar_one()
    engine.dispose()
    return int(found)


def judge(
    command: Command,
    simulator: Simulator,
    said: dict[str, Any],
    *,
    rows: int,
    sources: int | None = None,
    exit_code: int = 0,
    **expected: int,
) -> dict[str, Any]:
    """Judge one batch after its night; return the simulator's statistics.

    `expected` tells books that differ from "all created"; `sources` how many there are at the simulator in all, by
    default as many as rows. Whatever else happened: the books balance, ledger and simulator name the same sources, no
    reference is there twice, no source is without one, and nobody holds a row any more.
    """
    counts = dict.fromkeys(PLACES, 0) | ({"created": rows} if "created" not in expected else {}) | expected
    told = {name: said["books"][name] for name in PLACES}
    assert said["books"]["balance"], told
    assert said["books"]["records"] == sum(told.values()) == rows, told
    found = rows_of(command, said["batch"])
    assert Counter(row.state for row in found) == Counter(
        {name: number for name, number in told.items() if number and name != "open"}
        | ({"waiting": told["open"]} if told["open"] else {})
    )
    assert told == counts, f"{told}, {said.get('state_reason')}, {Counter(row.code for row in found)}"
    assert said["exit"] == exit_code, said.get("stderr", "")[-3000:]
    return at_the_simulator(command, simulator, rows if sources is None else sources)


def at_the_simulator(command: Command, simulator: Simulator, sources: int) -> dict[str, Any]:
    """Compare the simulator's sources with the ledger's, of all batches."""
    statistics = simulator.statistics()
    references = statistics["references"]
    assert references["doubled_count"] == 0, references["doubled"]
    assert statistics["without_reference"] == 0
    assert statistics["created"] == references["total"] == sources
    there = {one["id"] for one in simulator.sources()}
    engine = create_engine(command.ledger_url)
    with engine.connect() as connection:
        known = [str(row[0]) for row in connection.execute(text("select source_id from rows where state = 'created'"))]
    engine.dispose()
    assert len(known) == len(set(known)), "two rows claim one source"
    assert set(known) <= there, "a row has a source that does not exist"
    return statistics


def faults_of(statistics: dict[str, Any]) -> int:
    """Return how many faults the simulator carried out."""
    return sum(statistics["faults"].values())
