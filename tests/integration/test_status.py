"""`onboard status`: who sends a batch, when it is done against window and deadline, and what people have to do."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from factories import answer, new_row, new_worker, running_batch, whole
from rich.console import Console
from sqlalchemy import text

from tasks.ledger import Ledger
from tasks.models import BatchState, RowState
from tasks.operations.status import list_batches, show_batch
from tasks.services import Services
from tasks.settings import load_settings
from worker.commands.status import status
from worker.screen import Screen, open_screen

pytestmark = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)


@pytest.fixture
def services(tmp_path: Path, ledger: Ledger, ledger_url: str) -> Iterator[Services]:
    """Those of a process with this ledger."""
    made = Services(load_settings({"ONBOARD_HOME": str(tmp_path), "LEDGER_URL": ledger_url}, folder=tmp_path))
    yield made
    made.ledger.close()


def sent(ledger: Ledger, rows: int, of: int, seconds: float, **batch: Any) -> int:
    """A batch of which the first rows were created evenly over the last seconds."""
    number = running_batch(ledger, of)
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(number), worker.number)
    worker.mark(held)
    worker.record(*(answer(row) for row in held[:rows]))
    now = time.time()
    with ledger.engine.write() as connection:
        sent_at = f"update rows set sent_at = {now - seconds} + record * {seconds / rows} where state = 'created'"
        connection.execute(text(f"{sent_at} and batch_id = {number}"))
        for name, value in batch.items():
            connection.execute(text(f'update batches set "{name}" = :value where id = {number}'), {"value": value})
    return number


def shown(services: Services, batch: int | None, lang: str, width: int) -> tuple[str, dict[str, Any]]:
    page = io.StringIO()
    screen = Screen(Console(file=page, width=width, highlight=False), open_screen(lang, "Asia/Tokyo").texts)
    _, result = status(services, batch, screen)
    return page.getvalue(), result


def test_a_batch_is_done_when_its_open_rows_are_at_the_pace_of_the_last_minute(services: Services) -> None:
    ledger = services.ledger
    batch = sent(ledger, 60, 120, 30.0)
    forecast = show_batch(services, batch).forecast
    assert forecast is not None
    assert forecast.rows_per_second == pytest.approx(2, rel=0.1)
    assert forecast.done_at == pytest.approx(time.time() + 30, abs=4)
    assert (forecast.deadline_at, forecast.misses_deadline, forecast.left_at_closing) == (None, False, 0)
    assert list_batches(services).forecasts[batch].done_at == pytest.approx(forecast.done_at, abs=4)


@pytest.mark.parametrize(("seconds", "misses"), [(3600.0, False), (5.0, True)])
def test_a_forecast_is_held_against_the_deadline(services: Services, seconds: float, misses: bool) -> None:
    batch = sent(services.ledger, 60, 120, 30.0, deadline_at=time.time() + seconds)
    forecast = show_batch(services, batch).forecast
    assert forecast is not None
    assert forecast.misses_deadline is misses
    page, result = shown(services, batch, "en", 120)
    assert ("AFTER ITS DEADLINE" in page, "before its deadline" in page) == (misses, not misses)
    assert result["forecast"]["misses_deadline"] is misses


def test_rows_that_the_window_leaves_are_told_and_no_end_is_promised(services: Services) -> None:
    closes = datetime.now(ZoneInfo("UTC")) + timedelta(seconds=130)
    window = f"{closes - timedelta(hours=1):%H:%M}:00-{closes:%H:%M}:00 UTC"
    batch = sent(services.ledger, 20, 620, 30.0, window=window)
    forecast = show_batch(services, batch).forecast
    assert forecast is not None
    assert forecast.closes_at is not None
    left = (forecast.done_at - forecast.closes_at) * forecast.rows_per_second
    assert forecast.left_at_closing == pytest.approx(left, abs=2)
    page, _ = shown(services, batch, "en", 200)
    assert "are left when the window closes at" in page
    assert "done about" not in page


def test_nothing_is_foreseen_of_a_batch_that_nobody_works_on(services: Services) -> None:
    ledger = services.ledger
    batch = sent(ledger, 60, 120, 30.0)
    with ledger.engine.write() as connection:
        connection.execute(text("update workers set lease_ends_at = 0"))
    assert show_batch(services, batch).forecast is None
    page, result = shown(services, batch, "en", 120)
    assert "nobody: start `onboard worker` or `onboard watch`" in page
    assert (result["workers"], result["forecast"], result["worked_on"]) == ([], None, False)


def test_the_workers_of_a_command_are_told_with_their_command(services: Services, ledger_url: str) -> None:
    command = Ledger.open(ledger_url, services.account)
    command.workers.add_command("here/boot", 4711, "", 60.0)
    batch = running_batch(command, 2)
    command.workers.add("here/boot", 4712, "", 60.0, longest_request_seconds=1.0)
    new_worker(services.ledger)  # of the fleet: not for this batch
    page, result = shown(services, batch, "en", 120)
    assert "1 worker of one command (process 4711 on here)" in page
    assert result["command"] == {"host": "here", "pid": 4711}
    assert result["workers"] == [{"host": "here", "pid": 4712}]
    with command.engine.write() as connection:
        connection.execute(text("update workers set lease_ends_at = 0"))
    page, result = shown(services, batch, "en", 120)
    assert (result["state"], result["command"]) == ("interrupted", None)
    assert f"nobody, its command is gone: `onboard resume {batch}`" in page
    command.close()


@pytest.mark.parametrize("width", [120, 80, 40])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_broken(services: Services, lang: str, width: int) -> None:
    batch = sent(services.ledger, 60, 120, 30.0, deadline_at=time.time() + 3600)
    refused = running_batch(services.ledger, [new_row(500, state="invalid")])
    assert services.ledger.lifecycle.close(refused)
    one, _ = shown(services, batch, lang, width)
    listed, _ = shown(services, None, lang, width)
    own = [*one.splitlines()[1:], *listed.splitlines()[1:-1]]  # the first has the ledger's path
    narrow = Console(width=width)
    assert [line for line in own if narrow.measure(line).maximum > width] == []
    titles = {"en": ("at work", "forecast"), "ja": ("担当", "見込み")}[lang]
    assert [title for title in titles if title not in one] == []
    states = {"en": ("running", "finished"), "ja": ("処理中", "完了")}[lang]
    assert [state for state in states if state not in listed] == []


def test_need_attention_counts_what_people_have_to_do_and_nothing_else(services: Services) -> None:
    ledger = services.ledger
    batch = running_batch(ledger, [new_row(record) for record in range(1, 6)])
    worker = new_worker(ledger)
    held = ledger.leases.claim(whole(batch), worker.number)
    worker.mark(held[:3])
    worker.record(
        answer(held[0], RowState.UNCLEAR, code="read_timeout", not_before=ledger.now() + 60),
        answer(held[1], RowState.UNCLEAR, code="lookup_inconclusive"),
        answer(held[2], RowState.REFUSED, code="M002003"),
    )
    page, result = shown(services, batch, "en", 120)
    assert f"2 rows: `onboard open {batch}`" in page
    assert (result["work"]["open"], result["books"]["unclear"]) == (2, 2)
    listed, everything = shown(services, None, "en", 120)
    assert "over all batches 2 rows need attention" in listed
    assert everything["open"] == 2
    ledger.open_work.dismiss(batch, [2, 3], "left us", "somebody")
    ledger.lifecycle.change_state(batch, BatchState.PAUSED, None, only_from=[BatchState.RUNNING])
    page, result = shown(services, batch, "en", 120)
    assert "onboard open" not in page
    assert (result["work"]["open"], result["workers"], result["forecast"]) == (0, [], None)
