"""Where the ledger is kept: connections, transactions, versions, and the clock that leases are measured by."""

from __future__ import annotations

import contextlib
import fcntl
import threading
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
    and_,
    cast,
    create_engine,
    event,
    exists,
    extract,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DataError, SQLAlchemyError
from sqlalchemy.sql.compiler import SQLCompiler

from tasks.errors import LedgerError, LedgerReplaced
from tasks.ledger.conditions import TO_DO
from tasks.ledger.memory import Memory, Seen, copy_of, name_ledger
from tasks.ledger.patience import ANSWER_SECONDS, Patience
from tasks.models import NO_ACCOUNT, Account, BatchState, NewsKind
from tasks.schema import VERSION, batches, created_for, history, ledger_identity, news, rows, slices, workers

#: Number of the lock under which one process at a time migrates a PostgreSQL ledger.
_MIGRATION_LOCK = 7_263_548
#: What drivers raise for a value that the database cannot hold: a NUL, a lone surrogate, a number that is too large.
BAD_VALUES = (DataError, UnicodeError, OverflowError)
#: For so long a comparison of this machine's clock with the server's holds.
COMPARED_SECONDS = 120.0


class UnwritableValue(LedgerError):
    """A value that the database cannot hold; nothing of its transaction was written."""


class Store:
    """One database: connections, transactions, versions, the clock; safe to share between threads."""

    def __init__(
        self, engine: Engine, account: Account, memory: Memory, patience: Patience, lock_path: Path | None = None
    ) -> None:
        self._engine, self._patience = engine, patience
        self._memory = memory
        self.account = account  #: where the batches are sent that this process adds, claims and rings for
        #: The command whose batches these are (`workers.runner`); None: those of the fleet and of watchers.
        self.runner: int | None = None
        self._lock_path = lock_path
        self._lock = threading.Lock()
        self._sqlite = engine.dialect.name == "sqlite"
        self._ahead = 0.0  # how far the ledger's clock is ahead of this machine's
        self._compared_until = 0.0
        self._compiled: dict[Update, SQLCompiler] = {}
        self._dialect_insert: Any = sqlite.insert if self._sqlite else postgresql.insert

    @classmethod
    def open(cls, url: str, account: Account = NO_ACCOUNT, *, home: Path | None = None) -> Self:
        """Return the ledger behind an SQLAlchemy URL; in test mode its tables are made if there are none.

        `home` is the folder that keeps what was last seen of it. A ledger that is older than that, or another one, can
        be read, but nothing is sent from it (`require_memory`).

        In live mode only `create` makes a ledger: an empty one in the place of one that was lost knows nothing of the
        sources that exist. Batches of another account can be read and stopped, but their rows are never given out to
        be sent. Raises LedgerError with a sentence if there is none, if it cannot be reached, or is of another version
        than this code.
        """
        ledger = cls._connect(url, account, home, must_exist=account.live)
        try:
            ledger._check_version()
            if account.live and not ledger._is_live():
                raise _no_ledger(ledger.place)
        except LedgerError:
            ledger.close()
            raise
        return ledger

    @classmethod
    def create(cls, url: str, account: Account, *, home: Path | None = None) -> bool:
        """Make a ledger for an account's mode, whatever was there before; False if it is there already.

        Raises LedgerError if one of another version is there.
        """
        ledger = cls._connect(url, account, home, makes=True)
        try:
            was_empty = ledger.version() is None
            if not was_empty:
                ledger._check_version()
            with ledger._write() as connection:
                seen = ledger._migrate(connection)
                is_new = was_empty
                if account.live:
                    mark = ledger._dialect_insert(created_for).values(live=True, created_at=ledger.now())
                    is_new |= connection.execute(mark.on_conflict_do_nothing()).rowcount == 1
            if was_empty:
                ledger._memory.adopt(seen)
        finally:
            ledger.close()
        return is_new

    def _migrate(self, connection: Connection) -> Seen:
        """Bring the tables to this version, one process at a time, and give the ledger an id if it has none."""
        from tasks import migrations

        if not self._sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        migrations.upgrade(connection)
        return name_ledger(connection)

    def _is_live(self) -> bool:
        with self._read() as connection:
            return bool(connection.execute(select(exists().where(created_for.c.live))).scalar_one())

    @classmethod
    def upgrade(cls, url: str, account: Account = NO_ACCOUNT, *, home: Path | None = None) -> tuple[str | None, str]:
        """Bring a ledger of an earlier version up to this one; return the versions before and after.

        An empty one is made in test mode only, and only where there was none before.
        """
        ledger = cls._connect(url, account, home, must_exist=account.live)
        try:
            before = ledger.version()
            if before is None:
                ledger._require_new_place()
            elif before > VERSION:
                ledger._check_version()
            with ledger._write() as connection:
                ledger._migrate(connection)
        finally:
            ledger.close()
        return before, VERSION

    @classmethod
    def _connect(
        cls, url: str, account: Account, home: Path | None, *, must_exist: bool = False, makes: bool = False
    ) -> Self:
        parsed = _parse(url)
        lock_path, patience = None, Patience(None if makes else ANSWER_SECONDS)
        copy = None if home is None else copy_of(home, parsed)
        if parsed.get_backend_name() == "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise LedgerError("LEDGER_URL: a ledger in memory would be lost; give it a file")
            path = Path(parsed.database)
            memory = Memory(_place(parsed), copy, [path, path.with_name(path.name + "-wal")])
            if must_exist and not path.exists():
                raise _no_ledger(_place(parsed))
            if not makes and not path.exists():
                memory.require_new_place()
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
            except OSError as error:
                raise LedgerError(
                    f"the ledger cannot be kept at {path} ({error.strerror}): set ONBOARD_HOME to a writable folder"
                ) from error
            lock_path = path.with_name(path.name + ".lock")
            engine = create_engine(
                parsed, connect_args={"timeout": 60, "check_same_thread": False}, pool_size=8, hide_parameters=True
            )
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        else:
            memory = Memory(_place(parsed), copy)
            from tasks.ledger.postgres import postgres_engine  # its driver is an extra

            engine = postgres_engine(parsed, patience)
        event.listen(engine, "connect", lambda *_: memory.look_again())
        return cls(engine, account, memory, patience, lock_path)

    def _require_new_place(self) -> None:
        """Raise LedgerError if this empty ledger may not be made one that is used."""
        if self.account.live:
            raise _no_ledger(self.place)
        self._memory.require_new_place()

    def _check_version(self) -> None:
        """Make the tables of an empty ledger; refuse one that this code does not fit."""
        found = self.version()
        if found is None:
            self._require_new_place()
            with self._write() as connection:
                self._migrate(connection)
        elif found != VERSION:
            newer = found > VERSION
            raise LedgerError(
                f"the ledger has version {found} and this program needs {VERSION}: "
                + ("install the program that made it, or a newer one" if newer else "run `onboard ledger upgrade`")
            )

    @property
    def place(self) -> str:
        """Where it is, for people: an absolute path, or host and database; never a password."""
        return _place(self._engine.url)

    @staticmethod
    def place_of(url: str) -> str:
        """Return `place` of the ledger behind an SQLAlchemy URL without opening it. Raises LedgerError."""
        return _place(_parse(url))

    def version(self) -> str | None:
        """Return the migration that the ledger is at; None if it is empty."""
        with self._read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()

    def close(self) -> None:
        """Let go of every connection."""
        with contextlib.suppress(LedgerError):
            self.remember(at_once=True)
        self._engine.dispose()

    def hurry(self) -> None:
        """Wait no longer than a few seconds for the server from now on: this process has been told to end."""
        self._patience.hurry()

    @property
    def hurries(self) -> bool:
        """Whether this process has been told to end."""
        return self._patience.hurries

    def require_writable(self) -> None:
        """Write what is there already. Raises LedgerError if the ledger can only be read, or not even that."""
        with self._write() as connection:
            connection.execute(update(ledger_identity).values(change_counter=ledger_identity.c.change_counter))

    def require_memory(self) -> None:
        """Raise LedgerReplaced if this is not the ledger that was worked with before, or an older copy of it.

        It is asked about once a second; in between nothing happens. Other failures are LedgerErrors as ever.
        """
        if self._memory.is_look_due:
            with self._read() as connection:
                self._memory.look(connection)

    @property
    def replaced(self) -> str:
        """Why nothing may be sent from this ledger, and what to do; "" if all is well."""
        try:
            self.require_memory()
        except LedgerReplaced as error:
            return str(error)
        return ""

    def remember(self, *, at_once: bool = False) -> None:
        """Let the ledger's counter grow and copy it to the home, if anything was committed since; once a second."""
        if not self._memory.is_growth_due(at_once=at_once):
            return
        if self._sqlite:
            with self._write() as connection:
                seen = self._memory.grow(connection)
        else:  # without a transaction: nobody who falls asleep in one can hold up the others
            with _told(), self._engine.connect().execution_options(alone=True) as connection:
                seen = self._memory.grow(connection)
        if seen is not None:
            self._memory.keep(seen)

    def now(self) -> float:
        """Return the ledger's time, in UTC epoch seconds, so that machines whose clocks differ agree on what is due.

        On PostgreSQL this machine's clock, put right by the server's every few minutes, before a transaction.
        """
        return time.time() + self._ahead

    @property
    def clock_ahead_seconds(self) -> float:
        """How far the ledger's clock is ahead of this machine's; 0 for SQLite, which has none."""
        return 0.0 if self._sqlite else self._compare_clocks()

    def _compare_clocks_if_due(self) -> None:
        """Put the clock right; never within a transaction, which would hold one session and wait for another."""
        if not self._sqlite and time.monotonic() > self._compared_until:
            self._compared_until = time.monotonic() + COMPARED_SECONDS
            with contextlib.suppress(LedgerError):  # out of reach: the last comparison still holds
                self._ahead = self._compare_clocks()

    def _compare_clocks(self) -> float:
        before = time.time()
        with self._read() as connection:
            theirs = connection.execute(select(cast(extract("epoch", func.clock_timestamp()), Float(53)))).scalar_one()
        return float(theirs) - (before + time.time()) / 2

    @property
    def _of_account(self) -> ColumnElement[bool]:
        """Whether a batch is sent with the key, and to the address, of this process."""
        return and_(batches.c.live == self.account.live, batches.c.address == self.account.address)

    @property
    def _is_ours(self) -> ColumnElement[bool]:
        """Whether this process may send a batch: it is of its account, and of the command that it works for."""
        return and_(self._of_account, batches.c.runner.is_not_distinct_from(self.runner))

    @property
    def _is_worked_on(self) -> ColumnElement[bool]:
        """Whether somebody is at work for a batch: its own command or workers, else any of the fleet or a watcher."""
        alive = exists().where(workers.c.lease_ends_at > self._now)
        of_runner = alive.where(workers.c.runner == batches.c.runner)
        sends = and_(workers.c.runner.is_(None), workers.c.longest_request_seconds > 0)
        of_fleet = alive.where(sends, workers.c.account == self.account.key)
        return or_(of_runner, and_(batches.c.runner.is_(None), of_fleet))

    @property
    def _now(self) -> ColumnElement[float]:
        """The time that leases are measured by: the server's, so that machines need not agree."""
        if self._sqlite:
            return literal(time.time(), Float())
        return cast(extract("epoch", func.clock_timestamp()), Float(53))

    def _expect_reading(self, connection: Connection, batch_id: int) -> None:
        """Hold a batch in its state `reading` until the end of the transaction."""
        query = select(batches.c.id).where(batches.c.id == batch_id, batches.c.state == BatchState.READING)
        if connection.execute(query.with_for_update(read=True)).one_or_none() is None:
            raise LedgerError("reading the file stood still for so long that it was given up: run it again")

    def _make_due(self, connection: Connection, batch_id: int) -> None:
        """Make every slice with something to do due now."""
        to_do = exists().where(
            rows.c.batch_id == batch_id,
            rows.c.record.between(slices.c.first_record, slices.c.last_record),
            TO_DO,
        )
        due = func.min if self._sqlite else func.least
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        connection.execute(
            update(slices)
            .where(slices.c.batch_id == batch_id, ~slices.c.rung, to_do)
            .where(or_(canary == 0, slices.c.last_record <= canary))
            .values(due_at=due(func.coalesce(slices.c.due_at, self.now()), self.now()))
        )

    def _reopen(self, connection: Connection, batch_id: int) -> None:
        """Let a finished batch run again, because one of its rows is to be sent or looked up."""
        connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, batches.c.state == BatchState.FINISHED)
            .values(state=BatchState.RUNNING, finished_at=None, dropped_at=None, runner=self.runner)
        )
        self._make_due(connection, batch_id)

    def _execute_many(self, connection: Connection, statement: Update, values: Sequence[Mapping[str, Any]]) -> int:
        """Execute a statement of this module's for each of `values`; return how many rows it changed.

        SQLite's driver is given tuples: SQLAlchemy's own way to them took as long as the statement itself.
        """
        if not self._sqlite:
            return connection.execute(statement, values).rowcount
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = statement.compile(dialect=self._engine.dialect)
        names = compiled.positiontup or ()
        fixed = compiled.params
        given = [tuple([one[name] if name in one else fixed[name] for name in names]) for one in values]
        return connection.exec_driver_sql(str(compiled), given).rowcount

    def _tell(self, connection: Connection, batch_id: int, record: int, what: str, who: str = "") -> None:
        connection.execute(
            insert(history).values(batch_id=batch_id, record=record, at=self.now(), what=what, who=who or None)
        )

    def _add_news(self, connection: Connection, kind: NewsKind, batch_id: int | None, **more: str | None) -> bool:
        """Let people be told of something; False if the same news (`once`) is there already."""
        values = {"kind": kind, "at": self.now(), "batch_id": batch_id, **more}
        statement = self._dialect_insert(news).values(values).on_conflict_do_nothing().returning(news.c.id)
        return connection.execute(statement).one_or_none() is not None

    @contextlib.contextmanager
    def _write(self, *, remembered: bool = False) -> Iterator[Connection]:
        """Begin a transaction that writes; one that is `remembered` lets the ledger's counter grow.

        On SQLite the counter grows in it. On PostgreSQL it grows just after it, so that nobody waits with rows in his
        hands for somebody else's counting; that a commit was not counted is no reason to say that it failed.
        """
        seen = None
        self._compare_clocks_if_due()
        with contextlib.ExitStack() as stack, _told():
            if self._sqlite:
                stack.enter_context(self._lock)
                stack.enter_context(_file_lock(self._lock_path))
            connection = stack.enter_context(self._engine.connect().execution_options(writes=True))
            with connection.begin():
                yield connection
                if remembered:
                    self._memory.changed()
                    if self._sqlite and self._memory.is_growth_due():
                        seen = self._memory.grow(connection)
        if seen is not None:
            self._memory.keep(seen)
        elif remembered:
            self._memory.changed()
            with contextlib.suppress(LedgerError):
                self.remember()

    @contextlib.contextmanager
    def _read(self) -> Iterator[Connection]:
        self._compare_clocks_if_due()
        with _told(), self._engine.connect() as connection:
            yield connection
            connection.commit()  # psycopg forgets what it has prepared at each ROLLBACK


