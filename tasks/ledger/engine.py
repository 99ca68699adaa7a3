"""One database: connections, transactions and the clock that leases are measured by."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    Float,
    Update,
    cast,
    create_engine,
    event,
    extract,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, SQLAlchemyError
from sqlalchemy.sql.compiler import SQLCompiler

from tasks.error_texts import Said, Words, system_reason
from tasks.errors import LedgerError
from tasks.ledger.memory import Memory, copy_of
from tasks.ledger.timeouts import ANSWER_SECONDS, Timeouts
from tasks.ledger.write_lock import WriteLock

#: What drivers raise for a value that the database cannot hold: a NUL, a lone surrogate, a number that is too large.
BAD_VALUES = (DataError, UnicodeError, OverflowError)
#: Two processes that make one file a ledger at the same time are done within this.
WAL_SECONDS = 10.0
#: A comparison of this machine's clock with the server's is valid for so long.
COMPARED_SECONDS = 120.0


class UnwritableValue(LedgerError):
    """A value that the database cannot hold; nothing of its transaction was written."""


class LedgerEngine:
    """Transactions on one database, which all parts of the ledger share; safe to share between threads."""

    def __init__(self, engine: Engine, memory: Memory, patience: Timeouts, lock_path: Path | None = None) -> None:
        self.memory = memory
        self.is_sqlite = engine.dialect.name == "sqlite"
        #: `insert` of the database's own dialect, which knows `on_conflict_do_nothing`.
        self.insert: Any = sqlite.insert if self.is_sqlite else postgresql.insert
        self._engine, self._patience = engine, patience
        self._write_lock = None if lock_path is None else WriteLock(lock_path, patience)
        self._ahead = 0.0  # how far the ledger's clock is ahead of this machine's
        self._compared_until = 0.0
        self._compiled: dict[Update, SQLCompiler] = {}
        event.listen(engine, "connect", lambda *_: memory.look_again())

    @classmethod
    def connect(
        cls, url: str, home: Path | None = None, *, makes: bool = False, must_exist: Said | None = None
    ) -> Self:
        """Return the database behind an SQLAlchemy URL; nothing is read or written yet.

        `home` is the folder that keeps what was last seen of the ledger, `makes` allows a new ledger where there was
        one, `must_exist` is what to say if there is no file of this name. Raises LedgerError.
        """
        parsed = _parse(url)
        place, copy = _place(parsed), None if home is None else copy_of(home, parsed)
        patience = Timeouts(None if makes else ANSWER_SECONDS)
        if parsed.get_backend_name() != "sqlite":
            from tasks.ledger.postgres import postgres_engine  # its driver is an extra

            return cls(postgres_engine(parsed, patience), Memory(place, copy), patience)
        if not parsed.database or parsed.database == ":memory:":
            raise LedgerError("LEDGER_URL: a ledger in memory would be lost; give it a file")
        path = Path(parsed.database)
        memory = Memory(place, copy, [path, path.with_name(path.name + "-wal")])
        if must_exist is not None and not path.exists():
            raise LedgerError(must_exist)
        copied = memory.copied()
        if not makes and not path.exists():
            memory.require_new_place(copied)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
        except OSError as error:
            raise LedgerError(
                "the ledger cannot be kept at {path} ({why}): set ONBOARD_HOME to a writable folder",
                path=path,
                why=system_reason(error),
            ) from error
        return cls(_sqlite_engine(parsed), memory, patience, path.with_name(path.name + ".lock"))

    @staticmethod
    def is_there(url: str) -> bool:
        """Return False if there is surely no database behind an SQLAlchemy URL: no file. Raises LedgerError."""
        parsed = _parse(url)
        return parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).exists()

    @property
    def place(self) -> str:
        """Where it is, for people: an absolute path, or host and database; never a password."""
        return _place(self._engine.url)

    @property
    def sqlalchemy_engine(self) -> Engine:
        """What is below it, for whoever needs to listen to its events."""
        return self._engine

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def hurry(self) -> None:
        """Wait no longer than a few seconds for the server from now on: this process is ending."""
        self._patience.hurry()

    @property
    def hurries(self) -> bool:
        """Whether this process is ending."""
        return self._patience.hurries

    def wait_for_ever(self) -> None:
        """Give the server as long as it likes from now on: what follows may change every row."""
        self._patience.seconds = None

    # ------------------------------------------------------------------ the clock

    def now(self) -> float:
        """Return the ledger's time, in UTC epoch seconds, so that machines whose clocks differ agree on what is due.

        On PostgreSQL this machine's clock, corrected by the server's every few minutes, before a transaction.
        """
        return time.time() + self._ahead

    @property
    def sql_now(self) -> ColumnElement[float]:
        """The time that leases are measured by: the server's, so that machines need not agree."""
        if self.is_sqlite:
            return literal(time.time(), Float())
        return cast(extract("epoch", func.clock_timestamp()), Float(53))

    @property
    def clock_ahead_seconds(self) -> float:
        """How far the ledger's clock is ahead of this machine's; 0 for SQLite, which has none."""
        return 0.0 if self.is_sqlite else self._compare_clocks()

    def _compare_clocks_if_due(self) -> None:
        """Correct the clock; never within a transaction, which would hold one session and wait for another."""
        if not self.is_sqlite and time.monotonic() > self._compared_until:
            self._compared_until = time.monotonic() + COMPARED_SECONDS
            with contextlib.suppress(LedgerError):  # out of reach: the last comparison is still valid
                self._ahead = self._compare_clocks()

    def _compare_clocks(self) -> float:
        before = time.time()
        with self.read() as connection:
            theirs = connection.execute(select(cast(extract("epoch", func.clock_timestamp()), Float(53)))).scalar_one()
        return float(theirs) - (before + time.time()) / 2

    # ------------------------------------------------------------------ transactions

    @contextlib.contextmanager
    def write(self, *, remembered: bool = False) -> Iterator[Connection]:
        """Begin a transaction that writes; one that is `remembered` lets the ledger's counter grow.

        On SQLite the counter grows in it. On PostgreSQL it grows just after it, so that no worker
        waits, with leased rows, for another's counter; a commit that was not counted has not failed.
        """
        seen = None
        self._compare_clocks_if_due()
        with contextlib.ExitStack() as stack, _ledger_errors():
            if self._write_lock is not None:
                stack.enter_context(self._write_lock.held())
            connection = stack.enter_context(self._engine.connect().execution_options(writes=True))
            with connection.begin():
                yield connection
                if remembered:
                    self.memory.changed()
                    if self.is_sqlite and self.memory.is_growth_due():
                        seen = self.memory.grow(connection)
        if seen is not None:
            self.memory.keep(seen)
        elif remembered:
            self.memory.changed()
            with contextlib.suppress(LedgerError):
                self.remember()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a transaction that only reads."""
        self._compare_clocks_if_due()
        with _ledger_errors(), self._engine.connect() as connection:
            yield connection
            connection.commit()  # psycopg forgets what it has prepared at each ROLLBACK

    def remember(self, *, at_once: bool = False) -> None:
        """Let the ledger's counter grow and copy it to the home, if anything was committed since; once a second."""
        if not self.memory.is_growth_due(at_once=at_once):
            return
        if self.is_sqlite:
            with self.write() as connection:
                seen = self.memory.grow(connection)
        else:  # without a transaction: nobody who falls asleep in one can hold up the others
            with _ledger_errors(), self._engine.connect().execution_options(alone=True) as connection:
                seen = self.memory.grow(connection)
        if seen is not None:
            self.memory.keep(seen)

    def empty_log(self) -> None:
        """Bring what SQLite's log holds into the file, and empty the log: what was overwritten is in neither any more.

        Else the file keeps it until the last process that has it open ends, or the log is full.
        """
        if self._write_lock is None:
            return
        with _ledger_errors(), self._write_lock.held():
            connection = self._engine.raw_connection()
            try:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()

    def end_frozen_sessions(self) -> int:
        """End the sessions of processes that fell asleep in a transaction, and return how many; their locks are free.

        On SQLite nobody else can: who is frozen with the lock file of a ledger keeps it, and the others say so.
        """
        if self.is_sqlite:
            return 0
        from tasks.ledger.postgres import END_FROZEN_SESSIONS

        with _ledger_errors(), self._engine.connect().execution_options(alone=True) as connection:
            return len(connection.execute(END_FROZEN_SESSIONS).all())

    def execute_many(self, connection: Connection, statement: Update, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement that is a constant of its module for each of `values`; return how many rows it changed.

        SQLite's driver is given tuples: SQLAlchemy's own way to them took as long as the statement itself.
        """
        if not self.is_sqlite:
            return connection.execute(statement, values).rowcount
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = statement.compile(dialect=self._engine.dialect)
        names = compiled.positiontup or ()
        fixed = compiled.params
        given = [tuple([each[name] if name in each else fixed[name] for name in names]) for each in values]
        return connection.exec_driver_sql(str(compiled), given).rowcount


def place_of(url: str) -> str:
    """Return where the ledger behind an SQLAlchemy URL is, without connecting. Raises LedgerError."""
    return _place(_parse(url))


def new_id(result: CursorResult[Any]) -> int:
    """Return the number that the ledger gave to an inserted line."""
    if result.inserted_primary_key is None:
        raise LedgerError("the ledger did not number a new line")
    return int(result.inserted_primary_key[0])


@contextlib.contextmanager
def _ledger_errors() -> Iterator[None]:
    """Turn what the driver raises into LedgerError, without statement and values."""
    try:
        yield
    except BAD_VALUES as error:
        kind = type(error).__name__  # the driver's own error quotes the value
        raise UnwritableValue("the ledger cannot hold a value: {kind}", kind=kind) from None
    except SQLAlchemyError as error:
        raise LedgerError("the ledger failed: {why}", why=_short(error)) from error


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise LedgerError("LEDGER_URL is not an SQLAlchemy URL such as postgresql+psycopg://host/name") from error


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(Path(str(url.database)).absolute())
    return f"{url.host or 'this machine'}/{url.database}"


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url, connect_args={"timeout": 60, "check_same_thread": False}, pool_size=8, hide_parameters=True
    )
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    # identities fall all over their index: with the 2 MB of cache and the 4 KB pages of the default its pages come and
    # go, and each of a million rows costs twice as much. Waves are as quick with large pages.
    connection.execute("PRAGMA page_size=32768")
    _set_wal(connection)
    for pragma in ("synchronous=FULL", "busy_timeout=60000", "foreign_keys=ON", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}")


def _set_wal(connection: Any) -> None:
    """Set the journal mode; SQLite does not wait for a process that is setting it in the same file at this moment."""
    until = time.monotonic() + WAL_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _short(error: SQLAlchemyError) -> Words:
    """Return the driver's own first line, which names server and database but never a password."""
    return Words(str(getattr(error, "orig", error)).splitlines()[0][:200])
