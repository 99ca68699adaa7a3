"""Each notification is delivered: once, over a crash at least once, and without data of a file."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import structlog
from factories import ROOT, new_row, running_batch, wait_until
from listeners import MailServer, Webhook, free_port
from notified import a_minute_passes, deliveries, finished, hook, known, received_by_hook
from sqlalchemy import text

from tasks.errors import UnusableFile
from tasks.ledger import Ledger
from tasks.models import Account, BatchState, Notification, NotificationKind, Stop, StopCode
from tasks.operations import batch_lifecycle
from tasks.stop_texts import stop_of_file
from worker import notifier

TOKEN = "tokenthatnobodyshallsee123"


def test_mail_webhook_and_command_each_receive_it_once(services_with: Any, start_notifier: Any, tmp_path: Path) -> None:
    with MailServer(free_port()) as mail, Webhook() as webhook:
        urls = f"{mail.url}\nmmost://127.0.0.1:{webhook.port}/{TOKEN}?channels=nightshift"
        services = services_with(ONBOARD_NOTIFY_URLS=urls, ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
        start_notifier(services)
        known(services, "command-1", "mailto-1", "mmost-1")
        finished(services.ledger, 1234)
        wait_until(lambda: sum(delivered for *_, delivered, _ in deliveries(services)) == 3, what="the delivery")
        (mailed,) = mail.texts()
        (posted,) = webhook.posted
        (received,) = received_by_hook(tmp_path)
    assert mailed.startswith("[onboard TEST] f.csv: 0 of 1,234 created; 1,234 need attention\n")
    assert "1,234 rows: " in mailed
    assert "(missing_value)" in mailed
    assert "onboard report 1" in mailed
    assert posted["path"] == f"/hooks/{TOKEN}"
    assert "1,234 need attention" in posted["text"]
    assert "github" not in str(posted), "no picture from elsewhere"
    assert (received["event"], received["batch"], received["file"], received["live"]) == ("finished", 1, "f.csv", False)
    assert received["books"] == {
        "records": 1234,
        "created": 0,
        "skipped": 0,
        "invalid": 1234,
        "refused": 0,
        "unclear": 0,
        "open": 0,
        "balance": True,
    }
    assert [(reason["code"], reason["rows"]) for reason in received["reasons"]] == [("missing_value", 1234)]
    assert received["text"] in mailed.replace("\r\n", "\n")
    assert deliveries(services) == [
        ("command-1", 1, True, False),
        ("mailto-1", 1, True, False),
        ("mmost-1", 1, True, False),
    ]


def test_the_words_are_japanese_if_people_want_that_and_the_link_is_the_address_given(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    services = services_with(
        ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_LANG="ja", ONBOARD_REPORTS_URL="https://reports.example/onboard/"
    )
    start_notifier(services)
    known(services, "command-1")
    finished(services.ledger)
    assert services.ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once="2026-11-26", why="2026-11-26 02:00")
    wait_until(lambda: len(received_by_hook(tmp_path)) == 2, what="the delivery")
    first, second = received_by_hook(tmp_path)
    assert first["verdict"] == "2 件中 0 件を登録しました、要対応 2 件"
    assert first["link"] == "https://reports.example/onboard/1"
    assert first["title"] == "【onboard テスト】f.csv：2 件中 0 件を登録しました、要対応 2 件"
    assert second["event"] == "nothing_arrived"
    assert "2026-11-26 02:00" in second["text"]


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://reports.example/onboard", "https://reports.example/onboard/1"),
        ("https://reports.example/outbox/{folder}/report.html", "https://reports.example/outbox/1-f/report.html"),
        ("", "{outbox}/1-f"),
    ],
)
def test_the_link_leads_to_where_the_reports_are(services_with: Any, tmp_path: Path, url: str, link: str) -> None:
    services = services_with(ONBOARD_REPORTS_URL=url, ONBOARD_DROP_FOLDER=tmp_path / "drop")
    batch = services.ledger.batches.get(finished(services.ledger))
    assert (notifier._link(services, batch) == "onboard report 1") is not bool(url)
    (tmp_path / "drop" / "outbox" / "1-f").mkdir(parents=True)
    assert notifier._link(services, batch) == link.replace("{outbox}", str(tmp_path / "drop" / "outbox"))


def test_the_link_leads_to_the_console_if_there_is_one(services_with: Any) -> None:
    services = services_with(
        ONBOARD_CONSOLE_URL="https://review.example/", ONBOARD_REPORTS_URL="https://reports.example"
    )
    batch = finished(services.ledger)
    message = notifier.message_of(services, Notification(1, NotificationKind.FINISHED, 0.0, batch))
    assert message.facts["link"] == f"https://review.example/batches/{batch}"
    assert f'<a href="https://review.example/batches/{batch}"' in message.html
    digest = notifier.message_of(services, Notification(1, NotificationKind.DIGEST, 0.0))
    assert digest.facts["link"] == "https://review.example/open"
    assert digest.text.endswith("https://review.example/open")


def test_every_event_of_a_batch_is_delivered_in_order_and_twice_if_it_happened_twice(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    services = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(services)
    known(services, "command-1")
    batch = running_batch(services.ledger, [new_row(1, state="invalid")])
    for _ in range(2):
        assert batch_lifecycle.pause(services.ledger, batch, "somebody")
        assert batch_lifecycle.resume(services.ledger, batch)
    stop = Stop(StopCode.KEY_INVALID, {"code": "M004001"})
    assert services.ledger.lifecycle.change_state(batch, BatchState.HALTED, stop, only_from=[BatchState.RUNNING])
    assert batch_lifecycle.resume(services.ledger, batch)
    assert services.ledger.lifecycle.close(batch)
    unusable = stop_of_file(UnusableFile("no_header", "cus_secret is no title"))
    services.ledger.batches.add_unusable("broken.csv", "0" * 64, stop=unusable, code="no_header")
    wait_until(lambda: len(received_by_hook(tmp_path)) == 5, what="the delivery")
    received = received_by_hook(tmp_path)
    assert [message["event"] for message in received] == ["paused", "paused", "halted", "finished", "rejected"]
    assert received[0]["why"].startswith("paused by somebody")
    assert "the secret key is not valid: check ELEPAY_SECRET_KEY" in received[2]["text"]
    assert received[4]["code"] == "no_header"
    assert "cus_secret" not in str(received), "what a rejected file says is not sent"


@pytest.mark.parametrize(("lang", "why"), [("en", "paused by sato@bastion"), ("ja", "sato@bastion が一時停止しました")])
def test_a_message_says_in_the_language_of_its_readers_why_a_batch_stopped(
    services_with: Any, lang: str, why: str
) -> None:
    services = services_with(ONBOARD_LANG=lang)
    services.ledger.outbox.register_channels(["mail"], 0.0)
    batch = running_batch(services.ledger, 2)
    assert batch_lifecycle.pause(services.ledger, batch, "sato@bastion")
    (notification,) = services.ledger.outbox.unplanned("mail", time.time() + 1, 0.0)
    message = notifier.message_of(services, notification)
    assert why in message.text
    assert why in message.facts["why"]
    assert f"onboard resume {batch}" in message.facts["why"]


def test_a_notification_is_delivered_by_its_own_account_only(ledger_url: str) -> None:
    """Two fleets on one ledger may call their channels the same."""
    here, there = (Ledger.open(ledger_url, Account(False, address)) for address in ("https://here", "https://there"))
    finished(here)
    here.outbox.register_channels(["mailto-1"], 0.0)
    (notification,) = here.outbox.unplanned("mailto-1", here.now(), 0.0)
    assert there.outbox.unplanned("mailto-1", there.now(), 0.0) == []
    here.outbox.plan("mailto-1", [notification.id])
    assert there.outbox.claim("mailto-1", 60.0) is None
    claimed = here.outbox.claim("mailto-1", 60.0)
    assert claimed is not None
    assert claimed.notification == notification
    here.close()
    there.close()


def test_nothing_that_happened_before_a_channel_was_known_is_delivered(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    before = services_with()
    finished(before.ledger)
    a_minute_passes(before)
    services = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(services)
    known(services, "command-1")
    second = finished(services.ledger)
    wait_until(lambda: bool(received_by_hook(tmp_path)), what="the delivery")
    assert [message["batch"] for message in received_by_hook(tmp_path)] == [second]
    a_minute_passes(services)
    with Webhook() as webhook:
        more = services_with(
            ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_NOTIFY_URLS=f"mmost://127.0.0.1:{webhook.port}/{TOKEN}"
        )
        start_notifier(more)
        known(more, "mmost-1")
        finished(more.ledger)
        wait_until(lambda: bool(webhook.posted), what="the delivery through the new channel")
        assert len(webhook.posted) == 1


def test_several_processes_deliver_once(services_with: Any, start_notifier: Any, tmp_path: Path) -> None:
    command = hook(tmp_path)
    for _ in range(4):
        services = services_with(ONBOARD_NOTIFY_COMMAND=command)
        start_notifier(services)
    known(services, "command-1")
    batches = [finished(services.ledger) for _ in range(10)]
    wait_until(lambda: len(received_by_hook(tmp_path)) >= 10, what="the delivery")
    wait_until(lambda: all(delivered for *_, delivered, _ in deliveries(services)), what="that the ledger knows")
    assert sorted(message["batch"] for message in received_by_hook(tmp_path)) == batches
    assert {tries for _, tries, *_ in deliveries(services)} == {1}


@pytest.mark.resilience
@pytest.mark.representative
def test_killed_between_claim_and_delivery_another_process_delivers(
    services_with: Any, start_notifier: Any, tmp_path: Path, ledger_url: str
) -> None:
    services = services_with()
    killed = textwrap.dedent(
        """
        import os, signal, sys, threading
        from tasks.services import Services
        from tasks.settings import load_settings
        from worker import notifier
        notifier.message_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        services = Services(load_settings())
        channels = notifier.open_channels(services.settings)
        new = notifier.Notifier(services, channels, lease_seconds=1.0, settle_seconds=0)
        new.start()
        print("started", flush=True)
        threading.Event().wait(60)
        """
    )
    environment = {
        "ONBOARD_HOME": str(tmp_path / "home"),
        "LEDGER_URL": ledger_url,
        "ONBOARD_NOTIFY_COMMAND": hook(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen([sys.executable, "-c", killed], env=environment, cwd=tmp_path) as process:
        known(services, "command-1")
        finished(services.ledger)
        assert process.wait(30) == -signal.SIGKILL
    assert deliveries(services) == [("command-1", 1, False, True)]
    assert received_by_hook(tmp_path) == []
    start_notifier(services_with(ONBOARD_NOTIFY_COMMAND=environment["ONBOARD_NOTIFY_COMMAND"]))
    wait_until(
        lambda: [delivered for *_, delivered, _ in deliveries(services)] == [True],
        what="the delivery by another process",
    )
    assert len(received_by_hook(tmp_path)) == 1


def test_a_dead_mail_server_is_tried_again_and_no_other_channel_delivers_twice(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    mail = MailServer(free_port())
    services = services_with(ONBOARD_NOTIFY_URLS=mail.url, ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(services)
    known(services, "mailto-1", "command-1")
    finished(services.ledger)
    wait_until(lambda: any(tries >= 3 for _, tries, *_ in deliveries(services)), what="a third try")
    assert services.ledger.queries.overview().failing == 1
    with mail:
        wait_until(
            lambda: all(delivered for *_, delivered, _ in deliveries(services)),
            what="the delivery when the server is back",
        )
    assert len(mail.texts()) == len(received_by_hook(tmp_path)) == 1
    assert services.ledger.queries.overview().failing == 0


def test_a_delivery_that_failed_for_a_day_is_abandoned_and_logged(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    services = services_with(ONBOARD_NOTIFY_COMMAND="false", ONBOARD_NOTIFY_GAP_SECONDS="14400")
    start_notifier(services)
    known(services, "command-1")
    with structlog.testing.capture_logs() as logged:
        finished(services.ledger)
        wait_until(lambda: [tries for _, tries, *_ in deliveries(services)] == [1], what="a try")
        wait_until(lambda: any("trying again" in line["event"] for line in logged), what="its line in the log")
        with services.ledger.engine.write() as connection:
            connection.execute(text("update news set at = at - 80000"))
            connection.execute(text("update tellings set due_at = 1"))
        wait_until(lambda: deliveries(services) == [("command-1", 2, False, False)], what="that it is abandoned")
        wait_until(lambda: any("abandoned" in line["event"] for line in logged), what="its line in the log")
    abandoned = next(line for line in logged if "abandoned" in line["event"])
    assert (abandoned["log_level"], abandoned["batch"], abandoned["channel"], abandoned["tries"]) == (
        *("error", 1),
        *("command-1", 2),
    )


def test_a_stopped_batch_is_notified_when_no_worker_holds_its_rows(
    services_with: Any, start_notifier: Any, tmp_path: Path
) -> None:
    services = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(services)
    known(services, "command-1")
    batch = running_batch(services.ledger, 3)
    worker = services.ledger.workers.add("elsewhere", 1, "", 60.0)
    services.ledger.leases.claim(services.ledger.dispatch.take_due()[0], worker)
    assert batch_lifecycle.pause(services.ledger, batch, "somebody")
    time.sleep(0.3)
    assert deliveries(services) == []
    services.ledger.workers.end(worker)
    services.ledger.reaper.reap(look_up_delay_seconds=1)
    wait_until(lambda: len(received_by_hook(tmp_path)) == 1, what="the delivery")


def test_nothing_arrived_is_notified_once_a_day_whoever_notices(services_with: Any) -> None:
    first, second = services_with(), services_with()
    assert first.ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once="2026-11-26")
    assert not second.ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once="2026-11-26")
    assert second.ledger.outbox.add(NotificationKind.NOTHING_ARRIVED, once="2026-11-27")
