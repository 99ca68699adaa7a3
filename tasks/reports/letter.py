"""What a notification says, once: as plain text, and as HTML for a mail."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.reports.i18n import Texts
from tasks.reports.open_groups import OpenGroup
from tasks.reports.recommendations import title_of

#: So many lines of a table are shown.
SHOWN = 20


class Line(NamedTuple):
    """One line of a table."""

    label: str  #: how many rows, or which batch
    title: str
    notes: tuple[str, ...] = ()  #: what to do, since when, where
    code: str = ""

    def as_text(self, texts: Texts) -> str:
        """Return it as plain text."""
        title = texts("news_reason", title=self.title, code=self.code) if self.code else self.title
        return "\n".join((texts("news_line", label=self.label, title=title), *self.notes))


class Table(NamedTuple):
    """Lines below a title."""

    title: str
    lines: tuple[Line, ...]


class Letter(NamedTuple):
    """What a notification says, from its subject to where to look."""

    subject: str
    mode: str  #: TEST or LIVE, as people read it
    live: bool
    severity: str  #: info, success, warning or failure
    about: str  #: the file, and the number of its batch
    headline: str
    sentences: Sequence[str] = ()
    tables: Sequence[Table] = ()
    counts: Sequence[tuple[str, str]] = ()  #: name and number
    where: Sequence[str] = ()  #: what to type, or where to look
    address: str = ""  #: that a browser can open

    def as_text(self, texts: Texts) -> str:
        """Return it as plain text."""
        parts: list[Iterable[str]] = [(self.headline, *self.sentences)]
        for table in self.tables:
            parts.append((table.title,))
            parts += [(line.as_text(texts),) for line in table.lines]
        parts.append(texts("counted", name=name, count=number) for name, number in self.counts)
        parts.append((*self.where, self.address))
        written = ("\n".join(filter(None, part)) for part in parts)
        return "\n\n".join(filter(None, written))

    def as_html(self, texts: Texts) -> str:
        """Return it as the HTML of a mail: styles in place, nothing that is loaded from elsewhere."""
        from tasks.reports.html_report import template_environment

        return template_environment().get_template("notification.html.j2").render(letter=self, t=texts)


def subject(texts: Texts, *, live: bool, about: str, says: str) -> str:
    """Return the subject of a notification: product, mode, file or digest, and the verdict."""
    return one_line(texts("news_title", mode=mode_of(texts, live=live), about=about, says=says))


def mode_of(texts: Texts, *, live: bool) -> str:
    """Return the mode so that it cannot be overlooked."""
    return texts("mode_live" if live else "mode_test").upper()


def one_line(text: str) -> str:
    """Return a text without anything that ends a line, or cannot be seen."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def lines_of(groups: Sequence[OpenGroup], texts: Texts, now: float | None = None) -> tuple[Line, ...]:
    """Return a line for each of the largest groups, and one for all others.

    With `now` they say since when their rows are open, and in which batches.
    """
    lines = [_line(group, texts, now) for group in groups[:SHOWN]]
    if more := sum(group.rows for group in groups[SHOWN:]):
        lines.append(Line(texts("news_rows", count=more), texts("news_other_reasons")))
    return tuple(lines)


def _line(group: OpenGroup, texts: Texts, now: float | None) -> Line:
    notes = [group.hint(texts.lang)]
    if now is not None:
        notes.append(texts("news_open_for", age=age(texts, now - group.since), batches=_batches(group, texts)))
    rows = texts("news_rows", count=group.rows)
    return Line(rows, title_of(group.key, texts), tuple(filter(None, notes)), group.key.code)


def _batches(group: OpenGroup, texts: Texts) -> str:
    """Return in which batches the rows are, the newest first."""
    counted = sorted(group.batches.items(), reverse=True)
    named = [texts("news_in_batch", batch=str(batch), count=rows) for batch, rows in counted[:_BATCHES]]
    if more := len(counted) - _BATCHES:
        named += [texts("news_more_batches", count=more)] if more > 0 else []
    return texts("list_between").join(named)


#: So many batches of a group are named.
_BATCHES = 5


def age(texts: Texts, seconds: float) -> str:
    """Return how long something has been open: in days, or below two days as `Texts.duration` says it."""
    days = int(seconds // 86_400)
    return texts("follow_up_days", count=days) if days >= 2 else texts.duration(max(1.0, seconds))


def where_of(link: str, texts: Texts) -> tuple[str, str]:
    """Return a sentence that says where to look, and an address for a browser if `link` is one."""
    if "://" in link:
        return "", link
    if link.startswith("onboard "):
        return texts("news_type", command=link), ""
    return (texts("news_folder", folder=link, host=platform.node()), "") if link else ("", "")
