"""The ledger's versions: made from nothing, refused when they do not fit."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from factories import Command, new_row, running_batch
from sqlalchemy import text

from tasks import migrations
from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.schema import VERSION, metadata

MIGRATIONS = Path(__file__).parents[2] / "tasks" / "migrations"


def test_the_migrations_make_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger._read() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLite cannot reflect what a partial index compares
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_is_the_version_of_the_code() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [VERSION]


def test_a_ledger_of_another_version_is_refused_with_what_to_do(ledger: Ledger, ledger_url: str) -> None:
    with ledger._write() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"9999.*newer"):
        Ledger.open(ledger_url)
    with pytest.raises(LedgerError, match=r"9999.*newer"):
        Ledger.upgrade(ledger_url)
    with ledger._write() as connection:
        connection.execute(text("update alembic_version set version_num = '0000'"))
    with pytest.raises(LedgerError, match="onboard ledger upgrade"):
        Ledger.open(ledger_url)


def test_an_upgrade_makes_an_empty_ledger_and_keeps_a_full_one(ledger_url: str) -> None:
    assert Ledger.upgrade(ledger_url) == (None, VERSION)
    ledger = Ledger.open(ledger_url)
    batch = running_batch(ledger, 3)
    assert Ledger.upgrade(ledger_url) == (VERSION, VERSION)
    assert ledger.books(batch).open == 3
    ledger.close()


def test_a_ledger_of_the_first_version_is_brought_up_and_its_pending_sources_are_followed_up(ledger_url: str) -> None:
    first = Ledger._connect(ledger_url)
    with first._write() as connection:
        migrations.upgrade(connection, "0001")
        connection.execute(
            text(
                "insert into batches (name, sha256, state, state_reason, live, records, file_format, created_at)"
                " values ('f.csv', 'x', 'finished', '', false, 3, '{}', 0)"
            )
        )
        for record, state, status in [(1, "created", "pending"), (2, "created", "active"), (3, "refused", None)]:
            connection.execute(
                text(
                    "insert into rows (batch_id, record, line, state, source_id, source_status, sent_at)"
                    " values (1, :r, :r, :s, 'src', :t, 1000.0)"
                ),
                {"r": record, "s": state, "t": status},
            )
    first.close()
    with pytest.raises(LedgerError, match="onboard ledger upgrade"):
        Ledger.open(ledger_url)
    assert Ledger.upgrade(ledger_url) == ("0001", VERSION)
    ledger = Ledger.open(ledger_url)
    assert ledger.books(1).created == 2
    assert [row.record for row in ledger.claim_follow_ups(10)] == [1]
    assert not ledger.batch(1).verify
    ledger.close()


def test_rows_that_were_refused_or_skipped_before_have_yielded_their_identities(ledger_url: str) -> None:
    old = Ledger._connect(ledger_url)
    states = ["waiting", "claimed", "sending", "created", "unclear", "refused", "skipped", "invalid"]
    with old._write() as connection:
        migrations.upgrade(connection, "0003")
        connection.execute(
            text(
                "insert into batches (name, sha256, state, state_reason, live, records, file_format, created_at)"
                " values ('f.csv', 'x', 'running', '', false, 8, '{}', 0)"
            )
        )
        for record, state in enumerate(states, 1):
            identity = None if state == "invalid" else new_row(record).identity
            connection.execute(
                text("insert into rows (batch_id, record, line, state, identity) values (1, :r, :r, :s, :i)"),
                {"r": record, "s": state, "i": identity},
            )
    old.close()
    assert Ledger.upgrade(ledger_url) == ("0003", VERSION)
    ledger = Ledger.open(ledger_url)
    reader = ledger.add_worker("elsewhere", 1, "", 60.0)
    batch = ledger.add_batch(name="g", sha256="y", file_format={}, reader=reader, parent_id=None)
    ledger.add_rows(batch, [new_row(record) for record in range(1, 9)])
    found = {row.record: row.state for row in ledger.report_rows(batch)}
    kept_out = {record for record, state in found.items() if state == "skipped"}
    assert kept_out == {1, 2, 3, 4, 5}
    ledger.close()


def test_the_command_says_from_which_version_to_which(tmp_path: Path) -> None:
    done = Command(tmp_path)("ledger", "upgrade")
    assert done.returncode == 0, done.stderr
    assert VERSION in done.stdout


def test_ledgers_that_are_made_at_once_by_threads_of_a_process_are_all_whole(tmp_path: Path) -> None:
    made: list[Ledger] = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(Ledger.open(f"sqlite:///{tmp_path / f'{n}.db'}")))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [ledger.version() for ledger in made] == [VERSION] * 8
    for ledger in made:
        running_batch(ledger, 1)
        ledger.close()
