"""What a notification says of one event: verdict, what to do, counts, where to look.

Nothing in it comes from a record: names of files and columns, numbers, codes, and sentences of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks import stop_texts
from tasks.models import Batch, BatchState, Notification, NotificationKind, RowCounts, Stop, Work
from tasks.reason_texts import hint, stands, title
from tasks.reports.i18n import Texts
from tasks.reports.letter import Letter, Table, lines_of, mode_of, subject, where_of
from tasks.reports.open_groups import OpenGroup
from tasks.reports.recommendations import Headline, Standing, title_of, verdict

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
#: How much each event matters, as Apprise calls it.
_SEVERITIES = {
    NotificationKind.FINISHED: "success",
    NotificationKind.PAUSED: "warning",
    NotificationKind.HALTED: "failure",
    NotificationKind.INTERRUPTED: "warning",
    NotificationKind.UNATTENDED: "failure",
    NotificationKind.REJECTED: "failure",
    NotificationKind.REPEATED: "info",
    NotificationKind.NOTHING_ARRIVED: "warning",
    NotificationKind.NOT_TAKEN: "failure",
    NotificationKind.WENT_ON: "warning",
    NotificationKind.TEST: "info",
}


class Message(NamedTuple):
    """What a channel delivers."""

    title: str
    text: str
    facts: Mapping[str, Any]  #: the same for a program
    severity: str = "info"  #: info, success, warning or failure
    html: str = ""  #: the same as `text`, for a mail


class BatchNews(NamedTuple):
    """The batch that a notification is about, as it is now."""

    batch: Batch
    counts: RowCounts
    work: Work  #: what became of its rows that needed a person
    changed: int  #: rows that are known with other content
    groups: Sequence[OpenGroup]  #: what is left of it for people
    elsewhere: int  #: rows of other batches that need a person
    link: str  #: an address, a folder, or what to type


def message(letter: Letter, texts: Texts, facts: Mapping[str, Any]) -> Message:
    """Return a letter with its facts as what channels deliver."""
    text = letter.as_text(texts)
    known = {"live": letter.live, "severity": letter.severity, "text": text}
    return Message(letter.subject, text, {**facts, **known}, letter.severity, letter.as_html(texts))


def compose(notification: Notification, texts: Texts, *, live: bool, of: BatchNews | None) -> Message:
    """Put the message of an event together; `live` is the mode of whoever tells, `of` the batch if it is about one."""
    facts: dict[str, Any] = {"event": notification.kind.value, "at": notification.at}
    if of is not None:
        return _of_batch(notification, texts, of, facts)
    head, why = texts(f"news_{notification.kind}"), notification.why
    named = [title(notification.code, texts.lang), hint(notification.code, texts.lang)] if notification.code else []
    letter = Letter(
        subject=subject(texts, live=live, about=head, says=named[0] if named else why),
        mode=mode_of(texts, live=live),
        live=live,
        severity=_SEVERITIES[notification.kind],
        about="",
        headline=head,
        sentences=(texts(f"news_{notification.kind}_more", why=why), *named),
    )
    return message(letter, texts, {**facts, "why": why, "code": notification.code})


def _of_batch(notification: Notification, texts: Texts, of: BatchNews, facts: Mapping[str, Any]) -> Message:
    batch, counts, kind = of.batch, of.counts, notification.kind
    said = _verdict(kind, of, texts)
    file = notification.why if kind is NotificationKind.REPEATED else batch.name
    stop = Stop.decode(notification.why) if kind in _STOPS else None
    why = stop_texts.sentence(stop, texts.lang)
    place, address = where_of(of.link, texts)
    head = texts(f"news_{kind}")
    short = _verdict(kind, of, texts, Work(open=of.work.open)).text
    plain = kind is NotificationKind.FINISHED
    counted = kind is not NotificationKind.REJECTED
    elsewhere = texts("news_elsewhere", count=of.elsewhere) if of.elsewhere else ""
    letter = Letter(
        subject=subject(
            texts,
            live=batch.account.live,
            about=file,
            says=short if plain else texts("news_line", label=head, title=short),
        ),
        mode=mode_of(texts, live=batch.account.live),
        live=batch.account.live,
        severity=_severity(kind, of),
        about=texts("news_about", file=file, batch=str(batch.id)),
        headline=said.text if plain else texts("news_line", label=head, title=said.text),
        sentences=_sentences(notification, of, said, why, texts),
        tables=(Table(texts("what_to_do"), lines_of(of.groups, texts)),) if of.groups else (),
        counts=[(texts(f"state_{name}"), texts.number(rows)) for name, rows in _counts(counts).items() if counted],
        where=tuple(filter(None, (elsewhere, place))),
        address=address,
    )
    more = {
        "batch": batch.id,
        "file": file,
        "verdict": said.text,
        "why": why,
        "code": notification.code,
        "books": {"records": counts.records, **_counts(counts), "balance": counts.balance},
        "open": of.work.open,
        "open_elsewhere": of.elsewhere,
        "reasons": reasons_json(of.groups, texts),
        "link": of.link,
    }
    return message(letter, texts, {**facts, **more})


def _verdict(kind: NotificationKind, of: BatchNews, texts: Texts, work: Work | None = None) -> Headline:
    standing = Standing(
        stands(of.batch), of.batch.id, changed=of.changed, listed_below=bool(of.groups), work=work or of.work
    )
    state = of.batch.state if kind is NotificationKind.UNATTENDED else _STATES.get(kind, of.batch.state)
    return verdict(state, of.counts, texts, standing)


def _sentences(notification: Notification, of: BatchNews, said: Headline, why: str, texts: Texts) -> tuple[str, ...]:
    """Return what follows the headline: how the batch stands now, and why."""
    kind, state = notification.kind, of.batch.state
    if kind is NotificationKind.REJECTED:
        code = notification.code
        return said.more, *([title(code, texts.lang), hint(code, texts.lang)] if code else [])
    wrong = "" if of.counts.balance else texts("counts_differ")
    if kind is NotificationKind.REPEATED:
        again = texts("news_repeated_more", batch=of.batch.id, name=of.batch.name)
        return wrong, again, said.more if said.kind == "stopped" else ""
    if kind is NotificationKind.UNATTENDED:
        return wrong, why
    if _STATES[kind] is not state:  # it has gone on, or stopped again, since
        return wrong, why, texts("news_since", state=texts(f"batch_{state}"))
    return wrong, "" if wrong else said.more, why


def _severity(kind: NotificationKind, of: BatchNews) -> str:
    if not of.counts.balance:
        return "failure"
    if kind in (NotificationKind.FINISHED, NotificationKind.REPEATED) and of.work.open:
        return "warning"
    return _SEVERITIES[kind]


def reasons_json(groups: Sequence[OpenGroup], texts: Texts) -> list[dict[str, Any]]:
    """Return what there is to do, for a program; the rows of all groups are the open ones."""
    return [
        {
            **group.key._asdict(),
            "title": title_of(group.key, texts),
            "hint": group.hint(texts.lang),
            "rows": group.rows,
            "since": group.since,
            "batches": {str(batch): rows for batch, rows in group.batches.items()},
        }
        for group in groups
    ]


def _counts(counts: RowCounts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in ("created", "skipped", "invalid", "refused", "unclear", "open")}
