"""Nights after the creating: beat and workers follow up, an audit finds what differs, old batches are dropped."""

from __future__ import annotations

import csv
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import Night
from factories import Command, wait_until
from judge import faults_of
from machines import Valkey
from sqlalchemy import create_engine, text

ROWS = 300
#: The first question comes after two seconds, the next ones soon as well.
QUICK = {"ONBOARD_FOLLOW_UP_HOURS": "0.0005", "ELEPAY_REQUESTS_PER_SECOND": 400, "ONBOARD_FOLLOW_UP_SHARE": 0.5}


def statuses(command: Command) -> dict[str, int]:
    engine = create_engine(command.ledger_url)
    with engine.connect() as connection:
        found = connection.execute(
            text("select source_status, count(*) from rows where state = 'created' group by source_status")
        ).all()
    engine.dispose()
    return {str(row[0]): int(row[1]) for row in found}


def lines_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_beat_and_workers_see_what_became_of_sources(night: Night, valkey: Valkey, postgres_url: str) -> None:
    place = {"REDIS_URL": valkey.url, "LEDGER_URL": postgres_url}
    command = night.machine(**place, **QUICK)
    night.fleet(command)
    beats = [night.start(command, "beat"), night.start(night.machine(**place, **QUICK), "beat")]
    said = night.run(command, night.file(), "--no-workers").json()
    night.judge(command, said)
    for at, one in enumerate(night.simulator.sources()[:100]):
        night.simulator.post(f"sources/{one['id']}/status", status=("active", "failed")[at % 2])
    wait_until(lambda: statuses(command).get("active") == statuses(command).get("failed") == 50, 90, "following up")
    assert statuses(command) == {"active": 50, "failed": 50, "pending": ROWS - 100}
    assert all(beat.alive for beat in beats)
    assert (command.home / "beat-schedule.written").exists()  # its sign of life, for docker-compose.yml
    second = command("beat")
    assert second.returncode == 2
    assert "one is enough" in second.stderr
    listed = command.json("report", "follow-up", "--days", 0)
    assert listed["exit"] == 1
    assert listed["by_status"] == {"failed": 50, "pending": ROWS - 100}
    for beat in beats:
        beat.signal(signal.SIGTERM)
        assert beat.wait(20) == 0


def test_follow_up_on_one_machine_keeps_to_its_share_of_the_limit(night: Night) -> None:
    share = {"ONBOARD_FOLLOW_UP_SHARE": 0.05, "ONBOARD_FOLLOW_UP_HOURS": "0.0005,24"}
    command = night.machine(**{**QUICK, **share})
    said = night.run(command, night.file()).json()
    night.judge(command, said)
    wait_until(lambda: command.json("follow-up")["asked"] > 0, 30, "the first question")
    asked = night.asked("retrieveSourceStatus")
    seconds = [at for at, _ in night.simulator.statistics()["requests_per_second"]]
    assert asked >= ROWS
    assert seconds[-1] - seconds[0] >= asked / 20 - 3, "twenty a second and no more"


