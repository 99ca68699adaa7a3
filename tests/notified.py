"""What a notifier has delivered, and a command that receives it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from factories import new_row, running_batch, wait_until
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.services import Services


def channels_of(services: Services) -> list[str]:
    with services.ledger.engine.read() as connection:
        return sorted(connection.execute(text("select name from channels")).scalars())


def deliveries(services: Services) -> list[tuple[str, int, bool, bool]]:
    """Channel, tries, delivered, still due: of every delivery."""
    with services.ledger.engine.read() as connection:
        rows = connection.execute(
            text("select channel, tries, told_at, due_at from tellings order by news_id, channel")
        )
        return [(row[0], row[1], row[2] is not None, row[3] is not None) for row in rows]


def known(services: Services, *names: str) -> None:
    wait_until(lambda: set(names) <= set(channels_of(services)), what="that the channels are known")


def finished(ledger: Ledger, rows: int = 2) -> int:
    batch = running_batch(ledger, [new_row(record, state="invalid") for record in range(1, rows + 1)])
    assert ledger.lifecycle.close(batch)
    return batch


def a_minute_passes(services: Services) -> None:
    """Let all that happened be older than what two processes make of the time of one server."""
    with services.ledger.engine.write() as connection:
        connection.execute(text("update news set at = at - 60"))


def hook(folder: Path, *lines: str) -> str:
    """A command that appends each message to a file, then does more."""
    script = folder / "hook.py"
    body = f"import sys\nopen({str(folder / 'received.jsonl')!r}, 'ab').write(sys.stdin.buffer.read() + b'\\n')\n"
    script.write_text(body + "\n".join(lines), encoding="utf-8")
    return f"{sys.executable} {script}"


def received_by_hook(folder: Path) -> list[dict[str, Any]]:
    path = folder / "received.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
