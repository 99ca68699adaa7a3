"""The drop folder of a watcher, and how its nights are judged."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

from conftest import ROWS, Night
from factories import Command, write_csv
from judge import at_the_simulator
from machines import Started

SETTINGS = {"ONBOARD_SETTLE_SECONDS": 1, "ONBOARD_SCAN_SECONDS": 0.5}


class Drop:
    """The drop folder of a watcher."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox, self.processing, self.archive, self.rejected, self.outbox = (
            root / name for name in ("inbox", "processing", "archive", "rejected", "outbox")
        )
        self.inbox.mkdir(parents=True)

    def file(self, name: str, rows: int = ROWS, **more: Any) -> Path:
        """Drop a clean file by a rename."""
        uploaded = write_csv(self.root / "uploaded.csv", rows, **more)
        return uploaded.rename(self.inbox / name)

    def claims(self) -> list[Path]:
        return list(self.processing.glob("*@*"))

    def archived(self) -> dict[str, str]:
        """Folder in the archive -> the name of its file."""
        return {path.parent.parent.name: path.name for path in self.archive.glob("*/*/file/*")}

    def rejections(self) -> dict[str, str]:
        """Rejected file -> the code that says why."""
        return {
            notice["file"]["name"]: notice["error"]["code"]
            for notice in map(read, self.rejected.glob("*/*/reports/notice.json"))
        }

    def published(self) -> dict[str, set[str]]:
        return {folder.name: {path.name for path in folder.iterdir()} for folder in self.outbox.iterdir()}


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def logged(started: Started, event: str) -> list[dict[str, Any]]:
    lines = started.err.read_text().splitlines()
    return [entry for line in lines if line.startswith("{") and (entry := json.loads(line))["event"] == event]


def watcher_on(night: Night, drop: Drop, **settings: Any) -> Command:
    return night.machine(**{**SETTINGS, "ONBOARD_DROP_FOLDER": drop.root, **settings})


def watch(night: Night, command: Command, *arguments: object) -> Started:
    return night.start(command, "watch", "--json", *arguments)


def judge_single_file(night: Night, command: Command, drop: Drop, name: str, sources: int, *, batch: int = 1) -> None:
    """Judge the end of a single file: it is in the archive, its reports are complete, and nothing else is left."""
    assert drop.claims() == []
    assert drop.archived() == {str(batch): name}
    assert list(drop.inbox.iterdir()) == []
    assert list(drop.rejected.glob("*/*")) == []
    (folder,) = drop.outbox.iterdir()
    summary = read(folder / "summary.json")
    assert summary["books"]["created"] == sources
    for reports in (folder, next(drop.archive.glob("*/*")) / "reports"):
        named = read(reports / "manifest.json")["files"]
        assert {path.name for path in reports.iterdir()} == {*named, "manifest.json"}
        assert {name: (reports / name).stat().st_size for name in named} == {k: v["bytes"] for k, v in named.items()}
    at_the_simulator(command, night.simulator, sources)
    night.note(rows=sources, kills=night.kills)


def archived_texts(drop: Drop) -> list[str]:
    return [path.read_text() for path in drop.archive.glob("*/*/file/*.csv")]


def notifications(command: Command) -> Counter[str]:
    with contextlib.closing(sqlite3.connect(command.home / "ledger.db")) as db:
        return Counter(kind for (kind,) in db.execute("select kind from news"))
