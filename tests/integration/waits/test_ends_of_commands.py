"""Whoever is told to end ends, whatever it waits for."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from factories import (
    Command,
    Simulator,
    children,
    command_line,
    wait_until,
    write_csv,
)
from proxy import Proxy

from tasks.ledger import Ledger
from tasks.services import Services
from tasks.settings import load_settings
from worker.embedded_redis import EmbeddedRedis
from worker.health_server import HealthServer

#: What is asked for is five seconds; the rest is for a machine that is busy with other tests.
OBEYED_SECONDS = 5.0 + 10.0


def ends(process: subprocess.Popen[str], signals: list[signal.Signals], within: float = OBEYED_SECONDS) -> str:
    """Send signals and wait for the end; return what the process wrote to stderr."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    try:
        return process.communicate(timeout=within)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"still there {within} s after {signals}: {process.communicate()[1]}") from None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("word", ["run", "watch", "status"])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_command_ends_though_its_ledger_is_silent(
    tmp_path: Path, simulator: Simulator, url: str, proxy: Proxy, word: str, number: signal.Signals
) -> None:
    simulator.control(latency_ms=200)
    command = Command(tmp_path, simulator, LEDGER_URL=url, ELEPAY_REQUESTS_PER_SECOND=20)
    command.json("status")
    file, drop = write_csv(tmp_path / "a.csv", 500), tmp_path / "drop"
    if word == "status":
        proxy.mode = "silent"
        before = proxy.connections
        process = command.start("status")
        wait_until(lambda: proxy.connections > before, 60, "a connection")
    else:
        process = command.start(word, file if word == "run" else drop, "--workers", 1)
        wait_until(lambda: word == "run" or (drop / "inbox").is_dir(), 60, "its folder")
        if word == "watch":
            file.rename(drop / "inbox" / file.name)
        wait_until(lambda: simulator.statistics()["created"] > 3, 60, "its work")
        proxy.mode = "silent"
        time.sleep(1.0)
    ends(process, [number])
    assert process.returncode == 3
    proxy.mode = "pass"
    if word == "run":
        assert command.json("status", 1)["books"]["records"] == 500


def test_a_process_that_hangs_where_nobody_thought_of_is_ended(tmp_path: Path) -> None:
    """As in a wait of the system that goes on after a signal."""
    program = """
import fcntl, sys
from worker.interrupts import Interrupts
with Interrupts() as interrupts, interrupts.counted(), open(sys.argv[1]) as file:
    print("ready", flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)
"""
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-c", program, file.name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert "Nothing is lost" in ends(process, [signal.SIGTERM])
    assert process.returncode == 3


