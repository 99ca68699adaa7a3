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
from tasks.operations.batch_status import BatchStatus
from tasks.operations.report import report as write_report
from tasks.operations.status import BatchDetail, FleetRate, Forecast, is_at_rest, list_batches, show_batch
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
    terminal.print_fields(screen, [(Text(label, style="dim"), value) for label, value in _fields(shown, screen)])
    if shown.look_ups_to_come:
        to_come = terminal.look_ups_to_come(screen.texts, batch_id, shown.look_ups_to_come)
        screen.console.print(Text(to_come), soft_wrap=True)
    return terminal.exit_code(shown.status), {**batch_json(screen, shown.status), **_more_json(shown)}


def _fields(shown: BatchDetail, screen: Screen) -> list[tuple[str, Text]]:
    """Return what is said of a batch besides its counts: its mode, who sends it, when it is done, what people have."""
    texts, batch = screen.texts, shown.status.batch
    found = [("mode", terminal.mode(texts, live=batch.account.live))]
    if shown.at_work is not None or batch.state is BatchState.INTERRUPTED:
        found.append(("at_work", Text(_who_sends(shown, texts))))
    if shown.at_work is not None and shown.status.counts.open:
        found.append(("forecast", _forecast(shown, screen)))
    if need := shown.status.work.open:
        said = texts("attention_of_batch", count=need, batch=str(batch.id))
        found.append(("need_attention", Text(said, style="yellow")))
    return [(texts(f"head_{name}"), value) for name, value in found]


def _who_sends(shown: BatchDetail, texts: Texts) -> str:
    at_work, batch = shown.at_work, shown.status.batch
    if at_work is None:
        return texts("at_work_interrupted", batch=str(batch.id))
    if at_work.command is not None:
        host, pid = at_work.command
        return texts("at_work_command", count=len(at_work.workers), pid=str(pid), host=host)
    if at_work.workers:
        hosts = texts("list_between").join(at_work.hosts)
        return texts("at_work_fleet", count=len(at_work.workers), hosts=hosts)
    return texts("at_work_nobody")


def _forecast(shown: BatchDetail, screen: Screen) -> Text:
    """Return when a batch is done, against its deadline if it has one."""
    texts, forecast, deadline_at = screen.texts, shown.forecast, shown.status.batch.deadline_at
    said = _pace(shown, screen)
    if deadline_at is None:
        return Text(said)
    deadline = screen.clock_time(deadline_at)
    if forecast is None:
        return Text(texts("forecast_deadline", forecast=said, time=deadline))
    if forecast.misses_deadline:
        return Text(texts("forecast_too_late", forecast=said, time=deadline), style="bold yellow")
    early = texts.duration(deadline_at - forecast.done_at)
    return Text(texts("forecast_in_time", forecast=said, duration=early, time=deadline))


def _pace(shown: BatchDetail, screen: Screen) -> str:
    texts, forecast, goes_on_at = screen.texts, shown.forecast, shown.goes_on_at
    if forecast is None:
        if goes_on_at is None:
            return texts("forecast_none")
        return texts("forecast_closed", time=screen.clock_time(goes_on_at))
    rate = texts.rate(forecast.rows_per_second)
    if forecast.closes_at is not None:
        closes = screen.clock_time(forecast.closes_at)
        return texts("forecast_night", rate=rate, count=forecast.left_at_closing, time=closes)
    left = texts.duration(max(1.0, forecast.done_at - time.time()))
    return texts("forecast_done", time=screen.clock_time(forecast.done_at), duration=left, rate=rate)


def _more_json(shown: BatchDetail) -> dict[str, Any]:
    batch, at_work = shown.status.batch, shown.at_work
    process = None if at_work is None or at_work.command is None else dict(zip(_PROCESS, at_work.command, strict=True))
    workers = () if at_work is None else at_work.workers
    return {
        **_account_json(batch),
        "worked_on": batch.is_worked_on,
        "brought_by": batch.brought_by,
        "command": process,
        "workers": [dict(zip(_PROCESS, worker, strict=True)) for worker in workers],
        "forecast": _forecast_json(shown.forecast),
        "goes_on_at": shown.goes_on_at,
        "rate": _rate_json(shown.rate),
    }


_PROCESS = ("host", "pid")


def _account_json(batch: Batch) -> dict[str, str]:
    return {"mode": "live" if batch.account.live else "test", "address": batch.account.address}


def _forecast_json(forecast: Forecast | None) -> dict[str, Any] | None:
    return None if forecast is None else {**forecast._asdict(), "misses_deadline": forecast.misses_deadline}


def _list(services: Services, screen: Screen) -> tuple[int, dict[str, Any]]:
    listed = list_batches(services)
    if listed.batches:
        lines = [_line(each, listed.forecasts.get(each.batch.id), screen) for each in listed.batches]
        heads = ("batch", "file", "state", "since", "created", "done_at", "need_attention")
        terminal.print_columns(screen, heads, lines, right=("batch", "created", "need_attention"))
    else:
        screen.say("no_batch")
    if listed.open_rows:
        screen.say("attention_over_all", style="yellow", count=listed.open_rows)
    if listed.rate is not None:
        _print_rate(screen, listed.rate)
    batches = [
        {
            **batch_json(screen, each),
            **_account_json(each.batch),
            "worked_on": each.batch.is_worked_on,
            "forecast": _forecast_json(listed.forecasts.get(each.batch.id)),
        }
        for each in listed.batches
    ]
    return 0, {"batches": batches, "open": listed.open_rows, "rate": _rate_json(listed.rate)}


def _line(each: BatchStatus, forecast: Forecast | None, screen: Screen) -> tuple[str, ...]:
    batch, counts = each.batch, each.counts
    return (
        str(batch.id),
        batch.name,
        _state(screen.texts, batch),
        screen.clock_time(batch.finished_at or batch.created_at),
        f"{counts.created:,}/{counts.records:,}",
        "" if forecast is None else screen.clock_time(forecast.done_at),
        f"{each.work.open:,}",
    )


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
