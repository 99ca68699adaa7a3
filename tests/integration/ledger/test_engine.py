"""What the ledger says when it fails, its numbers, and transactions that do not end."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from factories import new_worker, running_batch, whole
from sqlalchemy import text

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.ledger.postgres import IDLE_IN_TRANSACTION_SECONDS


def test_a_ledger_error_quotes_neither_statement_nor_values(ledger: Ledger) -> None:
    running_batch(ledger, 1)
    with pytest.raises(LedgerError) as caught, ledger.engine.write() as connection:
        connection.execute(text("select secret_column from nowhere where name = 'TARO YAMADA'"))
    assert "TARO" not in str(caught.value)


def test_an_unreachable_ledger_is_one_sentence() -> None:
    with pytest.raises(LedgerError, match="the ledger failed"):
        Ledger.open("postgresql+psycopg://nobody@127.0.0.1:9/none")
    with pytest.raises(LedgerError, match="LEDGER_URL"):
        Ledger.open("not a url")
    with pytest.raises(LedgerError, match="memory"):
        Ledger.open("sqlite://")


def test_no_number_is_given_twice_not_even_after_its_line_was_deleted(ledger: Ledger) -> None:
    """A process that wakes after its line was deleted must not pass for another one."""
    first = ledger.workers.add("host", 1, "", 30)
    ledger.workers.end(first)
    ledger.reaper.reap(look_up_delay_seconds=1)
    assert ledger.workers.processes() == []
    second = ledger.workers.add("host", 2, "", 30)
    assert second != first
    told = {"name": "f.csv", "sha256": "0" * 64, "file_format": {}, "reader": second, "parent_id": None}
    batch = ledger.batches.add(**told)
    ledger.batches.discard(batch)
    assert ledger.batches.add(**told) != batch


def test_a_process_frozen_in_a_transaction_does_not_hold_up_the_fleet(postgres_url: str) -> None:
    """PostgreSQL takes its locks away after a while; by itself it would wait until the process wakes."""
    ledger, frozen = Ledger.open(postgres_url), Ledger.open(postgres_url)
    batch = running_batch(ledger, 5)
    with contextlib.suppress(LedgerError), frozen.engine.write() as connection:
        connection.execute(text("update rows set code = 'held'"))
        started = time.monotonic()
        assert len(ledger.leases.claim(whole(batch), new_worker(ledger).number)) == 5
        assert time.monotonic() - started > IDLE_IN_TRANSACTION_SECONDS / 2, "it had to wait"
    assert ledger.queries.report_row(batch, 1).code == "", "what the frozen one had written is undone"
    frozen.close()
    ledger.close()


def test_a_file_that_another_process_makes_a_ledger_at_this_moment_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself does not wait for the journal mode while another process writes in the old one."""
    path = tmp_path / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    ends = threading.Timer(0.5, other.rollback)
    ends.start()
    ledger = Ledger.open(f"sqlite:///{path}")
    assert ledger.batches.newest() == []
    ends.join()
    ledger.close()
    other.close()


def test_a_ledger_that_another_process_makes_at_this_moment_is_not_taken_for_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, and so is its copy in the home, just after this process has seen that it is not."""
    url, home = f"sqlite:///{tmp_path / 'home' / 'ledger.db'}", tmp_path / "home"
    exists, made = Path.exists, []

    def exists_too_early(path: Path) -> bool:
        said = exists(path)
        if path.name == "ledger.db" and not said and not made:
            made.append(path)
            other = Ledger.open(url, home=home)
            running_batch(other, 1)
            other.close()
            assert list(home.glob("ledger-seen-*.json"))
        return said

    monkeypatch.setattr(Path, "exists", exists_too_early)
    Ledger.open(url, home=home).close()
    assert made