def test_what_takes_notice_of_a_signal_has_the_time_it_needs_and_the_second_ends_it(tmp_path: Path) -> None:
    program = """
import time
from worker.interrupts import Interrupts
with Interrupts() as interrupts, interrupts.counted():
    print("ready", flush=True)
    while not interrupts.count:
        time.sleep(0.05)
    print("noticed", flush=True)
    time.sleep(6)
    print("in order", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "noticed\n"
    assert process.stdout.readline() == "in order\n"
    ends(process, [signal.SIGINT])
    assert process.returncode == 3


@pytest.mark.resilience
@pytest.mark.representative
def test_a_worker_ends_though_its_ledger_and_its_redis_are_silent(
    tmp_path: Path, simulator: Simulator, url: str, proxy: Proxy
) -> None:
    (tmp_path / "redis").mkdir()
    with EmbeddedRedis(tmp_path / "redis") as server, Proxy(server.url.removeprefix("unix://")) as redis:
        command = Command(
            tmp_path,
            simulator,
            LEDGER_URL=url,
            REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
            ELEPAY_REQUESTS_PER_SECOND=20,
            ONBOARD_METRICS_PORT=0,
        )
        command.json("status")
        worker = command.start("worker")
        run = command.start("run", "--no-workers", write_csv(tmp_path / "a.csv", 2000))
        wait_until(lambda: simulator.statistics()["created"] > 5, 60, "a source")
        proxy.mode = redis.mode = "silent"
        time.sleep(1.0)
        ends(worker, [signal.SIGTERM])
        assert worker.returncode == 0
        ends(run, [signal.SIGTERM])
        assert run.returncode == 3
        proxy.mode = redis.mode = "pass"
        assert command.json("status", 1)["books"]["balance"]


@pytest.mark.resilience
def test_an_idle_worker_whose_command_was_killed_ends_though_its_ledger_is_gone(
    tmp_path: Path, simulator: Simulator, url: str, proxy: Proxy
) -> None:
    command = Command(tmp_path, simulator, LEDGER_URL=url)
    command.json("status")
    watch = command.start("watch", tmp_path / "drop", "--workers", 1)
    (tmp_path / "drop" / "inbox").mkdir(parents=True, exist_ok=True)
    write_csv(tmp_path / "a.csv", 4).rename(tmp_path / "drop" / "inbox" / "a.csv")
    wait_until(lambda: list((tmp_path / "drop" / "archive").glob("*/*/file/*")), 60, "the end of a file")
    (worker,) = (pid for pid in children(watch.pid) if b"worker.cli\0worker" in command_line(pid))
    proxy.mode = "cut"
    watch.kill()
    watch.communicate(timeout=10)
    wait_until(lambda: not command_line(worker), 60, "the end of the worker")


@pytest.mark.resilience
def test_a_worker_leaves_a_connection_to_redis_that_is_open_and_dead(
    tmp_path: Path, simulator: Simulator, redis_url: str
) -> None:
    with Proxy(redis_url.removeprefix("unix://")) as redis:
        command = Command(tmp_path, simulator, REDIS_URL=f"redis://127.0.0.1:{redis.port}/0", ONBOARD_METRICS_PORT=0)
        worker = command.start("worker")
        assert command.json("run", "--no-workers", write_csv(tmp_path / "a.csv", 10))["books"]["created"] == 10
        redis.mode = "lost"
        said = command.json("run", "--no-workers", write_csv(tmp_path / "b.csv", 10, prefix="b_"))
        assert said["books"]["created"] == 10
        ends(worker, [signal.SIGTERM])
        assert worker.returncode == 0


@pytest.mark.resilience
def test_acknowledgements_that_meet_a_lost_connection_do_not_stop_a_worker(
    tmp_path: Path, simulator: Simulator, redis_url: str
) -> None:
    """As many of them as it has threads, at the same time; what it has taken is held against what it works on."""
    simulator.control(latency_ms=3000)
    with Proxy(redis_url.removeprefix("unix://")) as redis:
        command = Command(
            tmp_path,
            simulator,
            REDIS_URL=f"redis://127.0.0.1:{redis.port}/0",
            ONBOARD_METRICS_PORT=0,
            ONBOARD_SLICE_ROWS=10,
        )
        worker = command.start("worker")
        run = command.start("run", "--no-workers", "--json", write_csv(tmp_path / "a.csv", 200))
        wait_until(lambda: simulator.statistics()["requests"].get("createSource", 0) >= 40, 60, "four slices")
        redis.mode = "cut"
        ledger = Ledger.open(command.ledger_url)
        wait_until(lambda: ledger.queries.counts(1).created >= 40, 60, "their answers, which are recorded")
        ledger.close()
        time.sleep(4.0)  # until their messages are acknowledged in vain
        simulator.control(latency_ms=10)
        redis.mode = "pass"
        out, err = run.communicate(timeout=120)
        assert (run.returncode, '"created": 200' in out) == (0, True), err
        said = ends(worker, [signal.SIGTERM])
        assert "Couldn't ack" in said


@pytest.mark.parametrize("words", [("audit", 1), ("doctor",), ("check", "b.csv")])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_command_that_asks_elepay_ends_though_elepay_is_silent(
    tmp_path: Path, simulator: Simulator, words: tuple[object, ...]
) -> None:
    ends_though_elepay_is_silent(tmp_path, simulator, words)


@pytest.mark.parametrize("words", [("audit", 1), ("follow-up",)])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_command_ends_though_only_some_of_its_threads_see_the_signal(
    tmp_path: Path, simulator: Simulator, words: tuple[object, ...]
) -> None:
    """At one request a second some wait for their answer, and others for their place: these do see it."""
    ends_though_elepay_is_silent(tmp_path, simulator, words, ELEPAY_REQUESTS_PER_SECOND=1, ONBOARD_FOLLOW_UP_SHARE=1)


def ends_though_elepay_is_silent(
    folder: Path, simulator: Simulator, words: tuple[object, ...], **settings: float
) -> None:
    with Proxy(int(simulator.url.rpartition(":")[2])) as elepay:
        address = {"ELEPAY_BASE_URL": f"http://127.0.0.1:{elepay.port}", "ONBOARD_FOLLOW_UP_HOURS": "0.0001"}
        command = Command(folder, simulator, **address)
        assert command.json("run", "--workers", 1, write_csv(folder / "a.csv", 10))["books"]["created"] == 10
        write_csv(folder / "b.csv", 10, prefix="b_")
        elepay.mode = "silent"
        before = elepay.connections
        process = Command(folder, simulator, **address, **settings).start(*words)
        wait_until(lambda: elepay.connections > before, 60, "a connection")
        ends(process, [signal.SIGTERM])
        assert process.returncode == 3


def test_doctor_and_readyz_say_that_a_ledger_can_only_be_read(
    tmp_path: Path, simulator: Simulator, postgres_url: str, postgres_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(tmp_path, simulator, LEDGER_URL=postgres_url, PGTARGETSESSIONATTRS="any")
    command.json("status")
    name = postgres_url.split("@/")[1].split("?", maxsplit=1)[0]
    with psycopg.connect(f"{postgres_folder} dbname=postgres", autocommit=True) as direct:
        direct.execute(f"alter database {name} set default_transaction_read_only = on")
    said = command.json("doctor")
    (finding,) = [one for one in said["findings"] if one["subject"] == "ledger"]
    assert said["exit"] == 2
    assert not finding["ok"]
    assert "read-only" in finding["says"]
    assert command.json("status")["exit"] == 0, "it can be read"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "any")
    ours = Services(load_settings({**command.environment}))
    pages = HealthServer(ours)
    # what asks for its pages goes on to ask while this process lives, so its ledger is not closed
    wait_until(lambda: "ledger does not answer" in pages.readyz()[1].decode(), 20, "the word about it")