@contextlib.contextmanager
def _file_lock(path: Path | None) -> Iterator[None]:
    if path is None:
        yield
        return
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield  # closing the file lets go of the lock


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the driver raises into LedgerError, without statement and values."""
    try:
        yield
    except BAD_VALUES as error:
        why = f"the ledger cannot hold a value: {type(error).__name__}"
        raise UnwritableValue(why) from None  # the driver's own error quotes the value
    except SQLAlchemyError as error:
        raise LedgerError(f"the ledger failed: {_short(error)}") from error


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise LedgerError("LEDGER_URL is not an SQLAlchemy URL such as postgresql+psycopg://host/name") from error


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(Path(str(url.database)).absolute())
    return f"{url.host or 'this machine'}/{url.database}"


def _no_ledger(place: str) -> LedgerError:
    return LedgerError(
        f"there is no live ledger at {place}. Where there was one, restore it: an empty one does not know which sources"
        " exist, and would make all of them again (docs/operations.md, the ledger and its backups). A new installation"
        " makes its own: `onboard ledger create`"
    )


def _set_up_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    # identities fall all over their index: with the 2 MB of cache and the 4 KB pages of the default its pages come and
    # go, and each of a million rows costs twice as much. Waves are as quick with large pages.
    for pragma in (
        "page_size=32768",
        "journal_mode=WAL",
        "synchronous=FULL",
        "busy_timeout=60000",
        "foreign_keys=ON",
        "cache_size=-32768",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _short(error: SQLAlchemyError) -> str:
    """Return the driver's own first line, which names server and database but never a password."""
    return str(getattr(error, "orig", error)).splitlines()[0][:200]


def new_id(result: CursorResult[Any]) -> int:
    """Return the number that the ledger gave to an inserted line."""
    if result.inserted_primary_key is None:
        raise LedgerError("the ledger did not number a new line")
    return int(result.inserted_primary_key[0])
