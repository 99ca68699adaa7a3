"""How far a run has come: rows by state, rows a second, what it waits for; a live display on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tasks.errors import RateLimitUnavailable
from tasks.models import OPEN_STATES, RowState
from tasks.reports.i18n import Texts
from tasks.services import Services
from worker import logs, terminal
from worker.screen import Screen
from worker.wrapping import wrapped

#: A wait that ends sooner is not reported.
WORTH_SAYING_SECONDS = 3.0
_ENDED = {RowState.CREATED, RowState.SKIPPED, RowState.INVALID, RowState.REFUSED}


@contextlib.contextmanager
def live_display(
    console: Console, *, transient: bool = False, refresh_per_second: float | None = None
) -> Iterator[Live]:
    """Have a live display on a terminal; what is logged meanwhile appears above it, each line whole.

    What goes to a file goes there as ever.
    """
    live = Live(
        console=console,
        transient=transient,
        auto_refresh=refresh_per_second is not None,
        refresh_per_second=refresh_per_second or 1,
        redirect_stdout=not console.stderr,
        redirect_stderr=sys.stderr.isatty(),
    )
    with live, logs.written_by(lambda line: console.print(Text.from_ansi(line), soft_wrap=True)):
        yield live


class Progress:
    """A live display of one batch; nothing at all when the console is not a terminal."""

    def __init__(self, screen: Screen, limit: float | None) -> None:
        self._screen = screen
        self._console = screen.console
        self._limit = limit
        self._seen: deque[tuple[float, int]] = deque(maxlen=40)
        self._live: Live | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = self._open.enter_context(live_display(self._console, transient=True, refresh_per_second=8))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._live = None

    @property
    def texts(self) -> Texts:
        """What it says, in the reader's language."""
        return self._screen.texts

    def say(self, sentence: str) -> None:
        """Print a sentence once where there is no live display that shows it."""
        if self._live is None:
            self._console.print(Text(sentence))

    def announce(self, key: str, **values: object) -> None:
        """Print a text, above the live display if there is one."""
        self._console.print(Text(self.texts(key, **values)))

    def reading(self, records: int) -> None:
        """Show how far the file has been read."""
        if self._live is not None:
            self._live.update(Text(self.texts("reading", count=records)))

    def show(self, count: Mapping[RowState, int], rate: float | None, note: str = "") -> None:
        """Show rows by state, rows/s against the current rate, and the time left."""
        if self._live is None:
            return
        total = sum(count.values()) or 1
        ended = sum(number for state, number in count.items() if state in _ENDED)
        states = Text(" · ").join(
            Text(f"{self.texts(f'state_{state}')} {self.texts.number(count[state])}", style=colour)
            for state, colour in terminal.COLOURS.items()
            if count.get(state)
        )
        head = Text.assemble(self._bar(count, total), f" {ended:,}/{total:,}", (f" {ended / total:4.0%}", "bold"))
        lines: list[RenderableType] = [head, states, Text(self._pace(ended, total, rate), style="dim")]
        if note:
            lines.append(wrapped(Text(note, style="yellow")))
        self._live.update(Group(*lines))

    def _bar(self, count: Mapping[RowState, int], total: int) -> Text:
        width = max(10, min(60, self._console.width - 24))
        bar = Text()
        for state, colour in terminal.COLOURS.items():
            bar.append("━" * round(width * count.get(state, 0) / total), style=colour)
        bar.append("━" * max(0, width - len(bar)), style="grey37")
        return bar

    def _pace(self, ended: int, total: int, rate: float | None) -> str:
        """Return the speed of the last looks, and how long the rest takes at it."""
        self._seen.append((time.monotonic(), ended))
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        speed = (last - first) / (last_at - first_at) if last_at > first_at else 0.0
        pace = self.texts("pace", rate=self.texts.rate(speed))
        if rate is not None and self._limit is not None:
            pace += self.texts("pace_allowed", rate=self.texts.rate(rate))
        if speed > 0 and ended < total:
            pace += self.texts("pace_left", duration=self.texts.duration((total - ended) / speed))
        return pace


class BatchesDisplay:
    """Shows the batches of a run, and what they wait for when nothing is left but rows in doubt."""

    def __init__(self, services: Services, batches: Sequence[int], progress: Progress) -> None:
        self._services, self._batches, self._progress = services, batches, progress
        self._said_until = 0.0

    def refresh(self) -> None:
        """Show the batches as they are now."""
        rate, note = self._rate()
        counts = {batch_id: self._services.ledger.queries.count_states(batch_id) for batch_id in self._batches}
        notes = [note, *(self.look_ups_to_come(batch_id, count) for batch_id, count in counts.items())]
        self._progress.show(counts[self._batches[-1]], rate, "\n".join(filter(None, notes)))

    def _rate(self) -> tuple[float | None, str]:
        """Return the current rate, and a sentence if it is not what the settings allow."""
        try:
            current = self._services.rate_limit.current()
        except RateLimitUnavailable:
            return None, self._progress.texts("redis_silent")
        if current.rate >= 0.95 * current.limit:
            return current.rate, ""
        texts = self._progress.texts
        rate, limit = texts.rate(current.rate), texts.rate(current.limit)
        return current.rate, texts("throttled_now", rate=rate, limit=limit)

    def look_ups_to_come(self, batch_id: int, count: Mapping[RowState, int]) -> str:
        """Return the sentence for the live display, or ""; without a display it is printed whenever it changes much."""
        if not count.get(RowState.UNCLEAR) or not OPEN_STATES.isdisjoint(count):
            return ""
        to_come = self._services.ledger.queries.look_ups_to_come(batch_id)
        if to_come is None or to_come.last_at < self._services.ledger.now() + WORTH_SAYING_SECONDS:
            return ""
        sentence = terminal.look_ups_to_come(self._progress.texts, batch_id, to_come)
        if to_come.last_at > self._said_until + WORTH_SAYING_SECONDS:
            self._said_until = to_come.last_at
            self._progress.say(sentence)
        return sentence