@pytest.mark.parametrize(
    "trouble",
    [
        {"throttled": 0.3, "max_faults_per_key": 3},
        {"page": {"share": 1.0, "for_seconds": 6}, "page_statuses": [503], "retry_after_seconds": 2},
        {"S002000_window": {"share": 1.0, "for_seconds": 6}},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
def test_what_became_of_sources_is_seen_whatever_elepay_answers_meanwhile(
    night: Night, trouble: dict[str, Any]
) -> None:
    command = night.machine(**{**QUICK, "ONBOARD_FOLLOW_UP_HOURS": "0.0005,0.0005,0.0005,0.0005,24"})
    said = night.run(command, night.file()).json()
    night.judge(command, said)
    for one in night.simulator.sources():
        night.simulator.post(f"sources/{one['id']}/status", status="active")
    night.simulator.control(**trouble)
    rounds: list[dict[str, Any]] = []

    def all_seen() -> bool:
        rounds.append(command.json("follow-up"))
        return statuses(command) == {"active": ROWS}

    wait_until(all_seen, 120, "that all are seen")
    statistics = night.judge(command, command.json("status", said["batch"]))
    assert faults_of(statistics) > 50 or any(one["stopped_by"] for one in rounds), "the trouble was met"
    assert {one["exit"] for one in rounds} <= {0, 3}
    assert sum(one["changed"] for one in rounds) == ROWS, "each change is seen once"


@pytest.mark.representative
def test_an_audit_finds_what_was_done_behind_our_back(night: Night) -> None:
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0)
    said = night.run(command, night.file()).json()
    night.judge(command, said)
    assert command.json("audit", said["batch"])["agree"] is True
    sources = night.simulator.sources()
    deleted, active, doubled, refused = sources[:4]
    night.simulator.post(f"sources/{deleted['id']}/status", status="deleted")
    night.simulator.post(f"sources/{active['id']}/status", status="active")
    doubled_again(night, doubled)
    ledger = sqlite3.connect(command.home / "ledger.db")
    with ledger:
        ledger.execute("update rows set state = 'refused' where source_id = ?", (refused["id"],))
        ledger.execute("update rows set source_id = 'src_gone' where source_id = ?", (sources[4]["id"],))
    ledger.close()
    found = command.json("audit", said["batch"])
    assert found["exit"] == 1
    assert found["rows"] == found["lists"] == ROWS, "each customer is listed once"
    lines = lines_of(found["reports"]["csv"])
    assert sorted((line["kind"], line["source_id"]) for line in lines if line["kind"] != "extra") == sorted(
        [
            ("changed", deleted["id"]),
            ("changed", active["id"]),
            ("missing", "src_gone"),
            ("twice", twin(night, doubled)),
        ]
    )
    assert {line["source_id"] for line in lines if line["kind"] == "extra"} == {refused["id"], sources[4]["id"]}
    again = command.json("audit", said["batch"])["differences"]
    assert again["changed"] == 0, "the ledger knows it now"
    night.simulator.control(list_metadata=False)
    blind = command.json("audit", said["batch"])
    assert blind["differences"]["not_comparable"] >= ROWS - 1


def doubled_again(night: Night, one: dict[str, str]) -> None:
    made = requests.post(
        f"{night.simulator.url}/customers/{one['customerId']}/sources",
        headers={"Authorization": "Bearer sk_test_0123456789", "Content-Type": "application/json;charset=utf-8"},
        json={"paymentMethod": "creditcard", "resource": "ios", "metadata": {"onboarding_ref": one["reference"]}},
        timeout=5,
    )
    assert made.status_code == 201, made.text


def twin(night: Night, one: dict[str, str]) -> str:
    return next(other["id"] for other in night.simulator.sources()[ROWS:] if other["reference"] == one["reference"])


def test_an_audit_that_is_interrupted_goes_on_where_it_stopped(night: Night) -> None:
    command = night.machine(ELEPAY_REQUESTS_PER_SECOND=0)
    said = night.run(command, night.file(2500)).json()
    night.simulator.control(latency_ms=50)
    sampled = night.asked("listSources")
    started = night.start(command, "audit", said["batch"], "--json")
    wait_until(lambda: night.asked("listSources") > sampled + 2000, 60, "the audit's second page")
    started.signal(signal.SIGINT)
    assert started.wait(60) == 3
    night.simulator.control(latency_ms=0)
    before = night.asked("listSources")
    assert before < sampled + 2500, "it stopped in the middle of a page"
    found = command.json("audit", said["batch"])
    assert (found["exit"], found["rows"]) == (0, 2500)
    assert night.asked("listSources") <= before + 501, "the first page was not listed again"
    assert not list((command.home / "reports" / str(said["batch"])).glob("*.part"))


def test_old_batches_are_dropped_and_nobody_is_onboarded_twice(night: Night) -> None:
    command = night.machine(ONBOARD_KEEP_DAYS=30)
    file = night.file()
    said = night.run(command, file).json()
    night.judge(command, said)
    ledger = sqlite3.connect(command.home / "ledger.db")
    with ledger:
        ledger.execute("update batches set finished_at = ?", (time.time() - 31 * 86400,))
    ledger.close()
    assert command.json("ledger", "tidy")["rows"] == ROWS
    assert not list((command.home / "files").iterdir())
    assert not list((command.home / "reports").iterdir())
    left = b"".join(path.read_bytes() for path in command.home.glob("ledger.db"))
    assert b"cus_000001" not in left, "not in the file's free pages either"
    refused = command("report", said["batch"])
    assert refused.returncode == 2
    assert "were dropped on" in refused.stderr
    assert command.json("status", said["batch"])["books"]["created"] == ROWS
    again = night.run(command, file).json()
    night.judge(command, again, created=0, skipped=ROWS, sources=ROWS)
