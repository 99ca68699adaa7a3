"""PostgreSQL as the ledger uses it: every call ends, every transaction has limits, only a server that writes is used.

- A server that is silent for too long (a half-open connection, a frozen machine) is left: its connection is closed, and
  the call fails as it does when a connection is lost. Timeouts of the operating system do not notice a proxy that
  takes everything and answers nothing.
- PostgreSQL's own limit for an idle transaction does not hold in the middle of a pipeline (`executemany`): there a
  session counts as active until its client says that it is complete. A process that is frozen there would keep its
  locks for as long as it sleeps, so the reaper ends such sessions (`END_FROZEN_SESSIONS`).
- Limits are set within each transaction, in the statement that begins it: behind a pooler such as pgbouncer a session
  is somebody else's in the next transaction, and what was set there is lost, or is left to strangers.
- Statements are prepared only where the session is ours: a pooler would run them where they were never prepared, or
  where somebody else's statement has their name.
- A server that has been demoted to a standby refuses to write: its connections are dropped, and new ones are made only
  to a server that writes (libpq's `target_session_attrs`), wherever the URL or the server's name now leads.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.pool import ConnectionPoolEntry

from tasks.errors import LedgerError
from tasks.ledger.timeouts import Timeouts

#: PostgreSQL ends a transaction in which nothing is said for so long: else a frozen process keeps its locks.
IDLE_IN_TRANSACTION_SECONDS = 10
#: For so long a statement on PostgreSQL waits for somebody else's lock; less than a lease, and than a server
#: may be silent (`patience`).
LOCK_SECONDS = 15
#: For so long a server is asked to let us in.
CONNECT_SECONDS = 10.0
#: A server that vanishes without a word is noticed in about 20 seconds (libpq's names).
CONNECTION = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 20_000}

_BEGIN = (
    f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_SECONDS}s';"
    f" SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"
)
#: Ends sessions that have written to a batch's rows and whose client has neither sent nor read anything for so long;
#: pg_stat_activity shows a role its own sessions, and it may end them.
END_FROZEN_SESSIONS = text("""
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
  and wait_event in ('ClientRead', 'ClientWrite')
  and state_change < clock_timestamp() - make_interval(secs => :idle_seconds)
  and pid in (
    select pid from pg_locks where relation = 'rows'::regclass and mode = 'RowExclusiveLock' and granted
  )
""").bindparams(idle_seconds=IDLE_IN_TRANSACTION_SECONDS)
#: "cannot execute … in a read-only transaction" (PostgreSQL, appendix A).
_READ_ONLY: Final = "25006"
_Result = TypeVar("_Result")


class _Connection(psycopg.Connection[Any]):
    """A connection each of whose calls ends: see `Timeouts`."""

    patience = Timeouts()

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **kwargs: Any) -> _Result:
        """Wait for the server, but not for longer than it may be silent."""
        return super().wait(self._not_for_ever(gen), *args, **kwargs)

    def _not_for_ever(self, gen: Generator[Any, Any, _Result]) -> Generator[Any, Any, _Result]:
        """Pass on what psycopg waits for; it comes back at least ten times a second, with nothing if nothing came."""
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                came = yield wanted
                wanted = gen.send(came)
                now, most = time.monotonic(), self.patience.seconds
                if came:
                    heard = now
                elif most is not None and now - heard > most:
                    self.close()
                    self.patience.waited_in_vain()
                    raise psycopg.OperationalError(f"the server has not answered for {now - heard:.0f} seconds")
        except StopIteration as end:
            result: _Result = end.value
            return result


def postgres_engine(url: URL, patience: Timeouts) -> Engine:
    """Return an engine whose connections work as this module says."""
    engine = create_engine(
        url, connect_args=CONNECTION, pool_pre_ping=True, pool_size=8, pool_recycle=1800, hide_parameters=True
    )

    def connect(_: Dialect, __: ConnectionPoolEntry, arguments: list[Any], named: dict[str, Any]) -> DBAPIConnection:
        most = CONNECT_SECONDS if patience.seconds is None else min(CONNECT_SECONDS, patience.seconds)
        named.setdefault("connect_timeout", max(2, int(most)))
        if "PGTARGETSESSIONATTRS" not in os.environ:
            named.setdefault("target_session_attrs", "read-write")
        if patience.exhausted:
            raise psycopg.OperationalError("the server does not answer, and this process is ending")
        try:
            connection = _Connection.connect(*arguments, autocommit=True, **named)  # `_begin` begins
        except psycopg.errors.ConnectionTimeout:
            patience.waited_in_vain()
            raise
        _require_utf8(connection)
        connection.patience = patience
        if _is_pooled(connection):
            connection.prepare_threshold = None
        return connection  # type: ignore[return-value] # psycopg's cursor has more than SQLAlchemy's protocol says

    event.listen(engine, "do_connect", connect)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "handle_error", _leave_if_read_only)
    return engine


def _require_utf8(connection: psycopg.Connection[Any]) -> None:
    """Raise LedgerError for a database that cannot hold every name, or does not know what its bytes mean."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding in (None, "UTF8"):
        return
    connection.close()
    raise LedgerError(
        "the database of LEDGER_URL is in {encoding}; the ledger needs one in UTF-8: create database NAME encoding"
        " 'UTF8' template template0",
        encoding=encoding,
    )


def _is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Return whether something between us and the server gives the server's sessions to several clients in turn.

    A pooler answers for the server when a session begins, and has no number of a server's process to give; so the
    number in its greeting is not that of the process that runs our statements.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


def _begin(connection: Connection) -> None:
    """Begin a transaction, unless the execution option `alone` says that each statement is one by itself."""
    if not connection.get_execution_options().get("alone"):
        connection.exec_driver_sql(_BEGIN, execution_options={"no_parameters": True})


def _leave_if_read_only(context: ExceptionContext) -> None:
    """Let go of all connections when one can only read: its server was demoted, and another one writes now."""
    if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True
