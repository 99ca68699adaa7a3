"""The digest of a day: what is open over all batches, and which batches have not come to their end.

It never says that there is nothing to do: only that no row needs attention, and only beside what else is not done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tasks import stop_texts
from tasks.models import Batch, BatchState, Notification
from tasks.reports.i18n import Texts
from tasks.reports.letter import SHOWN, Letter, Line, Table, lines_of, mode_of, subject, where_of
from tasks.reports.notification_message import Message, message, reasons_json
from tasks.reports.open_groups import OpenGroup

#: States in which a batch goes on only when somebody says so.
_STOPPED = (BatchState.PAUSED, BatchState.HALTED, BatchState.INTERRUPTED)


class UnfinishedBatch(NamedTuple):
    """A batch that has not come to its end."""

    batch: Batch
    unsent: int  #: rows without an outcome
    looked_up: int  #: unclear rows that the program still looks up
    command: str  #: that lets it go on, or ""
    goes_on_at: float | None = None  #: its rows wait for the nightly window to open

    @property
    def is_stopped(self) -> bool:
        """Whether nothing happens to it without a person."""
        return self.batch.state in _STOPPED or self.is_unattended

    @property
    def is_unattended(self) -> bool:
        """Whether it could be sent, and nobody does."""
        return self.batch.state is BatchState.RUNNING and not self.batch.is_worked_on and self.goes_on_at is None


class Digest(NamedTuple):
    """How everything stands."""

    at: float
    groups: Sequence[OpenGroup]
    unfinished: Sequence[UnfinishedBatch]
    undelivered: int  #: notifications that a channel did not take so far

    @property
    def rows(self) -> int:
        """Rows that need a person."""
        return sum(group.rows for group in self.groups)

    @property
    def stopped(self) -> int:
        """Batches that go on only with a person."""
        return sum(each.is_stopped for each in self.unfinished)


def compose_digest(
    notification: Notification, texts: Texts, digest: Digest, *, live: bool, address: str = ""
) -> Message:
    """Put the message of a digest together; `address` is where a browser lists what is open."""
    says = texts("news_digest_rows" if digest.rows else "news_digest_no_rows", count=digest.rows)
    if digest.stopped:
        says = texts("verdict_between").join([says, texts("news_digest_stopped", count=digest.stopped)])
    tables = [
        Table(texts("what_to_do"), lines_of(digest.groups, texts, digest.at)),
        Table(texts("news_unfinished"), _unfinished(digest.unfinished, texts)),
    ]
    letter = Letter(
        subject=subject(texts, live=live, about=texts("news_digest"), says=says),
        mode=mode_of(texts, live=live),
        live=live,
        severity=_severity(digest),
        about=texts("news_digest_as_of", at=texts.time(digest.at)),
        headline=says,
        sentences=(texts("news_undelivered", count=digest.undelivered) if digest.undelivered else "",),
        tables=[table for table in tables if table.lines],
        where=(texts("news_digest_type") if digest.rows else where_of("onboard status", texts)[0],),
        address=address,
    )
    facts = {
        "event": notification.kind.value,
        "at": digest.at,
        "verdict": says,
        "open": digest.rows,
        "reasons": reasons_json(digest.groups, texts),
        "unfinished": [_json(each, texts) for each in digest.unfinished],
        "undelivered": digest.undelivered,
        "link": address or "onboard open",
    }
    return message(letter, texts, facts)


def _severity(digest: Digest) -> str:
    if any(each.is_unattended or each.batch.state is BatchState.HALTED for each in digest.unfinished):
        return "failure"
    return "warning" if digest.rows or digest.stopped or digest.undelivered else "info"


def _unfinished(batches: Sequence[UnfinishedBatch], texts: Texts) -> tuple[Line, ...]:
    lines = [
        Line(
            texts("news_batch", batch=str(each.batch.id)),
            texts("news_line", label=each.batch.name, title=_state(each, texts)),
            tuple(filter(None, _notes(each, texts))),
        )
        for each in sorted(batches, key=lambda each: not each.is_stopped)[:SHOWN]
    ]
    if more := len(batches) - SHOWN:
        lines += [Line("", texts("news_more_batches", count=more))] if more > 0 else []
    return tuple(lines)


def _state(each: UnfinishedBatch, texts: Texts) -> str:
    return texts("news_unattended") if each.is_unattended else texts(f"batch_{each.batch.state}")


def _notes(each: UnfinishedBatch, texts: Texts) -> list[str]:
    looked_up = "news_to_be_looked_up" if each.is_stopped else "news_looked_up"
    counts = (("verdict_open", each.unsent), (looked_up, each.looked_up))
    counted = texts("list_between").join(texts(key, count=count) for key, count in counts if count)
    night = "" if each.goes_on_at is None else texts("news_goes_on_at", at=texts.time(each.goes_on_at))
    why = stop_texts.sentence(each.batch.stop, texts.lang)
    is_named = not each.command or each.command in why
    return [counted, why, night, "" if is_named else texts("news_type_to_go_on", command=each.command)]


def _json(each: UnfinishedBatch, texts: Texts) -> dict[str, Any]:
    batch = each.batch
    return {
        "batch": batch.id,
        "file": batch.name,
        "state": batch.state.value,
        "worked_on": batch.is_worked_on,
        "why": stop_texts.sentence(batch.stop, texts.lang),
        "unsent": each.unsent,
        "looked_up": each.looked_up,
        "command": each.command,
    }
