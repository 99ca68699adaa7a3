"""`/metrics`, `/healthz` and `/readyz` of a real worker, and what they say when something is missing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from factories import (
    KEY,
    Command,
    Simulator,
    answer,
    in_the_way,
    new_row,
    new_worker,
    running_batch,
    wait_until,
    whole,
    write_csv,
)
from listeners import free_port
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from tasks.ledger import Ledger
from tasks.models import BatchState, RowState
from tasks.services import Services
from tasks.settings import load_settings
from worker.health_server import HealthServer, Pulse, serve


def samples(text: str) -> dict[str, float]:
    """Every sample of a page, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class Page:
    """The pages at one port."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> tuple[int, str]:
        try:
            answered = requests.get(self.base + path, timeout=10)
        except requests.ConnectionError:
            return 0, ""
        return answered.status_code, answered.text

    def samples(self) -> dict[str, float]:
        return samples(self.get("/metrics")[1])


@pytest.fixture
def fleet_command(tmp_path: Path, simulator: Simulator, redis_url: str) -> Iterator[tuple[Command, Page, list[Any]]]:
    port = free_port()
    command = Command(tmp_path, simulator, REDIS_URL=redis_url, ONBOARD_METRICS_PORT=port)
    started: list[Any] = []
    yield command, Page(port), started
    for one in started:
        one.kill()
        one.communicate()


def test_a_worker_shows_what_it_did_and_never_whose_rows_they_were(
    fleet_command: tuple[Command, Page, list[Any]], simulator: Simulator, tmp_path: Path
) -> None:
    command, page, started = fleet_command
    simulator.control(refuse={"U003005": 0.2})
    started.append(command.start("worker", "--name", "1"))
    wait_until(lambda: page.get("/readyz")[0] == 200, what="a worker that is ready")
    assert page.get("/healthz") == (200, "ok\n")
    assert page.get("/elsewhere")[0] == 404
    said = command.json("run", "--no-workers", write_csv(tmp_path / "a.csv", 100, prefix="cus_recognise_"))
    counts = said["books"]
    assert counts["created"] + counts["refused"] == 100
    wait_until(lambda: "onboard_last_finished_timestamp_seconds" in page.samples(), what="an answer of the ledger")
    wait_until(lambda: page.samples()["onboard_last_finished_timestamp_seconds"] > 0, what="the batch's end")
    found = page.samples()
    counted = simulator.statistics()
    assert found["onboard_requests_total{outcome=created}"] == counts["created"] == counted["created"]
    assert found["onboard_requests_total{outcome=refused}"] == counts["refused"]
    assert found["onboard_answer_seconds_count"] == found["onboard_answer_seconds_bucket{le=+Inf}"] == 100
    assert found["onboard_waves_total"] >= 2
    assert found["onboard_limit_requests_per_second"] == found["onboard_rate_requests_per_second"]
    assert found["onboard_rows{state=waiting}"] == found["onboard_oldest_open_row_timestamp_seconds"] == 0
    assert abs(found["onboard_pulse_timestamp_seconds{part=sweep}"] - time.time()) < 60
    text = page.get("/metrics")[1]
    assert "recognise" not in text
    assert KEY not in text
    assert "a.csv" not in text
    started[0].terminate()
    assert started[0].wait(60) == 0


def test_a_worker_whose_port_is_taken_works_all_the_same(
    fleet_command: tuple[Command, Page, list[Any]], tmp_path: Path
) -> None:
    command, _, started = fleet_command
    with socket.create_server(("127.0.0.1", int(command.environment["ONBOARD_METRICS_PORT"]))):
        started.append(command.start("worker", "--name", "1"))
        said = command.json("run", "--no-workers", write_csv(tmp_path / "a.csv", 10))
    assert said["books"]["created"] == 10
    started[0].terminate()
    assert "metrics are not served" in started[0].communicate(timeout=60)[1]


def test_a_watcher_is_unhealthy_while_it_cannot_scan_its_folder(
    fleet_command: tuple[Command, Page, list[Any]], tmp_path: Path
) -> None:
    command, page, started = fleet_command
    inbox = tmp_path / "drop" / "inbox"
    settings = {"ONBOARD_DROP_FOLDER": inbox.parent, "ONBOARD_SCAN_SECONDS": 0.2, "ONBOARD_WATCHDOG_SECONDS": 2}
    command.environment.update({name: str(value) for name, value in settings.items()})
    started.append(command.start("watch", "--no-workers"))
    wait_until(lambda: page.get("/readyz")[0] == page.get("/healthz")[0] == 200, what="a watcher that is ready")
    with in_the_way(inbox):
        wait_until(lambda: page.get("/healthz") == (503, "watcher stands still\n"), what="the failed health check")
        before = page.samples()["onboard_pulse_timestamp_seconds{part=watcher}"]
        assert page.get("/readyz")[0] == 200, "ledger and Redis answer"
    wait_until(lambda: page.get("/healthz") == (200, "ok\n"), what="the next scan")
    assert page.samples()["onboard_pulse_timestamp_seconds{part=watcher}"] > before
    started[0].terminate()
    assert started[0].wait(60) == 0


def test_without_redis_a_process_is_alive_but_not_ready(tmp_path: Path) -> None:
    settings = load_settings({"ONBOARD_HOME": str(tmp_path), "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
    pages = HealthServer(Services(settings))
    wait_until(lambda: b"ledger ok" in pages.readyz()[1], what="an answer of the ledger")
    assert pages.readyz() == (503, b"ledger ok\nredis does not answer\nelepay ok\n")
    assert pages.healthz()[0] == 200
    found = samples(pages.metrics()[1].decode())
    assert (found["onboard_ready{part=ledger}"], found["onboard_ready{part=redis}"]) == (1, 0)
    assert "onboard_rate_requests_per_second" not in found


def test_a_loop_that_has_stopped_makes_its_process_unhealthy(tmp_path: Path) -> None:
    services = Services(load_settings({"ONBOARD_HOME": str(tmp_path)}))
    pulse = Pulse(0.2)
    said: list[str] = []
    pages = HealthServer(services, trouble=lambda: "".join(said), pulses={"watcher": pulse})
    wait_until(lambda: pages.healthz() == (503, b"watcher stands still\n"), what="the end of its limit")
    pulse.limit_seconds = 60
    assert pages.healthz()[0] == 200
    said.append("the sending loop has failed")
    assert pages.healthz() == (503, b"the sending loop has failed\n")


def test_port_zero_serves_nothing() -> None:
    assert serve(lambda: pytest.fail("nobody asked"), "127.0.0.1", 0) is None


def test_the_overview_counts_what_is_unfinished_and_what_waits_for_a_person(ledger: Ledger) -> None:
    done, second = (running_batch(ledger, [new_row(1, state="invalid")]) for _ in range(2))
    first = running_batch(ledger, 3)
    assert ledger.lifecycle.close(done)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(first), worker.number)
    worker.mark(held)
    worker.record(
        answer(held[0], RowState.UNCLEAR, code="lookup_inconclusive"),
        answer(held[1], RowState.UNCLEAR, code="read_timeout", not_before=1.0),
    )
    seen = ledger.queries.overview()
    assert seen.batches == {BatchState.RUNNING: 2}
    assert seen.rows == {RowState.UNCLEAR: 2, RowState.SENDING: 1, RowState.INVALID: 1}
    assert ledger.open_work.count().by_state == {"invalid": 2, "unclear": 1}
    assert seen.oldest_open_at == ledger.batches.get(first).created_at
    assert seen.last_finished_at == ledger.batches.get(done).finished_at
    ledger.lifecycle.change_state(second, BatchState.PAUSED, None, only_from=[BatchState.RUNNING])
    ledger.lifecycle.change_state(first, BatchState.CANCELLED, None, only_from=[BatchState.RUNNING])
    seen = ledger.queries.overview()
    assert seen.batches == {BatchState.PAUSED: 1}
    assert seen.rows == {RowState.INVALID: 1}
    assert ledger.open_work.count().by_state["unclear"] == 2, "nobody looks rows of a cancelled batch up"


def test_the_overview_of_a_large_ledger_asks_by_the_indexes(tmp_path: Path) -> None:
    """SQLite, left to itself, would look at every row for those that wait for a person."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    running_batch(ledger, 5)
    plans: list[str] = []

    @event.listens_for(ledger.engine.sqlalchemy_engine, "before_cursor_execute")
    def explain(_connection: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            plans.extend(str(line[3]) for line in cursor.connection.execute(f"explain query plan {statement}", values))

    ledger.queries.overview()
    ledger.open_work.count()
    ledger.close()
    assert any("rows_by_state (batch_id=? AND state=?)" in plan for plan in plans)
    rows = [plan for plan in plans if "rows" in plan]
    assert [plan for plan in rows if "rows_by_state" not in plan and "record=?" not in plan] == []
