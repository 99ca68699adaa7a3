"""What a person sees on the terminal: tables, verdicts, counts, times."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from rich.table import Table
from rich.text import Text

from tasks import stop_texts
from tasks.ledger import LookUpsToCome
from tasks.models import Account, Batch, BatchState, Reason, RowState, StopCode
from tasks.operations.batch_status import BatchStatus
from tasks.reason_texts import sentence
from tasks.reports import recommendations
from tasks.reports.i18n import Texts
from worker.screen import Screen
from worker.wrapping import longest_word, wrapped

#: Colour of each state, in the order in which they are shown.
COLOURS = {
    RowState.CREATED: "green",
    RowState.SKIPPED: "cyan",
    RowState.INVALID: "yellow",
    RowState.REFUSED: "red",
    RowState.UNCLEAR: "magenta",
    RowState.SENDING: "blue",
}


def duration(seconds: float) -> str:
    """Return a time span as the reports say it: 1 h 10 min, 12 min 5 s, 45 s."""
    return Texts("en", "UTC").duration(seconds)


def next_time(text: str, zone: str) -> float:
    """Return when it is next so late (HH:MM) in the people's time zone, in epoch seconds. Raises ValueError."""
    wanted = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time of day, not a moment
    now = datetime.now(ZoneInfo(zone))
    then = now.replace(hour=wanted.hour, minute=wanted.minute, second=0, microsecond=0)
    return (then if then > now else then + timedelta(days=1)).timestamp()


def look_ups_to_come(texts: Texts, batch_id: int, to_come: LookUpsToCome) -> str:
    """Return the sentence that says which rows in doubt a batch waits for, and until when."""
    until = texts.time(to_come.last_at, "%H:%M:%S %Z")
    return texts("look_ups_to_come", count=to_come.rows, batch=str(batch_id), until=until)


def print_columns(
    screen: Screen, heads: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Collection[str] = ()
) -> None:
    """Print rows as `print_table` does; `heads` and `right` are keys of titles in the catalogue, without `head_`."""
    titles = {head: screen.texts(f"head_{head}") for head in heads}
    print_table(screen, list(titles.values()), rows, right=[titles[head] for head in right])


def print_table(
    screen: Screen, titles: Sequence[str], rows: Sequence[Sequence[str | Text]], right: Collection[str] = ()
) -> None:
    """Print rows under their titles, or, where a word would not fit into its column, each row as lines of its own.

    No id, path or other word is ever broken. Columns without any value are left out.
    """
    kept = [at for at in range(len(titles)) if any(len(row[at]) for row in rows)]
    cells = [[Text(titles[at]) for at in kept], *([_text(row[at]) for at in kept] for row in rows)]
    columns = list(zip(*cells, strict=True))
    least = [max(map(_least, column)) for column in columns]
    wanted = [max(cell.cell_len for cell in column) for column in columns]
    room = screen.console.width - _GAP * len(kept)
    if sum(least) <= room:
        table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="dim")
        for (title, *_), width in zip(columns, _widths(least, wanted, room), strict=True):
            justify: Literal["left", "right"] = "right" if title.plain in right else "left"
            table.add_column(title, overflow="fold", justify=justify, width=width)
        for row in cells[1:]:
            table.add_row(*map(wrapped, row))
        screen.console.print(table)
        return
    for row in cells[1:]:
        labelled = zip(cells[0], row, strict=True)
        print_fields(screen, [(Text(title.plain, style="dim"), cell) for title, cell in labelled if len(cell)])
        screen.console.print()


