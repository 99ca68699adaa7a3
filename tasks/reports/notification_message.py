"""What a notification says of a batch in a few lines: headline, counts, the largest reasons, where to look.

Nothing in it comes from a record: names of files, numbers, codes, and sentences of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tasks import stop_texts
from tasks.models import Batch, BatchState, Notification, NotificationKind, RowCounts, Stop, Work
from tasks.reason_texts import hint, stands, title
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Standing, verdict

#: So many reasons are named.
REASONS = 3
#: Reasons of rows that nobody needs to look at.
_NO_REASONS = frozenset({"onboarded_before", "duplicate_in_file"})
_STATES = {
    NotificationKind.FINISHED: BatchState.FINISHED,
    NotificationKind.PAUSED: BatchState.PAUSED,
    NotificationKind.HALTED: BatchState.HALTED,
    NotificationKind.INTERRUPTED: BatchState.INTERRUPTED,
    NotificationKind.REJECTED: BatchState.UNUSABLE,
}


#: News whose `why` says why the batch does not go on.
_STOPS = frozenset(
    {
        NotificationKind.PAUSED,
        NotificationKind.HALTED,
        NotificationKind.INTERRUPTED,
        NotificationKind.UNATTENDED,
    }
)


class Message(NamedTuple):
    """What a channel delivers."""

    title: str
    text: str
    facts: Mapping[str, Any]  #: the same for a program


def compose(
    notification: Notification,
    texts: Texts,
    *,
    batch: Batch | None,
    counts: RowCounts | None,
    codes: Mapping[str, int],
    link: str,
    work: Work | None = None,
) -> Message:
    """Put a message together; `codes` is code -> rows, `link` where the reports are.

    `work` is what became of the rows that needed a person.
    """
    head = texts(f"news_{notification.kind}")
    facts: dict[str, Any] = {"event": notification.kind.value, "at": notification.at}
    if batch is None or counts is None:
        lines = [texts(f"news_{notification.kind}_more", why=notification.why)]
        if notification.code:
            lines += [title(notification.code, texts.lang), hint(notification.code, texts.lang)]
        says = "\n".join(lines)
        return Message(head, says, {**facts, "why": notification.why, "code": notification.code, "text": says})
    stop = Stop.decode(notification.why) if notification.kind in _STOPS else None
    standing = Standing(stands(batch), batch.id, changed=codes.get("changed", 0), listed_below=False, work=work)
    said = verdict(_STATES.get(notification.kind, batch.state), counts, texts, standing)
    repeats = notification.kind is NotificationKind.REPEATED
    reasons = [(code, rows) for code, rows in codes.items() if code not in _NO_REASONS and rows]
    reasons = sorted(reasons, key=lambda one: (-one[1], one[0]))[:REASONS]
    parts = [[said.text, said.more, stop_texts.sentence(stop, texts.lang)]]
    if repeats:
        parts = [[texts("news_repeated_more", batch=batch.id, name=batch.name), said.text]]
    if notification.kind is NotificationKind.REJECTED:
        parts = [
            [said.text, said.more],
            [title(notification.code, texts.lang), hint(notification.code, texts.lang)] if notification.code else [],
        ]
    else:
        counted = [(texts(f"state_{name}"), rows) for name, rows in _counts(counts).items()]
        parts.append([texts("counted", name=name, count=texts.number(rows)) for name, rows in counted])
        if not repeats:
            named = [(rows, title(code, texts.lang), code) for code, rows in reasons]
            parts.append(
                [texts("news_reason", count=texts.number(rows), title=says, code=code) for rows, says, code in named]
            )
    parts.append([link])
    text = "\n\n".join("\n".join(line for line in lines if line) for lines in parts if any(lines))
    mode = texts("mode_live" if batch.account.live else "mode_test")
    facts |= {
        "batch": batch.id,
        "file": notification.why if repeats else batch.name,
        "live": batch.account.live,
        "verdict": said.text,
        "why": stop_texts.sentence(stop, texts.lang),
        "code": notification.code,
        "books": {"records": counts.records, **_counts(counts), "balance": counts.balance},
        "reasons": [{"code": code, "title": title(code, texts.lang), "rows": rows} for code, rows in reasons],
        "link": link,
        "text": text,
    }
    return Message(texts("news_title", head=head, file=facts["file"], batch=str(batch.id), mode=mode), text, facts)


def _counts(counts: RowCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("created", "skipped", "invalid", "refused", "unclear", "open")}
