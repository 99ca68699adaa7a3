"""The ledger's versions: made from nothing, refused when they do not fit."""

from __future__ import annotations

import shutil
import threading
import warnings
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from factories import ROOT, Command, running_batch
from sqlalchemy import text

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.ledger.schema import VERSION, metadata

MIGRATIONS = Path(__file__).parents[2] / "tasks" / "ledger" / "migrations"


def test_the_migrations_make_exactly_the_tables_of_the_schema(ledger: Ledger) -> None:
    with ledger.engine.read() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLite cannot reflect what a partial index compares
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_migration_is_the_version_of_the_code() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_heads() == [VERSION]


def test_a_ledger_of_another_version_is_refused_with_what_to_do(ledger: Ledger, ledger_url: str) -> None:
    with ledger.engine.write() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"9999.*newer"):
        Ledger.open(ledger_url)
    with pytest.raises(LedgerError, match=r"9999.*newer"):
        Ledger.upgrade(ledger_url)
    with ledger.engine.write() as connection:
        connection.execute(text("update alembic_version set version_num = '0000'"))
    with pytest.raises(LedgerError, match="onboard ledger upgrade"):
        Ledger.open(ledger_url)


def test_an_upgrade_makes_an_empty_ledger_and_keeps_a_full_one(ledger_url: str) -> None:
    assert Ledger.upgrade(ledger_url) == (None, VERSION)
    ledger = Ledger.open(ledger_url)
    batch = running_batch(ledger, 3)
    assert Ledger.upgrade(ledger_url) == (VERSION, VERSION)
    assert ledger.queries.counts(batch).open == 3
    ledger.close()


NEXT_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("batches", sa.Column("later", sa.Text(), server_default="so far", nullable=False))
    op.drop_index("rows_by_state", "rows")
    op.create_index("rows_by_state", "rows", ["batch_id", "state", "record", "line"])
"""


def program_of_the_next_version(folder: Path) -> Path:
    """A copy of this program whose ledger has one more column, and another index."""
    for name in ("tasks", "worker"):
        shutil.copytree(ROOT / name, folder / name)  # with what is compiled
    (folder / "tasks/ledger/migrations/versions/0002_later.py").write_text(NEXT_MIGRATION, encoding="utf-8")
    schema = folder / "tasks/ledger/schema.py"
    for old, new in [
        (f'VERSION = "{VERSION}"', 'VERSION = "0002"'),
        ("rows.c.batch_id, rows.c.state, rows.c.record)", "rows.c.batch_id, rows.c.state, rows.c.record, rows.c.line)"),
        (
            'Column("address", Text, nullable=False),',
            'Column("address", Text, nullable=False), Column("later", Text, server_default="so far", nullable=False),',
        ),
    ]:
        text_of_schema = schema.read_text("utf-8")
        assert old in text_of_schema
        schema.write_text(text_of_schema.replace(old, new), encoding="utf-8")
    return folder


def test_a_full_ledger_is_brought_to_the_next_version_and_refused_by_the_program_before_it(
    tmp_path: Path, ledger: Ledger, ledger_url: str
) -> None:
    batch = running_batch(ledger, 3)
    ours = Command(tmp_path, LEDGER_URL=ledger_url)
    next_one = Command(tmp_path, LEDGER_URL=ledger_url)
    next_one.source = program_of_the_next_version(tmp_path / "next")
    too_old = next_one("status")
    assert too_old.returncode == 2
    assert "onboard ledger upgrade" in too_old.stderr
    done = next_one("ledger", "upgrade")
    assert done.returncode == 0, done.stderr
    assert "0001" in done.stdout
    assert "0002" in done.stdout
    assert next_one.json("status", batch)["books"]["open"] == 3
    with ledger.engine.read() as connection:
        assert connection.execute(text("select later from batches")).scalar_one() == "so far"
    for refused in (ours("status"), ours("ledger", "upgrade")):
        assert refused.returncode == 2
        assert "newer" in refused.stderr


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
