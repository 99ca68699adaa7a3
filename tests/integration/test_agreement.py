"""Every place that says what needs a person names the same rows, in every state of a batch: real runs, real reports."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from factories import Command, Simulator, wait_until
from notified import hook, received_by_hook
from openpyxl import load_workbook

HEADER = "customer_id,payment_method,resource,description\n"


def file_of(folder: Path, name: str, *customers: str, wrong: int = 2) -> str:
    """A file with a row a customer, and rows before them that are wrong."""
    rows = [f"bad_{name[:-4]}_{number},creditcart,ios,a\n" for number in range(wrong)]
    rows += [f"{customer},creditcard,ios,a\n" for customer in customers]
    (folder / name).write_text(HEADER + "".join(rows), encoding="utf-8")
    return name


def customers_of(name: str, count: int) -> list[str]:
    return [f"cus_{name}{number:03d}" for number in range(count)]


class Said:
    """What each place says about a batch at one moment; at rest they must agree to the row."""

    def __init__(self, onboard: Command, batch: int) -> None:
        self.status = onboard.json("status", batch)
        self.listed = onboard.json("open", batch)
        self.to_resolve = onboard.json("resolve", batch)["unclear"]
        self.reports = onboard.json("report", batch)["reports"]
        self.summary = json.loads(Path(self.reports["summary"]).read_bytes())
        with Path(self.reports["failures"]).open(encoding="utf-8", newline="") as file:
            self.failures = list(csv.DictReader(file))
        self.page = Path(self.reports["html"]).read_text("utf-8")

    @property
    def lines(self) -> list[int]:
        return sorted(int(row["onboarding_line"]) for row in self.failures)

    def on_page(self) -> list[int]:
        section = self.page.partition('id="rows-title"')[2].partition("</section>")[0]
        return sorted(map(int, re.findall(r'data-name="Line">(\d+)<', section)))

    def in_workbook(self) -> list[int]:
        titles, *rows = load_workbook(self.reports["xlsx"])["To do"].iter_rows(values_only=True)
        return sorted(int(str(row[titles.index("Line")])) for row in rows)

    def to_decide(self) -> list[int]:
        return sorted(int(row["onboarding_line"]) for row in self.failures if row["onboarding_state"] == "unclear")


def agreed(onboard: Command, batch: int) -> Said:
    """Return what is said about a batch, once it is seen to be the same everywhere."""
    said = Said(onboard, batch)
    need = len(said.lines)
    assert said.on_page() == said.lines
    assert said.in_workbook() == said.lines
    assert said.to_decide() == sorted(row["line"] for row in said.to_resolve)
    assert said.status["work"]["open"] == said.listed["open"] == need
    assert sum(group["rows"] for group in said.listed["groups"]) == need
    assert sum(each["rows"] for each in said.summary["to_do"]) == need, "each of these rows has one reason"
    assert said.summary["books"]["need_a_person"] == need
    assert {name: said.summary["work"][name] for name in ("open", "dismissed")} == {
        name: said.status["work"][name] for name in ("open", "dismissed")
    }
    assert f"<h1>{said.summary['verdict']['text']}</h1>" in said.page
    assert all(row["customer_id"] in said.page for row in said.failures)
    finished = said.status["state"] == "finished"
    assert said.status["exit"] == ((1 if need else 0) if finished else 3)
    return said


def notified_of(folder: Path, batch: int, event: str) -> dict[str, Any]:
    """The message about a batch, which says what its reports say."""

    def found() -> list[dict[str, Any]]:
        return [each for each in received_by_hook(folder) if (each.get("batch"), each["event"]) == (batch, event)]

    wait_until(lambda: bool(found()), what=f"the message that batch {batch} is {event}")
    return found()[-1]


def test_after_the_end_and_after_every_step_of_the_morning(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1", ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    onboard.json("run", file_of(tmp_path, "known.csv", *customers_of("known", 3), wrong=0))
    simulator.control(
        refuse={"U003005": 0.3},
        commit_then_drop_connection=0.3,
        list_500={"share": 1.0, "after_creates": 1},
        max_faults_per_key=1000,
    )
    rows = [*customers_of("first", 40), *customers_of("known", 3), "missing_1", "missing_2"]
    name = file_of(tmp_path, "first.csv", *rows)
    text = (tmp_path / name).read_text()
    for customer in customers_of("known", 3):
        text = text.replace(f"{customer},creditcard,ios,a", f"{customer},creditcard,ios,other")
    (tmp_path / name).write_text(text)
    onboard.json("run", name)
    simulator.control(refuse={}, commit_then_drop_connection=0.0, list_500=0.0)

    said = agreed(onboard, 2)
    states = {row["onboarding_state"] for row in said.failures}
    assert states == {"invalid", "refused", "unclear"}
    assert said.summary["changed"][0]["rows"] == 3, "seen, and not among what needs attention"
    assert not any(row["customer_id"].startswith("cus_known") for row in said.failures)
    assert notified_of(tmp_path, 2, "finished")["verdict"] == said.summary["verdict"]["text"]

    # some rows are corrected, one is dismissed, one given up, one decided
    lines = Path(said.reports["failures"]).read_text(encoding="utf-8").splitlines(keepends=True)
    refused = [line for line in lines if "U003005" in line]
    corrected = [lines[0], lines[1].replace("creditcart", "creditcard"), lines[2], refused[0]]
    (tmp_path / "again.csv").write_text("".join(corrected), encoding="utf-8")
    onboard.json("run", "again.csv")
    before = len(said.lines)
    said = agreed(onboard, 2)
    assert (len(said.lines), said.status["work"]["resolved"], said.status["work"]["carried_over"]) == (
        before - 3,
        {"3": 2},
        {"3": 1},
    )
    assert agreed(onboard, 3).lines == [3]
    first, second, *_ = said.to_decide()
    onboard.json("dismiss", 2, said.lines[-1], "--reason", "left us")
    onboard.json("resolve", 2, first, "--give-up")
    reference = {row["line"]: row["reference"] for row in said.to_resolve}[second]
    source = next(each["id"] for each in simulator.sources() if each["reference"] == reference)
    onboard.json("resolve", 2, second, "--created", source)
    last = agreed(onboard, 2)
    assert set(said.lines) - set(last.lines) == {said.lines[-1], first, second}
    assert last.status["work"]["dismissed"] == 2
    assert "left us" in last.page


def test_of_a_batch_that_waits_for_approval_and_of_the_same_cancelled(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    onboard.json("run", file_of(tmp_path, "canary.csv", "cus_1", "missing_2", *customers_of("c", 8)), "--canary", "4")
    paused = agreed(onboard, 1)
    assert (paused.status["state"], paused.lines) == ("paused", [2, 3, 5])
    assert paused.summary["by_itself"]["waiting"] == 6
    assert "onboard approve 1" in paused.page
    assert notified_of(tmp_path, 1, "paused")["verdict"] == paused.summary["verdict"]["text"]
    onboard.json("cancel", 1, "--yes")
    cancelled = agreed(onboard, 1)
    assert cancelled.lines == [2, 3, 5, *range(8, 14)]


def test_under_way_and_paused_while_rows_wait_for_their_look_up(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UP_DELAY_SECONDS="600")
    simulator.control(commit_then_drop_connection=1.0, max_faults_per_key=1000)
    run = onboard.start("run", file_of(tmp_path, "lost.csv", *customers_of("lost", 6)), "--json")
    wait_until(lambda: onboard.json("status", 1).get("books", {}).get("unclear") == 6, what="that answers are lost")
    running = agreed(onboard, 1)
    assert (running.status["state"], running.lines, running.to_resolve) == ("running", [2, 3], [])
    assert running.summary["by_itself"] == {"waiting": 0, "looked_up": 6, "under_way": 0}
    onboard.json("pause", 1)
    run.communicate(timeout=60)
    paused = agreed(onboard, 1)
    assert (paused.status["state"], paused.lines, paused.to_resolve) == ("paused", [2, 3], [])
    assert "6 rows whose outcome is unclear are looked up at elepay once the batch goes on" in paused.page
