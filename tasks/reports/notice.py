"""`notice.txt` and `notice.json`: what became of a dropped file that has no reports of its own, in a few lines."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tasks.files.file_store import FileStore
from tasks.models import Batch, BatchState
from tasks.reports.i18n import Texts

NOTICES = ("notice.txt", "notice.json")


@dataclass(frozen=True, slots=True)
class Notice:
    """What a notice says about one file."""

    kind: str  #: `rejected` or `already_onboarded`
    file: str  #: the file's name
    claim: str  #: what the log calls it
    sha256: str = ""
    code: str = ""  #: why it was rejected (docs/reference/files.md)
    line: int | None = None
    sentence: str = ""  #: the same for people, and what to do
    hint: str = ""
    batch: Batch | None = None  #: that has had this content before
    need_a_person: int = 0  #: rows of it


def write_notice(target: FileStore, notice: Notice, *, lang: str, time_zone: str) -> dict[str, Path]:
    """Write a notice into a store, in place of an earlier one; return file name -> path. Raises OSError."""
    texts = Texts(lang, time_zone)
    with target.publication() as reports:
        reports.path(NOTICES[0]).write_text("\n".join(_lines(notice, texts)) + "\n", encoding="utf-8")
        reports.path(NOTICES[1]).write_bytes(
            orjson.dumps(_facts(notice), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        )
        batch = None if notice.batch is None else notice.batch.id
        manifest = {"format": 1, "batch": batch, "file": {"name": notice.file, "sha256": notice.sha256}}
        return reports.publish(manifest, NOTICES)


def _lines(notice: Notice, texts: Texts) -> list[str]:
    lines = [notice.file, texts.time(time.time()), ""]
    batch = notice.batch
    if batch is None:
        lines += [texts("notice_rejected"), notice.sentence, notice.hint]
    elif batch.state is BatchState.FINISHED:
        at = texts.time(batch.finished_at or batch.created_at)
        lines.append(texts("notice_already", batch=str(batch.id), name=batch.name, at=at))
        if notice.need_a_person:
            lines.append(texts("notice_need", count=notice.need_a_person, batch=str(batch.id)))
    else:
        lines.append(
            texts("notice_under_way", batch=str(batch.id), name=batch.name, state=texts(f"batch_{batch.state}"))
        )
    return [*lines, "", texts("notice_claim", claim=notice.claim)]


def _facts(notice: Notice) -> dict[str, Any]:
    batch = notice.batch
    return {
        "format": 1,
        "verdict": notice.kind,
        "file": {"name": notice.file, "sha256": notice.sha256},
        "claim": notice.claim,
        "error": {"code": notice.code, "line": notice.line, "message": notice.sentence, "hint": notice.hint}
        if notice.code
        else None,
        "batch": None
        if batch is None
        else {
            "id": batch.id,
            "file": batch.name,
            "state": batch.state,
            "finished_at": batch.finished_at,
            "need_a_person": notice.need_a_person,
        },
    }
