"""Every wait for a ledger ends: one that stops answering is left, and used again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from factories import (
    new_worker,
    running_batch,
    wait_until,
    whole,
)
from proxy import Proxy

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.models import BatchState


def test_a_ledger_that_says_nothing_is_left_and_used_again(
    url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ledger.engine.ANSWER_SECONDS", 1.0)
    ledger = Ledger.open(url)
    batch = running_batch(ledger, 10)
    proxy.mode = "silent"
    for call in (
        lambda: ledger.batches.get(batch),
        lambda: new_worker(ledger),
        lambda: ledger.leases.claim(whole(batch), 1),
    ):
        started = time.monotonic()
        with pytest.raises(LedgerError, match=r"has not answered for \d+ seconds|timeout"):
            call()
        assert time.monotonic() - started < 20
    proxy.mode = "pass"
    assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 10
    ledger.close()


def test_a_call_that_hangs_already_is_given_up_soon_after_the_process_was_told_to_end(url: str, proxy: Proxy) -> None:
    ledger = Ledger.open(url)
    proxy.mode = "silent"
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(LedgerError, match="not answer"):
            ledger.batches.newest()
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    time.sleep(0.5)
    ledger.hurry()
    assert ended.wait(15), "it would have waited for 30 seconds"
    started = time.monotonic()
    with pytest.raises(LedgerError, match="is ending"):
        ledger.batches.newest()
    assert time.monotonic() - started < 10, "it is asked once"
    ledger.close()


def test_an_answer_that_comes_slowly_is_waited_for(url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.ledger.engine.ANSWER_SECONDS", 1.5)
    ledger = Ledger.open(url)
    running_batch(ledger, 10)
    proxy.mode = "slow"
    started = time.monotonic()
    with psycopg.connect(url.replace("+psycopg", "")) as direct:
        direct.execute("select repeat('x', 5000)").fetchone()
    assert time.monotonic() - started > 1.5, "this is slow enough"
    assert ledger.batches.newest()
    ledger.close()


def test_limits_hold_in_every_transaction_and_outside_of_none(postgres_url: str) -> None:
    ledger = Ledger.open(postgres_url)
    show = "select current_setting('lock_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout')"
    for transaction in (ledger.engine.write, ledger.engine.read):
        with transaction() as connection:
            assert connection.exec_driver_sql(show).scalar_one() == "15s 10s"
    with ledger.engine.sqlalchemy_engine.connect().execution_options(alone=True) as connection:
        assert connection.exec_driver_sql(show).scalar_one() == "0 0"
    ledger.close()


def test_a_process_that_is_stopped_while_it_writes_to_sqlite_is_named_by_those_who_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.ledger.engine.ANSWER_SECONDS", 1.0)
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger.open(url)
    batch = running_batch(ledger, 10)
    program = """
import fcntl, sys, time
with open(sys.argv[1], "ab") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("has it", flush=True)
    time.sleep(60)
"""
    holder = subprocess.Popen([sys.executable, "-c", program, tmp_path / "ledger.db.lock"], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"has it\n"
    holder.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    waiting = [threading.Thread(target=expect_late, args=(ledger, holder.pid)) for _ in range(3)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join(20)
    assert time.monotonic() - started < 10
    assert ledger.batches.get(batch).state is BatchState.RUNNING, "it can be read"
    holder.kill()
    holder.communicate(timeout=10)
    assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 10, "whoever gave up keeps nothing"
    ledger.close()


def expect_late(ledger: Ledger, holder: int) -> None:
    """Write, which fails."""
    with pytest.raises(
        LedgerError, match=rf"kept the ledger from being written for 1 seconds \(process ({holder}|\?)\)"
    ):
        new_worker(ledger)


@pytest.mark.resilience
@pytest.mark.representative
def test_a_process_that_is_frozen_in_the_middle_of_a_pipeline_keeps_no_rows(postgres_url: str) -> None:
    """PostgreSQL's own limit for idle transactions does not hold there: the session counts as active."""
    ledger = Ledger.open(postgres_url)
    batch = running_batch(ledger, 10)
    worker = new_worker(ledger, lease_seconds=0.5, longest_request_seconds=0.5)
    assert len(ledger.leases.claim(whole(batch), worker.number)) == 10
    frozen = psycopg.pq.PGconn.connect(postgres_url.replace("+psycopg", "").encode())
    frozen.exec_(b"begin; set local idle_in_transaction_session_timeout = '10s'")
    frozen.enter_pipeline_mode()
    frozen.send_query_params(b"update rows set attempts = attempts", [])
    frozen.send_flush_request()  # and nothing more: the pipeline is not complete
    frozen.flush()
    wait_until(lambda: reaped(ledger) == 10, 45, "the rows of the worker")
    assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 10
    frozen.finish()
    ledger.close()


def reaped(ledger: Ledger) -> int:
    """Take back what dead workers hold, if nobody has locked it; return how many rows."""
    with contextlib.suppress(LedgerError):
        return ledger.reaper.reap(look_up_delay_seconds=0)
    return 0


def test_a_server_that_was_made_read_only_is_left_for_one_that_writes(postgres_url: str, postgres_folder: str) -> None:
    """As after a failover: the server of the open connections cannot write any more, new ones reach one that can."""
    ledger = Ledger.open(postgres_url)
    batch = running_batch(ledger, 10)
    with psycopg.connect(f"{postgres_folder} dbname=postgres", autocommit=True) as direct:
        try:
            direct.execute("alter system set default_transaction_read_only = on")
            direct.execute("select pg_reload_conf()")
            wait_until(lambda: refuses(ledger), 20, "a server that cannot write")
            with pytest.raises(LedgerError, match="read-only"):
                ledger.batches.newest()
        finally:
            direct.execute("set default_transaction_read_only = off")
            direct.execute("alter system reset default_transaction_read_only")
            direct.execute("select pg_reload_conf()")
    wait_until(lambda: not refuses(ledger), 20, "one that writes")
    assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 10
    ledger.close()


def refuses(ledger: Ledger) -> bool:
    """Tell whether a ledger can only be read."""
    try:
        ledger.require_writable()
    except LedgerError:
        return True
    return False
