"""What a command shows of a batch at its end: verdict, counts, reports, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from tasks import stop_texts
from tasks.operations.batch_status import BatchStatus
from worker import terminal
from worker.screen import Screen


def batch_json(
    screen: Screen, status: BatchStatus, paths: Mapping[str, Path] | None = None, seconds: float | None = None
) -> dict[str, Any]:
    """Return what `--json` prints about a batch; its sentences are in the language of the screen."""
    batch, counts = status.batch, status.counts
    return {
        "batch": batch.id,
        "file": batch.name,
        "state": batch.state,
        "state_reason": stop_texts.sentence(batch.stop, screen.texts.lang),
        "verdict": terminal.verdict(screen.texts, status),
        "books": {
            "records": counts.records,
            **{name: getattr(counts, name) for name in ("created", "skipped", "invalid", "refused", "unclear", "open")},
            "balance": counts.balance,
        },
        "work": asdict(status.work),
        **({} if status.skipped is None else {"skipped": dict(status.skipped)}),
        "warnings": [
            {"code": code, "column": column, "count": count, "line": line}
            for code, column, count, line, _ in batch.warnings
        ],
        "reports": {name: str(path) for name, path in (paths or {}).items()},
        **({} if seconds is None else {"seconds": round(seconds, 3)}),
    }


def say_of_batch(screen: Screen, status: BatchStatus, key: str, **values: object) -> tuple[int, dict[str, Any]]:
    """Say one thing about a batch; return the exit code and the JSON of a command that has done its work."""
    screen.console.print(Text(screen.texts(key, batch=str(status.batch.id), **values)), soft_wrap=True)
    return 0, batch_json(screen, status)
