"""What the parts of the ledger share: opening and versions, whose batches these are, and conditions."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    insert,
    inspect,
    or_,
    select,
    text,
    update,
)

from tasks.errors import LedgerError, LedgerReplaced
from tasks.ledger.conditions import TO_DO
from tasks.ledger.engine import LedgerEngine, place_of
from tasks.ledger.memory import Seen, name_ledger
from tasks.ledger.schema import VERSION, batches, created_for, history, ledger_identity, news, rows, slices, workers
from tasks.models import NO_ACCOUNT, Account, BatchState, NotificationKind

#: Number of the lock under which one process at a time migrates a PostgreSQL ledger.
_MIGRATION_LOCK = 7_263_548


class Store:
    """What the parts of the ledger share: the database, whose batches these are, versions, conditions."""

    def __init__(self, engine: LedgerEngine, account: Account) -> None:
        self.engine = engine
        self.account = account  #: where the batches are sent that this process adds, claims and dispatches
        #: The command whose batches these are (`workers.runner`); None: those of the fleet and of watchers.
        self.runner: int | None = None

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
            with ledger.engine.write() as connection:
                seen = ledger._migrate(connection)
                is_new = was_empty
                if account.live:
                    mark = ledger.engine.insert(created_for).values(live=True, created_at=ledger.now())
                    is_new |= connection.execute(mark.on_conflict_do_nothing()).rowcount == 1
            if was_empty:
                ledger.engine.memory.adopt(seen)
        finally:
            ledger.close()
        return is_new

    def _migrate(self, connection: Connection) -> Seen:
        """Bring the tables to this version, one process at a time, and give the ledger an id if it has none."""
        from tasks.ledger import migrations

        if not self.engine.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        migrations.upgrade(connection)
        return name_ledger(connection)

    def _is_live(self) -> bool:
        with self.engine.read() as connection:
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
            with ledger.engine.write() as connection:
                ledger._migrate(connection)
        finally:
            ledger.close()
        return before, VERSION

    @classmethod
    def _connect(
        cls, url: str, account: Account, home: Path | None, *, must_exist: bool = False, makes: bool = False
    ) -> Self:
        missing = str(_no_ledger(place_of(url))) if must_exist else ""
        return cls(LedgerEngine.connect(url, home, makes=makes, must_exist=missing), account)

    def _require_new_place(self) -> None:
        """Raise LedgerError if this empty ledger may not be made one that is used."""
        if self.account.live:
            raise _no_ledger(self.place)
        self.engine.memory.require_new_place()

    def _check_version(self) -> None:
        """Make the tables of an empty ledger; refuse one that this code does not fit."""
        found = self.version()
        if found is None:
            self._require_new_place()
            with self.engine.write() as connection:
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
        return self.engine.place

    @staticmethod
    def place_of(url: str) -> str:
        """Return `place` of the ledger behind an SQLAlchemy URL without opening it. Raises LedgerError."""
        return place_of(url)

    def version(self) -> str | None:
        """Return the migration that the ledger is at; None if it is empty."""
        with self.engine.read() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(text("select version_num from alembic_version")).scalar_one_or_none()

    def close(self) -> None:
        """Let go of every connection."""
        with contextlib.suppress(LedgerError):
            self.engine.remember(at_once=True)
        self.engine.close()

    def hurry(self) -> None:
        """Wait no longer than a few seconds for the server from now on: this process has been told to end."""
        self.engine.hurry()

    @property
    def hurries(self) -> bool:
        """Whether this process has been told to end."""
        return self.engine.hurries

    def require_writable(self) -> None:
        """Write what is there already. Raises LedgerError if the ledger can only be read, or not even that."""
        with self.engine.write() as connection:
            connection.execute(update(ledger_identity).values(change_counter=ledger_identity.c.change_counter))

    def require_memory(self) -> None:
        """Raise LedgerReplaced if this is not the ledger that was worked with before, or an older copy of it.

        It is asked about once a second; in between nothing happens. Other failures are LedgerErrors as ever.
        """
        if self.engine.memory.is_look_due:
            with self.engine.read() as connection:
                self.engine.memory.look(connection)

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
        self.engine.remember(at_once=at_once)

    def now(self) -> float:
        """Return the ledger's time, in UTC epoch seconds, so that machines whose clocks differ agree on what is due."""
        return self.engine.now()

    @property
    def clock_ahead_seconds(self) -> float:
        """How far the ledger's clock is ahead of this machine's; 0 for SQLite, which has none."""
        return self.engine.clock_ahead_seconds

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
        alive = exists().where(workers.c.lease_ends_at > self.engine.sql_now)
        of_runner = alive.where(workers.c.runner == batches.c.runner)
        sends = and_(workers.c.runner.is_(None), workers.c.longest_request_seconds > 0)
        of_fleet = alive.where(sends, workers.c.account == self.account.key)
        return or_(of_runner, and_(batches.c.runner.is_(None), of_fleet))

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
        due = func.min if self.engine.is_sqlite else func.least
        canary = select(batches.c.canary).where(batches.c.id == batch_id).scalar_subquery()
        connection.execute(
            update(slices)
            .where(slices.c.batch_id == batch_id, ~slices.c.rung, to_do)
            .where(or_(canary == 0, slices.c.last_record <= canary))
            .values(due_at=due(func.coalesce(slices.c.due_at, self.engine.now()), self.engine.now()))
        )

    def _reopen(self, connection: Connection, batch_id: int) -> None:
        """Let a finished batch run again, because one of its rows is to be sent or looked up."""
        connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, batches.c.state == BatchState.FINISHED)
            .values(state=BatchState.RUNNING, finished_at=None, dropped_at=None, runner=self.runner)
        )
        self._make_due(connection, batch_id)

    def _tell(self, connection: Connection, batch_id: int, record: int, what: str, who: str = "") -> None:
        connection.execute(
            insert(history).values(batch_id=batch_id, record=record, at=self.engine.now(), what=what, who=who or None)
        )

    def _add_news(
        self, connection: Connection, kind: NotificationKind, batch_id: int | None, **more: str | None
    ) -> bool:
        """Let people be told of something; False if the same news (`once`) is there already."""
        values = {"kind": kind, "at": self.engine.now(), "batch_id": batch_id, **more}
        statement = self.engine.insert(news).values(values).on_conflict_do_nothing().returning(news.c.id)
        return connection.execute(statement).one_or_none() is not None


def _no_ledger(place: str) -> LedgerError:
    return LedgerError(
        f"there is no live ledger at {place}. Where there was one, restore it: an empty one does not know which sources"
        " exist, and would make all of them again (docs/operations.md, the ledger and its backups). A new installation"
        " makes its own: `onboard ledger create`"
    )
