"""Who is signed in to the console: sessions under a digest of their secret, until they end or somebody ends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import delete, insert, select

from tasks.ledger.history import History
from tasks.ledger.schema import console_sessions
from tasks.ledger.scope import LedgerPart


class Session(NamedTuple):
    """Somebody who is signed in."""

    name: str
    role: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Sessions(LedgerPart):
    """Begins, finds and ends sessions; the ledger never holds the secret of one."""

    history: History

    def begin(self, digest: bytes, name: str, person: str, role: str, *, seconds: float, way: str) -> None:
        """Begin a session; those that are over are forgotten."""
        now = self.engine.now()
        with self.engine.write() as connection:
            connection.execute(delete(console_sessions).where(console_sessions.c.ends_at <= now))
            connection.execute(
                insert(console_sessions).values(
                    digest=digest, name=name, person=person, role=role, ends_at=now + seconds
                )
            )
            self.history.add(connection, 0, 0, f"signed in: {way}", name)

    def find(self, digest: bytes) -> Session | None:
        """Return a session that is not over."""
        query = select(console_sessions).where(
            console_sessions.c.digest == digest, console_sessions.c.ends_at > self.engine.now()
        )
        with self.engine.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Session(row.name, row.role, row.ends_at)

    def end(self, digest: bytes, name: str) -> None:
        """End a session."""
        with self.engine.write() as connection:
            if connection.execute(delete(console_sessions).where(console_sessions.c.digest == digest)).rowcount:
                self.history.add(connection, 0, 0, "signed out", name)

    def end_all(self, person: str, who: str) -> int:
        """End every session of a person, wherever it is; return how many there were."""
        with self.engine.write() as connection:
            gone = delete(console_sessions).where(console_sessions.c.person == person)
            ended = connection.execute(gone).rowcount
            if ended:
                self.history.add(connection, 0, 0, "signed out everywhere", who)
        return int(ended)
