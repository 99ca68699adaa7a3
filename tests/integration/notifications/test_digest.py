"""The digest of a day: once for the whole fleet, late rather than never, and true whatever is not done."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from factories import Command, answer, new_row, new_worker, running_batch, wait_until, whole
from listeners import MailServer, Webhook, free_port
from notified import deliveries, finished, hook, known, received_by_hook
from sqlalchemy import text

from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.models import Account, BatchState, Notification, NotificationKind, RowState, Stop, StopCode
from tasks.operations import batch_lifecycle
from worker import notifier

TOKYO = ZoneInfo("Asia/Tokyo")


def minutes_ago(minutes: float) -> str:
    return f"{datetime.now(TOKYO) - timedelta(minutes=minutes):%H:%M}"


def digest_of(services: Any) -> Any:
    return notifier.message_of(services, Notification(1, NotificationKind.DIGEST, services.ledger.now()))


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_mail_has_the_table_and_our_own_text_beside_it_and_a_webhook_its_severity(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    with MailServer(free_port()) as mail, Webhook() as webhook:
        urls = f"{mail.url} json://127.0.0.1:{webhook.port}/"
        services = services_with(
            ONBOARD_NOTIFY_URLS=urls, ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_DIGEST_AT=minutes_ago(2)
        )
        finished(services.ledger, 3)
        start_notifier(services, digests=True)
        wait_until(lambda: sum(delivered for *_, delivered, _ in deliveries(services)) == 3, what="the delivery")
    (mailed,), (posted,), (received,) = mail.mails, webhook.posted, received_by_hook(tmp_path)
    assert (
        mailed["Subject"]
        == posted["title"]
        == received["title"]
        == "[onboard TEST] Daily digest: 3 rows need attention"
    )
    plain, html = (mailed.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    age = re.compile(r"Open for \d+ s")  # each delivery has its own
    assert age.sub("", plain.get_content().replace("\r\n", "\n")).strip() == age.sub("", received["text"])
    assert age.search(received["text"])
    assert "<table" in html.get_content()
    assert "missing_value" in html.get_content()
    assert (posted["type"], received["severity"]) == ("warning", "warning")
    assert (received["event"], received["open"], received["live"]) == ("digest", 3, False)
    assert [(each["code"], each["rows"], each["batches"]) for each in received["reasons"]] == [
        ("missing_value", 3, {"1": 3})
    ]


def test_one_digest_a_day_whoever_is_there_and_also_after_downtime(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    """Three processes start an hour after its time."""
    command = hook(tmp_path)
    for _ in range(3):
        services = services_with(ONBOARD_NOTIFY_COMMAND=command, ONBOARD_DIGEST_AT=minutes_ago(60))
        start_notifier(services, digests=True)
    wait_until(lambda: len(received_by_hook(tmp_path)) == 1, what="the digest")
    time.sleep(0.5)
    assert [message["event"] for message in received_by_hook(tmp_path)] == ["digest"]
    assert deliveries(services) == [("command-1", 1, True, False)]
    day = f"{datetime.now(TOKYO) - timedelta(minutes=60):%Y-%m-%d}"
    assert not services.ledger.outbox.add_digest(day)


def test_nobody_adds_a_digest_without_the_setting_and_no_short_command_does(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    without = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(without, digests=True)
    short = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_DIGEST_AT=minutes_ago(5))
    start_notifier(short)
    known(short, "command-1")
    time.sleep(0.3)
    with short.ledger.engine.read() as connection:
        assert connection.execute(text("select count(*) from news")).scalar_one() == 0


@pytest.mark.parametrize(
    ("now", "day"),
    [
        ("2026-11-27 07:59", "2026-11-26"),
        ("2026-11-27 08:00", "2026-11-27"),
        ("2026-11-27 23:59", "2026-11-27"),
        ("2026-11-28 00:01", "2026-11-27"),
    ],
)
def test_the_day_of_a_digest_is_that_on_which_its_time_last_came(now: str, day: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=TOKYO).timestamp()
    assert notifier.latest_day("08:00", "Asia/Tokyo", at) == day


def test_a_day_has_one_digest_where_clocks_are_changed() -> None:
    """02:30 in Berlin, every ten minutes over both nights on which its clocks are changed."""
    for begins in ("2026-03-28T00:00+00:00", "2026-10-24T00:00+00:00"):
        start = datetime.fromisoformat(begins).timestamp()
        days = [notifier.latest_day("02:30", "Europe/Berlin", start + 600 * step) for step in range(6 * 24 * 3)]
        changes = sum(first != second for first, second in pairwise(days))
        assert days == sorted(days)
        assert changes == len(set(days)) - 1 == 3


def test_a_digest_goes_to_its_own_account_only(ledger_url: str) -> None:
    """Two fleets on one ledger may call their channels the same."""
    here, there = (Ledger.open(ledger_url, Account(False, address)) for address in ("https://here", "https://there"))
    here.outbox.register_channels(["mailto-1"], 0.0)
    assert here.outbox.add_digest("2026-11-27")
    assert there.outbox.add_digest("2026-11-27")
    assert [len(each.outbox.unplanned("mailto-1", each.now(), 0.0)) for each in (here, there)] == [1, 1]
    here.close()
    there.close()


def test_nothing_open_is_said_so_and_never_that_nothing_is_to_do(services_with: Any) -> None:
    """A morning without a digest means that nobody could send it."""
    services = services_with()
    said = digest_of(services)
    assert (said.title, said.severity) == ("[onboard TEST] Daily digest: no row needs attention", "info")
    assert "othing" not in said.text


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_what_is_stopped_or_still_looked_up_stands_beside_no_row_needs_attention(services_with: Any, lang: str) -> None:
    services = services_with(ONBOARD_LANG=lang)
    ledger = services.ledger
    running, paused = running_batch(ledger, 2), running_batch(ledger, [new_row(3), new_row(4)])
    worker = new_worker(ledger)
    held = [*ledger.leases.claim(whole(running), worker.number), *ledger.leases.claim(whole(paused), worker.number)]
    worker.mark(held)
    unclear = {"code": "read_timeout", "not_before": ledger.now() + 60}
    worker.record(*(answer(row, RowState.UNCLEAR, **unclear) for row in held))
    batch_lifecycle.pause(ledger, paused, "sato@bastion")
    said = digest_of(services)
    assert said.facts["open"] == 0
    assert [(each["batch"], each["state"], each["looked_up"]) for each in said.facts["unfinished"]] == [
        (running, "running", 2),
        (paused, "paused", 2),
    ]
    assert f"onboard resume {paused}" in said.text
    assert said.severity == "warning"
    now, later = (
        ("still being looked up", "looked up when it goes on") if lang == "en" else ("自動照会中", "再開後に自動照会")
    )
    assert said.text.count(now) == said.text.count(later) == 1


def test_a_batch_that_nobody_works_on_or_that_was_halted_is_a_failure(services_with: Any) -> None:
    services = services_with()
    batch = running_batch(services.ledger, 2)
    assert digest_of(services).severity == "failure"
    assert "Nobody sends its rows" in digest_of(services).text
    stop = Stop(StopCode.KEY_INVALID, {"code": "M004001"})
    services.ledger.lifecycle.change_state(batch, BatchState.HALTED, stop, only_from=[BatchState.RUNNING])
    assert digest_of(services).severity == "failure"


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_of_a_ledger_that_cannot_be_read_nothing_is_said(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    services = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_DIGEST_AT=minutes_ago(5))
    finished(services.ledger)
    services.ledger.outbox.register_channels(["command-1"], 0.0)
    with services.ledger.engine.write() as connection:
        connection.execute(text("alter table carried_over rename to away"))
    with pytest.raises(LedgerError):
        digest_of(services)
    start_notifier(services, digests=True)
    wait_until(lambda: any(tries for _, tries, *_ in deliveries(services)), what="a try")
    assert received_by_hook(tmp_path) == []
    with services.ledger.engine.write() as connection:
        connection.execute(text("alter table away rename to carried_over"))
        connection.execute(text("update tellings set due_at = 1"))
    wait_until(lambda: len(received_by_hook(tmp_path)) == 2, what="the delivery, now that it can be read")
    assert [message["open"] for message in received_by_hook(tmp_path)] == [2, 2]


def test_what_a_message_counts_is_what_is_open_and_its_causes_add_up(services_with: Any) -> None:
    services = services_with()
    first = finished(services.ledger, 3)
    second = finished(services.ledger, 2)
    services.ledger.open_work.dismiss(first, [1], "left us", "somebody")
    message = notifier.message_of(services, Notification(1, NotificationKind.FINISHED, 0.0, first))
    assert (message.facts["open"], message.facts["open_elsewhere"]) == (2, 2)
    assert sum(each["rows"] for each in message.facts["reasons"]) == 2
    assert "In other batches 2 rows need attention" in message.text
    services.ledger.open_work.dismiss(second, [1, 2], "left us", "somebody")
    services.ledger.open_work.dismiss(first, [2, 3], "left us", "somebody")
    message = notifier.message_of(services, Notification(1, NotificationKind.FINISHED, 0.0, first))
    assert message.severity == "success"
    assert "No row of it needs attention." in message.text
    assert json.loads(json.dumps(dict(message.facts)))["reasons"] == []


def test_of_a_batch_that_has_moved_on_since_nothing_old_is_told(services_with: Any) -> None:
    services = services_with()
    batch = running_batch(services.ledger, 2)
    batch_lifecycle.pause(services.ledger, batch, "sato@bastion")
    batch_lifecycle.resume(services.ledger, batch)
    services.ledger.outbox.register_channels(["x"], 0.0)
    (news,) = services.ledger.outbox.unplanned("x", services.ledger.now() + 1, 0.0)
    said = notifier.message_of(services, news)
    assert "the batch is running now" in said.text
    assert "it goes on when you resume it" not in said.text


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_fleet_of_which_only_the_clock_is_there_has_its_digest(
    tmp_path: Path, ledger_url: str, redis_url: str
) -> None:
    """Nobody else would tell that no worker is there."""
    command = Command(
        tmp_path,
        LEDGER_URL=ledger_url,
        REDIS_URL=redis_url,
        ONBOARD_NOTIFY_COMMAND=hook(tmp_path),
        ONBOARD_DIGEST_AT=minutes_ago(5),
    )
    assert command("ledger", "create").returncode == 0
    beat = command.start("beat")
    wait_until(lambda: len(received_by_hook(tmp_path)) == 1, what="the digest")
    beat.terminate()
    beat.communicate(timeout=60)
    assert beat.returncode == 0
    assert [message["event"] for message in received_by_hook(tmp_path)] == ["digest"]
