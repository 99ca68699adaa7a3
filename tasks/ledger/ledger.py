"""The ledger as a whole: opened, made, upgraded, closed; its parts are its attributes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

from sqlalchemy import Connection, exists, func, inspect, select, text, update

from tasks.error_texts import Sentence
from tasks.errors import LedgerError, LedgerReplaced
from tasks.ledger.acceptance import Acceptance
from tasks.ledger.audit_rows import AuditRows
from tasks.ledger.batch_guards import Guards
from tasks.ledger.batches import Batches
from tasks.ledger.control_sources import ControlSources
from tasks.ledger.dispatch import Dispatch
from tasks.ledger.engine import LedgerEngine, place_of
from tasks.ledger.finder import Finder
from tasks.ledger.follow_up import FollowUps
from tasks.ledger.held_sources import HeldSources
from tasks.ledger.history import History
from tasks.ledger.insert_rows import InsertRows
from tasks.ledger.leases import Leases
from tasks.ledger.lifecycle import Lifecycle
from tasks.ledger.listing import Listing
from tasks.ledger.memory import Seen, name_ledger
from tasks.ledger.open_causes import OpenCauses
from tasks.ledger.open_work import OpenWork
from tasks.ledger.outbox import Outbox
from tasks.ledger.outcome_writes import OutcomeWrites
from tasks.ledger.queries import Queries
from tasks.ledger.reaper import Reaper
from tasks.ledger.resolution import Resolution
from tasks.ledger.retention import Retention
from tasks.ledger.sampling import Sampling
from tasks.ledger.schema import VERSION, created_for, ledger_identity
from tasks.ledger.scope import Scope
from tasks.ledger.sessions import Sessions
from tasks.ledger.work_matching import WorkMatching
from tasks.ledger.worker_leases import WorkerLeases
from tasks.models import NO_ACCOUNT, Account

#: Number of the lock under which one process at a time migrates a PostgreSQL ledger.
_MIGRATION_LOCK = 7_263_548


class Ledger:
    """The ledger behind one SQLAlchemy URL; `Ledger.open(url)` makes its tables if there are none.

    Each part is one concern; a part whose transactions include steps of another is given that other.
    """

    def __init__(self, engine: LedgerEngine, account: Account) -> None:
        self.engine = engine
        self.scope = scope = Scope(engine, account)
        self.history = History(scope)
        self.outbox = Outbox(scope)
        self.dispatch = Dispatch(scope)
        self.sampling = Sampling(scope, self.dispatch)
        self.held_sources = HeldSources(scope, self.dispatch)
        self.batches = Batches(scope, self.outbox)
        self.open_work = OpenWork(scope, self.history)
        self.open_causes = OpenCauses(scope)
        self.work_matching = WorkMatching(scope)
        self.lifecycle = Lifecycle(
            scope, self.dispatch, self.held_sources, self.sampling, self.history, self.outbox, self.open_work
        )
        self.finder = Finder(scope)
        self.listing = Listing(scope, self.batches)
        self.rows = InsertRows(scope)
        self.workers = WorkerLeases(scope)
        self.leases = Leases(scope, self.workers, OutcomeWrites(scope, self.held_sources))
        self.reaper = Reaper(scope, self.dispatch)
        self.guards = Guards(scope, self.dispatch)
        self.control_sources = ControlSources(scope)
        self.resolution = Resolution(scope, self.dispatch, self.history, self.held_sources)
        self.follow_up = FollowUps(scope)
        self.audit = AuditRows(scope, self.history)
        self.acceptance = Acceptance(scope, self.dispatch, self.history)
        self.retention = Retention(scope)
        self.queries = Queries(scope)
        self.sessions = Sessions(scope, self.history)

    @property
    def account(self) -> Account:
        """Where the batches are sent that this process adds, claims and dispatches."""
        return self.scope.account

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
    def open_existing(cls, url: str, account: Account = NO_ACCOUNT, *, home: Path | None = None) -> Self | None:
        """Return the ledger behind an SQLAlchemy URL to look at it, or None: there is none, and none is made.

        Raises LedgerError if it cannot be reached, or is of another version than this code.
        """
        if not LedgerEngine.is_there(url):
            return None
        ledger = cls._connect(url, account, home, must_exist=True)
        try:
            if ledger.version() is None:
                ledger.close()
                return None
            ledger._check_version()
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
            copied, before = ledger.engine.memory.copied(), ledger.version()
            if before is None:
                ledger._require_new_place(copied)
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
        missing = _no_ledger(place_of(url)).sentence if must_exist else None
        return cls(LedgerEngine.connect(url, home, makes=makes, must_exist=missing), account)

    def _require_new_place(self, copied: Seen | None) -> None:
        """Raise LedgerError if this empty ledger may not be made one that is used."""
        if self.account.live:
            raise _no_ledger(self.place)
        self.engine.memory.require_new_place(copied)

    def _check_version(self) -> None:
        """Make the tables of an empty ledger; refuse one that this code does not fit."""
        copied, found = self.engine.memory.copied(), self.version()
        if found is None:
            self._require_new_place(copied)
            with self.engine.write() as connection:
                self._migrate(connection)
        elif found != VERSION:
            raise LedgerError(
                "the ledger has version {found} and this program needs {needed}: {do}",
                found=found,
                needed=VERSION,
                do=_NEWER_PROGRAM if found > VERSION else _UPGRADE,
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
        """Wait no longer than a few seconds for the server from now on: this process is ending."""
        self.engine.hurry()

    @property
    def hurries(self) -> bool:
        """Whether this process is ending."""
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
        """Why nothing may be sent from this ledger, and what to do (a Sentence); "" if all is well."""
        try:
            self.require_memory()
        except LedgerReplaced as error:
            return error.sentence
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


_NEWER_PROGRAM = Sentence("install the program that made it, or a newer one")
_UPGRADE = Sentence("run `onboard ledger upgrade`")


def _no_ledger(place: str) -> LedgerError:
    return LedgerError(
        "there is no live ledger at {place}. Where there was one, restore it: an empty one does not know which sources"
        " exist, and would make all of them again (docs/3am/lost.md). A new installation"
        " makes its own: `onboard ledger create`",
        place=place,
    )
