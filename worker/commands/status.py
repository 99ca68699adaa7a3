"""`onboard status`, `report`: what the ledger knows, for people and scripts."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.text import Text

from tasks.errors import LedgerError, LedgerReplaced
from tasks.models import Batch, BatchState
from tasks.operations.report import report as write_report
from tasks.operations.status import FleetRate, is_at_rest, list_batches, show_batch
from tasks.reports.i18n import Texts
from tasks.services import Services
from worker import terminal
from worker.commands.batch_result import batch_json
from worker.interrupts import STOPPED
from worker.progress import live_display
from worker.screen import Screen
from worker.streams import is_unread

#: How often a watched status is looked up, in seconds; and rarer where a look takes long, in multiples of that.
WATCH_SECONDS = 2.0
_LOOKS_PART = 4.0


def status(services: Services, batch_id: int | None, screen: Screen) -> tuple[int, dict[str, Any]]:
    """List the newest batches, or show one; with the fleet's current rate if it has a Redis."""
    terminal.print_place(screen, services.account, services.ledger.place)
    terminal.print_trouble(screen, services.ledger.replaced)
    return _list(services, screen) if batch_id is None else _show(services, batch_id, screen)


def watch(services: Services, batch_id: int | None, screen: Screen) -> tuple[int, dict[str, Any]]:
    """Show the status again and again, until Ctrl-C, or until the batch has come to rest.

    Without a terminal each status that differs from the one before is printed. Ctrl-C is the way to leave the list (0),
    and leaves a batch before its end (3); so does the end of whoever reads. A ledger that is out of reach after the
    first look is waited for.
    """
    result: dict[str, Any] | None = None
    with _Shown(screen) as shown:
        try:
            while True:
                began = time.monotonic()
                try:
                    at_rest = batch_id is not None and is_at_rest(services, batch_id)
                    (code, result), drawn = screen.drawn(lambda page: status(services, batch_id, page))
                except LedgerError as error:
                    if result is None or isinstance(error, LedgerReplaced):
                        raise
                    at_rest, drawn = False, Text(str(error), style="red")
                shown.show(drawn)
                if at_rest:
                    return code, result
                if is_unread(screen.console.file):
                    break
                time.sleep(max(WATCH_SECONDS, _LOOKS_PART * (time.monotonic() - began)))
        except KeyboardInterrupt:
            if result is None:
                raise
    return (0 if batch_id is None else STOPPED), result


class _Shown:
    """The last status: on a terminal in the place of the one before, elsewhere below it if it differs."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last: Text | None = None
        self._live: Live | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Shown:
        if self._screen.console.is_terminal:
            self._live = self._open.enter_context(live_display(self._screen.console))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def show(self, drawn: Text) -> None:
        """Show a status."""
        if self._live is not None:
            at = Text(self._screen.texts("watched_at", time=self._screen.clock_time(time.time())), style="dim")
            self._live.update(Group(drawn, at), refresh=True)
        elif drawn != self._last:
            self._screen.console.print(drawn, soft_wrap=True)
        self._last = drawn


def _show(services: Services, batch_id: int, screen: Screen) -> tuple[int, dict[str, Any]]:
    shown = show_batch(services, batch_id)
    batch = shown.status.batch
    screen.say("status_of", batch=str(batch.id), name=batch.name, state=_state(screen.texts, batch))
    terminal.print_counts(screen, shown.status)
    if shown.look_ups_to_come:
        to_come = terminal.look_ups_to_come(screen.texts, batch_id, shown.look_ups_to_come)
        screen.console.print(Text(to_come), soft_wrap=True)
    more = {"worked_on": batch.is_worked_on, "rate": _rate_json(shown.rate)}
    return terminal.exit_code(shown.status), {**batch_json(screen, shown.status), **more}


def _list(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    listed = list_batches(services)
    lines = []
    for each in listed.batches:
        batch, counts = each.batch, each.counts
        since = screen.clock_time(batch.finished_at or batch.created_at)
        created = f"{counts.created:,}/{counts.records:,}"
        lines.append((str(batch.id), batch.name, _state(screen.texts, batch), since, created, f"{each.work.open:,}"))
    if lines:
        heads = ("batch", "file", "state", "since", "created", "need_attention")
        terminal.print_columns(screen, heads, lines, right=("batch", "created", "need_attention"))
    else:
        screen.say("no_batch")
    if listed.rate is not None:
        _print_rate(screen, listed.rate)
    batches = [{**batch_json(screen, each), "worked_on": each.batch.is_worked_on} for each in listed.batches]
    return 0, {"batches": batches, "rate": _rate_json(listed.rate)}


def _state(texts: Texts, batch: Batch) -> str:
    """Return the state of a batch, and whether nobody works on one that is to be sent."""
    state = terminal.batch_state(texts, batch.state)
    nobody = batch.state is BatchState.RUNNING and not batch.is_worked_on
    return texts("state_without_workers", state=state) if nobody else state


def _print_rate(screen: Screen, rate: FleetRate) -> None:
    key = "rate_paused" if rate.paused_seconds >= 1 else "rate_now"
    seconds = f"{rate.paused_seconds:.0f}"
    screen.say(key, rate=f"{round(rate.rate, 3):g}", limit=f"{rate.limit:g}", seconds=seconds)


def _rate_json(rate: FleetRate | None) -> dict[str, float] | None:
    if rate is None:
        return None
    return {"limit": rate.limit, "rate": round(rate.rate, 3), "paused_seconds": round(rate.paused_seconds, 3)}


def report(
    services: Services, batch_id: int, folder: Path | None, screen: Screen, *, lang: str | None, excel_safe: bool
) -> tuple[int, dict[str, Any]]:
    """Write a batch's reports as it is now."""
    written = write_report(services, batch_id, folder=folder, lang=lang, excel_safe=excel_safe)
    terminal.print_trouble(screen, services.ledger.replaced)
    terminal.print_counts(screen, written.status)
    terminal.print_reports(screen, written.reports)
    return terminal.exit_code(written.status), batch_json(screen, written.status, written.reports)