def print_fields(screen: Screen, fields: Sequence[tuple[Text, Text]]) -> None:
    """Print values beside their labels; a value with a word that does not fit there begins on a line of its own."""
    left = max((label.cell_len for label, _ in fields), default=0) + _GAP
    for label, value in fields:
        if longest_word(value) + left > screen.console.width:
            screen.console.print(label, soft_wrap=True)
            screen.console.print(value, soft_wrap=True)
            continue
        line = Table.grid(padding=(0, _GAP, 0, 0))
        line.add_column(width=left - _GAP, no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(label, wrapped(value))
        screen.console.print(line)


def _widths(least: Sequence[int], wanted: Sequence[int], room: int) -> list[int]:
    """Return a width for each column: its least, and of what is left as much as it wants, the modest ones first."""
    widths, left = list(least), room - sum(least)
    by_need = sorted(range(len(least)), key=lambda at: wanted[at] - least[at])
    for done, at in enumerate(by_need):
        more = max(0, min(wanted[at] - least[at], left // (len(by_need) - done)))
        widths[at] += more
        left -= more
    return widths


def _text(value: str | Text) -> Text:
    return value if isinstance(value, Text) else Text(value)


def _least(cell: Text) -> int:
    """Return how narrow a cell may be: its longest word, and no short text in Japanese one character a line."""
    return max(longest_word(cell), min(cell.cell_len, _SHORT))


#: Blanks between columns, and the width of a text that stays on one line.
_GAP, _SHORT = 2, 8


def batch_state(texts: Texts, state: BatchState) -> str:
    """Return the state of a batch in words."""
    return texts(f"batch_{state}")


def verdict(texts: Texts, status: BatchStatus) -> str:
    """Return the headline of every report: what came out, and whether somebody is needed."""
    counts, standing = status.counts, recommendations.Standing(skipped=status.skipped, work=status.work)
    headline = recommendations.verdict(status.batch.state, counts, texts, standing).text
    return headline if counts.balance else texts("verdict_between").join([headline, texts("counts_differ")])


def exit_code(status: BatchStatus) -> int:
    """Return the exit code that a batch deserves (`worker/cli/options.py`)."""
    if not status.counts.balance:
        return 1
    if status.batch.state is not BatchState.FINISHED:
        return 3
    return 1 if status.work.open else 0


def print_place(screen: Screen, account: Account, ledger: str) -> None:
    """Say which mode, address and ledger a command works with; live mode cannot be overlooked."""
    at = screen.texts("mode_at", address=account.address, ledger=ledger)
    screen.console.print(Text.assemble(mode(screen.texts, live=account.live), at), soft_wrap=True)


def mode(texts: Texts, *, live: bool) -> Text:
    """Return a mode in words; live mode cannot be overlooked."""
    return Text(texts("place_live"), style="bold white on red") if live else Text(texts("place_test"))


def print_time(screen: Screen) -> None:
    """Say when it is as what follows says: a list may be printed, or kept."""
    screen.say("as_of", style="dim", time=screen.texts.time(time.time()))


def print_trouble(screen: Screen, sentence: str) -> None:
    """Print what is wrong with all of it, if anything is."""
    if sentence:
        screen.say("trouble", style="bold red", says=sentence)


def print_counts(screen: Screen, status: BatchStatus, *, seconds: float | None = None) -> None:
    """Print verdict and counts."""
    texts, batch, counts = screen.texts, status.batch, status.counts
    well = status.work.open == counts.open == 0 and counts.balance and batch.state is not BatchState.UNUSABLE
    colour = "green" if well else "yellow"
    screen.console.print(wrapped(Text(verdict(texts, status), style=f"bold {colour}")))
    if said := _how_it_stands(texts, batch):
        screen.console.print(Text(said, style="red"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name in ("created", "skipped", "invalid", "refused", "unclear", "open"):
        number = getattr(counts, name)
        style = COLOURS.get(RowState(name), "") if name != "open" else ""
        label = Text(texts(f"state_{name}"), style=style if number else "dim")
        table.add_row(label, Text(texts.number(number), justify="right"))
    sign = "=" if counts.balance else "≠"
    total = Text(texts.number(counts.records), justify="right", style="bold")
    table.add_row(Text(texts("head_records"), style="bold"), total, sign)
    screen.console.print(table)
    if seconds is not None and seconds > 0:
        screen.say("run_took", style="dim", duration=texts.duration(seconds), rate=texts.rate(counts.created / seconds))


#: The sentences of these stops name the state of their batch.
_NAME_THE_STATE = frozenset({StopCode.PERSON, StopCode.CANCELLED, StopCode.UNUSABLE})


def _how_it_stands(texts: Texts, batch: Batch) -> str:
    """Return state and reason of a batch that has not finished, or nothing."""
    why, state = stop_texts.sentence(batch.stop, texts.lang), batch_state(texts, batch.state)
    if why:
        return why if batch.stop_code in _NAME_THE_STATE else texts("state_and_why", state=state, why=why)
    return "" if batch.state in (BatchState.FINISHED, BatchState.UNUSABLE) else state


def print_note(screen: Screen, reason: Reason, count: int, line: int, lang: str) -> None:
    """Print what is odd about a file, but does not keep rows from being sent."""
    screen.say("note", style="dim", says=sentence(reason, lang), count=count, line=str(line))


def print_ignored(screen: Screen, batch: Batch) -> None:
    """Say that the file has rows which are not counted as records, if it has."""
    for code, column, count, line, detail in batch.warnings:
        if code == "empty_rows_at_end":
            print_note(screen, Reason(code, column, detail=detail), count, line, screen.texts.lang)


def print_reports(screen: Screen, reports: Mapping[str, Path]) -> None:
    """Print where the reports are."""
    for name, path in reports.items():
        screen.console.print(Text(f"  {name:<13} "), Text(str(path)), sep="", soft_wrap=True)
    if any(name.endswith("_edited") for name in reports):
        screen.say("reports_edited", style="yellow")
