"""Nights of which people are told: each event once, whoever dies, and never a value of the file."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from conftest import ROWS, Night
from factories import KEY, Command, wait_until
from listeners import MailServer, free_port
from machines import Started, Valkey, kill
from sqlalchemy import create_engine, text

TOKEN = "tokenthatnobodyshallsee123"
PERSONAL = ("cus_recognise_", "Membership ", "gold")


def told(command: Command) -> list[tuple[str, str, bool]]:
    """Event, channel and whether it was told, of every telling."""
    engine = create_engine(command.ledger_url)
    query = "select kind, channel, told_at from tellings join news on news.id = news_id order by news_id, channel"
    with engine.connect() as connection:
        found = [(row[0], row[1], row[2] is not None) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def hook(folder: Path) -> str:
    script = folder / "hook.sh"
    # one write: two workers may tell at once
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$(cat)" >> "{folder}/told.jsonl"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


def told_by_hook(folder: Path) -> list[dict[str, Any]]:
    path = folder / "told.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


@pytest.mark.representative
def test_a_fleet_tells_each_event_once_with_a_dead_webhook_and_a_killed_worker(
    night: Night, valkey: Valkey, postgres_url: str
) -> None:
    night.simulator.control(latency_ms=20, refuse={"U003005": 0.05})
    with MailServer(free_port()) as mail:
        metrics_port = free_port()
        command = night.machine(
            REDIS_URL=valkey.url,
            LEDGER_URL=postgres_url,
            ELEPAY_REQUESTS_PER_SECOND=100,
            ONBOARD_NOTIFY_URLS=f"{mail.url} mmost://127.0.0.1:{free_port()}/{TOKEN}",
            ONBOARD_NOTIFY_GAP_SECONDS=1,
            ONBOARD_NOTIFY_COMMAND=hook(night.folder),
            ONBOARD_METRICS_PORT=metrics_port,
            ONBOARD_LOG_LEVEL="DEBUG",
        )
        first, second = night.fleet(command)
        night.simulator.control(latency_ms=4_000)  # so that no machine is slow enough to finish before the pause
        started = night.run(command, night.file(prefix="cus_recognise_"), "--no-workers")
        night.until_asked(1)
        assert command("pause", 1).returncode == 0
        night.simulator.control(latency_ms=20)
        assert started.json()["state"] == "paused"
        wait_until(lambda: ("paused", "mailto-1", True) in told(command), 60, "that the pause is told")
        pages = f"http://127.0.0.1:{metrics_port}/metrics"
        wait_until(lambda: 'onboard_batches{state="paused"} 1.0' in requests.get(pages, timeout=10).text)
        page = requests.get(pages, timeout=10).text
        kill(first.pid, signal.SIGKILL)
        assert command("resume", 1).returncode == 0
        command.until_finished(1)
        # who delivers what is for chance to say: the fleet's notifications go out before there is another
        wait_until(lambda: len(told_by_hook(night.folder)) == 2, 60, "that its end is told")
        broken = night.folder / "broken.csv"
        broken.write_text("cus_recognise_9,creditcard,ios\n", encoding="utf-8")
        assert night.run(command, broken, "--no-workers").wait() == 2
        events = ["paused", "finished", "rejected"]
        wait_until(lambda: len(mail.mails) == 3 and len(told_by_hook(night.folder)) == 3, 60, "the telling")
        assert [one["event"] for one in told_by_hook(night.folder)] == events

        def untold() -> list[str]:
            return [channel for _, channel, done in told(command) if not done]

        wait_until(lambda: untold() == ["mmost-1"] * 3, 60, "that all is told, but to the server that is dead")
        said = command.json("status", 1)
        spoken = "".join([*mail.texts(), (night.folder / "told.jsonl").read_text("utf-8")])
    assert said["verdict"].split(";")[0] in spoken
    assert f"{said['books']['refused']} rows: " in spoken
    spoken += "".join(one.err.read_text("utf-8") for one in (first, second, started)) + page
    assert [value for value in (*PERSONAL, KEY, TOKEN) if value in spoken] == []
    counts = said["books"]
    night.judge(
        command,
        said,
        exit_code=1,
        refused=counts["refused"],
        created=ROWS - counts["refused"],
        sources=counts["created"],
    )


def test_one_machine_tells_before_it_ends_and_what_it_could_not_tell_the_next_time(night: Night) -> None:
    night.simulator.control(latency_ms=20)
    mail = MailServer(free_port())
    command = night.machine(
        ONBOARD_NOTIFY_URLS=mail.url, ONBOARD_NOTIFY_COMMAND=hook(night.folder), ONBOARD_NOTIFY_GAP_SECONDS=1
    )
    said = night.run(command, night.file(prefix="cus_recognise_")).json()
    assert [one["event"] for one in told_by_hook(night.folder)] == ["finished"]
    assert told_by_hook(night.folder)[0]["link"] == str(command.home / "reports" / "1")
    assert told(command) == [("finished", "command-1", True), ("finished", "mailto-1", False)]
    night.judge(command, said)
    with mail:
        wait_until(lambda: due(command), 10, "that the mail is due again")
        again: Started = night.run(command, night.folder / "customers.csv")
        assert again.wait() == 0
        told_then = mail.texts()
    assert len(told_then) == 2
    assert f"All {ROWS} created" in told_then[0]
    assert f"0 of {ROWS} created; {ROWS} skipped" in told_then[1]
    assert [one["event"] for one in told_by_hook(night.folder)] == ["finished"] * 2
    assert [value for value in (*PERSONAL, KEY) if value in "".join(told_then)] == []


def test_a_watcher_tells_that_nothing_came_what_it_rejected_and_what_is_done(night: Night) -> None:
    port, drop = free_port(), night.folder / "drop"
    by = datetime.now(ZoneInfo("Asia/Tokyo")) + timedelta(seconds=90)  # half a minute from now at least
    command = night.machine(
        ONBOARD_NOTIFY_COMMAND=hook(night.folder),
        ONBOARD_METRICS_PORT=port,
        ONBOARD_DROP_FOLDER=drop,
        ONBOARD_SETTLE_SECONDS=0.5,
        ONBOARD_SCAN_SECONDS=1,
        ONBOARD_EXPECT_FILE_BY=f"{by:%H:%M}",
    )
    night.start(command, "watch")
    wait_until(lambda: ready(port), 60, "the watcher's start")
    wait_until(lambda: len(told_by_hook(night.folder)) == 1, 120, "the news that nothing came")
    (drop / "inbox" / "broken.csv").write_text("cus_recognise_9,creditcard,ios\n", encoding="utf-8")
    (drop / "inbox" / "link.csv").symlink_to(night.file(10, prefix="cus_recognise_"))
    night.file(name="customers2.csv", prefix="cus_recognise_").rename(drop / "inbox" / "night.csv")
    wait_until(lambda: len(told_by_hook(night.folder)) >= 4, 60, "the telling")
    events = Counter(one["event"] for one in told_by_hook(night.folder))
    assert events == {"nothing_arrived": 1, "rejected": 2, "finished": 1}
    rejected = [one for one in told_by_hook(night.folder) if one["event"] == "rejected"]
    assert {(one.get("file"), one["code"]) for one in rejected} == {
        ("broken.csv", "missing_column"),
        (None, "unreadable_file"),
    }
    page = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    assert 'onboard_pulse_timestamp_seconds{part="watcher"}' in page
    assert 'outcome="created"} 0.0' in page, "the watcher's own; its workers serve nothing"
    spoken = (night.folder / "told.jsonl").read_text("utf-8") + page
    assert [value for value in (*PERSONAL, KEY) if value in spoken] == []


def ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def due(command: Command) -> bool:
    engine = create_engine(command.ledger_url)
    query = f"select count(*) from tellings where due_at < {time.time()}"
    with engine.connect() as connection:
        found = bool(connection.execute(text(query)).scalar_one())
    engine.dispose()
    return found
