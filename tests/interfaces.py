"""What others rely on, as text: tables, tasks, commands, JSON keys, report columns, metrics.

`python tests/interfaces.py` writes tests/interfaces/*.txt from the code; `test_interfaces.py` compares. A change there
is a change for operators: it belongs in the changelog.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main
from factories import Command, Simulator
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_mock_engine

FOLDER = Path(__file__).parent / "interfaces"


def tables() -> str:
    """Return the statements that make the ledger, of both kinds of database."""
    found = [one for url in ("sqlite://", "postgresql+psycopg://") for one in _statements(url)]
    return "\n\n".join("\n".join(line.rstrip() for line in one.strip().splitlines()) for one in found) + "\n"


def _statements(url: str) -> list[str]:
    from tasks.ledger.schema import metadata

    found: list[str] = []
    engine = create_mock_engine(url, lambda sql, *_, **__: found.append(str(sql.compile(dialect=engine.dialect))))
    metadata.create_all(engine, checkfirst=False)
    return [f"-- {engine.dialect.name}", *sorted(found)]


def tasks() -> str:
    """Return the names of Celery's tasks, of the queue, and what beat sends."""
    from tasks import celery_tasks
    from worker.celery_app import app

    app.loader.import_default_modules()
    names = sorted(name for name in app.tasks if name.startswith("onboard"))
    return (
        "\n".join(
            [*names, *(f"every {seconds:g} s: {name}" for name, seconds in sorted(celery_tasks.SCHEDULE.items()))]
        )
        + "\n"
    )


def commands() -> str:
    """Return every command with its arguments and options."""
    from worker.cli import app

    def walk(command: Any, name: str) -> Iterator[str]:
        for parameter in command.params:
            yield f"{name} {' '.join([*parameter.opts, *parameter.secondary_opts])}"
        for child in getattr(command, "commands", {}).values():
            yield from walk(child, f"{name} {child.name}")

    return "\n".join(sorted(walk(typer.main.get_command(app), "onboard"))) + "\n"


def keys(value: Any, where: str = "") -> set[str]:
    """Return the path of every key of a JSON value; lists are `[]`."""
    if isinstance(value, dict):
        return {path for key, one in value.items() for path in {f"{where}.{key}", *keys(one, f"{where}.{key}")}}
    if isinstance(value, list):
        return {path for one in value for path in keys(one, f"{where}[]")}
    return set()


def night() -> dict[str, str]:
    """Return what a batch with every kind of row says: JSON of the commands, columns of the reports, metrics."""
    with tempfile.TemporaryDirectory() as name, Simulator() as simulator:
        folder = Path(name)
        file = folder / "night.csv"
        with file.open("w", newline="", encoding="utf-8") as opened:
            rows = csv.writer(opened)
            rows.writerow(["customer_id", "payment_method", "resource", "description"])
            rows.writerows([f"cus_{at}", "creditcard", "ios", "Ginza"] for at in range(40))
            rows.writerows(
                [["cus_0", "creditcard", "ios", "other"], ["cus_1", "nonsense", "ios", ""], ["", "", "", ""], ["cus_9"]]
            )
        simulator.control(refuse={"M003009": 0.2})
        onboard = Command(folder, simulator)
        said = {"check": onboard.json("check", file), "run": onboard.json("run", file)}
        batch = said["run"]["batch"]
        for words in (
            "status",
            f"status {batch}",
            f"report {batch}",
            "report follow-up --days 0",
            f"audit {batch}",
            "follow-up",
            "doctor",
            f"show {batch} 2",
            f"show {batch} 43",
            "resolve",
            f"retry {batch}",
            f"cancel {batch}",
            "ledger upgrade",
        ):
            said[words] = onboard.json(*words.split())
        ends = {words: one.pop("exit") for words, one in said.items()}
        for one in said.values():
            one.pop("stderr")
        reports = onboard.home / "reports" / str(batch)
        with (reports / "results.csv").open(encoding="utf-8-sig", newline="") as opened:
            columns = next(csv.reader(opened))
        return {
            "json": "\n".join(f"{words}: {path}" for words, one in said.items() for path in sorted(keys(one))) + "\n",
            "exit_codes": "\n".join(f"{words}: {code}" for words, code in ends.items()) + "\n",
            "reports": "\n".join(
                [
                    *sorted(path.name for path in reports.iterdir()),
                    *(f"results.csv: {column}" for column in columns),
                    *(
                        f"summary.json: {path}"
                        for path in sorted(keys(json.loads((reports / "summary.json").read_text("utf-8"))))
                    ),
                ]
            )
            + "\n",
        }


def metrics() -> str:
    """Return name, type, labels and sentence of every metric of ours."""
    from tasks.ledger import OpenCounts, Overview
    from tasks.metrics_registry import counters
    from tasks.send.rate_limit import CurrentRate
    from worker.metrics import Observation, render

    overview = Overview(rows={}, batches={}, oldest_open_at=None, last_finished_at=None, failing=0)
    rate, open_work = CurrentRate(1.0, 1.0, 0.0), OpenCounts({}, None)
    page = render(Observation(counters.read(), overview, 0, rate, {"ledger": True}, {"wave": 1.0}, open_work)).decode()
    found = []
    for family in text_string_to_metric_families(page):
        if family.name.startswith("onboard"):
            labels = sorted(
                {
                    f"{label}={value}" if label != "le" else label
                    for sample in family.samples
                    for label, value in sample.labels.items()
                }
            )
            found.append(f"{family.type} {family.name} {' '.join(labels)}\n    {family.documentation}")
    return "\n".join(sorted(found)) + "\n"


def all_of_them() -> dict[str, str]:
    """Return each text by its name."""
    return {"tables": tables(), "tasks": tasks(), "commands": commands(), "metrics": metrics(), **night()}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    for name, text in all_of_them().items():
        (FOLDER / f"{name}.txt").write_text(text, encoding="utf-8")
