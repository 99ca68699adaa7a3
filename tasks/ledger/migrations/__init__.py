"""The ledger's versions, by alembic: one file a version in `versions/`, the newest is `tasks.ledger.schema.VERSION`."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

#: Alembic has one context a process: two threads that migrate at once would write into each other's database.
_one_at_a_time = threading.Lock()


def upgrade(connection: Connection, to: str = "head") -> None:
    """Bring the ledger behind a connection to a version, in the connection's own transaction."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _one_at_a_time:
        command.upgrade(config, to)
