"""Each notification is delivered: once, over a crash at least once, and without data of a file."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from factories import KEY, ROOT, new_row, running_batch, wait_until
from listeners import MailServer, Webhook, free_port
from sqlalchemy import text

from tasks.errors import SettingsError, UnusableFile
from tasks.ledger import Ledger
from tasks.models import Account, BatchState, NotificationKind, Stop, StopCode
from tasks.operations import batch_lifecycle
from tasks.reports.notification_message import Message
from tasks.services import Services
from tasks.settings import load_settings
from tasks.stop_texts import stop_of_file
from worker import notifier
from worker.notification_channels import open_channels
from worker.notifier import Notifier

TOKEN = "tokenthatnobodyshallsee123"


@pytest.fixture
def services_with(tmp_path: Path, ledger_url: str) -> Iterator[Any]:
    """Make the services of a process with these settings."""
    made: list[Services] = []

    def make(**values: object) -> Services:
        settings = load_settings(
            {
                "ONBOARD_HOME": str(tmp_path / "home"),
                "LEDGER_URL": ledger_url,
                "ONBOARD_NOTIFY_GAP_SECONDS": "0.1",
                **{name: str(value) for name, value in values.items()},
            },
            folder=tmp_path,
        )
        made.append(Services(settings))
        made[-1].ledger.version()
        return made[-1]

    yield make
    for services in made:
        services.ledger.close()


@pytest.fixture
def start_notifier() -> Iterator[Any]:
    """Start a notifier that delivers at once; it ends with the test."""
    started: list[Notifier] = []

    def start(services: Services) -> Notifier:
        new = Notifier(services, open_channels(services.settings), settle_seconds=0.0, look_seconds=0.02)
        new.start()
        started.append(new)
        return new

    yield start
    for each in started:
        each.finish(10)


def channels_of(services: Services) -> list[str]:
    with services.ledger.engine.read() as connection:
        return sorted(connection.execute(text("select name from channels")).scalars())


def deliveries(services: Services) -> list[tuple[str, int, bool, bool]]:
    """Channel, tries, delivered, still due: of every delivery."""
    with services.ledger.engine.read() as connection:
        rows = connection.execute(
            text("select channel, tries, told_at, due_at from tellings order by news_id, channel")
        )
        return [(row[0], row[1], row[2] is not None, row[3] is not None) for row in rows]


def known(services: Services, *names: str) -> None:
    wait_until(lambda: set(names) <= set(channels_of(services)), what="that the channels are known")


def finished(ledger: Ledger, rows: int = 2) -> int:
    batch = running_batch(ledger, [new_row(record, state="invalid") for record in range(1, rows + 1)])
    assert ledger.lifecycle.close(batch)
    return batch


def hook(folder: Path, *lines: str) -> str:
    """A command that appends each message to a file, then does more."""
    script = folder / "hook.py"
    body = f"import sys\nopen({str(folder / 'received.jsonl')!r}, 'ab').write(sys.stdin.buffer.read() + b'\\n')\n"
    script.write_text(body + "\n".join(lines), encoding="utf-8")
    return f"{sys.executable} {script}"


def received_by_hook(folder: Path) -> list[dict[str, Any]]:
    path = folder / "received.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


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
    assert mailed.startswith("Finished: f.csv (Batch 1, test)")
    assert "0 of 1,234 created; 1,234 need attention" in mailed
    assert "1,234 × " in mailed
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
    assert first["title"].startswith("完了：f.csv（バッチ 1、テスト）")
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
    services = services_with(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    start_notifier(services)
    known(services, "command-1")
    second = finished(services.ledger)
    wait_until(lambda: bool(received_by_hook(tmp_path)), what="the delivery")
    assert [message["batch"] for message in received_by_hook(tmp_path)] == [second]
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


def test_a_command_gets_none_of_our_settings_and_no_more_time_than_it_has(
    services_with: Any, start_notifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEPAY_SECRET_KEY", KEY)
    monkeypatch.setenv("ONBOARD_NOTIFY_URLS", f"mmost://127.0.0.1/{TOKEN}")
    monkeypatch.setattr("worker.notification_channels.SEND_SECONDS", 1.0)
    sees = tmp_path / "sees.json"
    command = hook(tmp_path, "import json, os, time", f"json.dump(dict(os.environ), open({str(sees)!r}, 'w'))")
    services = services_with(ONBOARD_NOTIFY_COMMAND=command)
    start_notifier(services)
    known(services, "command-1")
    finished(services.ledger)
    wait_until(lambda: len(deliveries(services)) == 1 and deliveries(services)[0][2], what="the delivery")
    seen = json.loads(sees.read_text(encoding="utf-8"))
    assert "PATH" in seen
    assert [name for name in seen if name.startswith(("ELEPAY_", "ONBOARD_", "LEDGER_", "REDIS_"))] == []
    hook(tmp_path, "import time", "time.sleep(600)")
    finished(services.ledger)
    wait_until(lambda: len(deliveries(services)) == 2 and deliveries(services)[1][1] >= 2, what="a second try")
    assert not deliveries(services)[1][2]
    hook(tmp_path)


#: What a notify command does -> its lines; all of them are ended in time, and nothing of them is left.
BAD_COMMANDS = {
    "hangs": ["import time", "time.sleep(600)"],
    "ignores signals": ["import signal, time", "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "time.sleep(600)"],
    "floods": ["import sys", "while True: sys.stdout.write('x' * 65536); sys.stderr.write('x' * 65536)"],
    "leaves a child": [
        "import subprocess, sys",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(601)'])",
        "sys.exit(1)",
    ],
    "dies": ["import os, signal", "os.kill(os.getpid(), signal.SIGSEGV)"],
    "reads nothing": ["import os, sys", "os.close(0)", "sys.exit(1)"],
}


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", BAD_COMMANDS)
@pytest.mark.resilience
@pytest.mark.representative
def test_whatever_a_command_does_the_other_channel_delivers_and_nothing_is_left(
    services_with: Any, start_notifier: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("worker.notification_channels.SEND_SECONDS", 6.0)
    pid = tmp_path / "pid"
    lines = ["import os", f"open({str(pid)!r}, 'w').write(str(os.getpid()))", *BAD_COMMANDS[kind]]
    with Webhook() as webhook:
        services = services_with(
            ONBOARD_NOTIFY_COMMAND=hook(tmp_path, *lines), ONBOARD_NOTIFY_URLS=f"json://127.0.0.1:{webhook.port}/"
        )
        start_notifier(services)
        known(services, "command-1", "json-1")
        finished(services.ledger)
        wait_until(
            lambda: any(name == "command-1" and tries >= 2 for name, tries, *_ in deliveries(services)), what="2 tries"
        )
        wait_until(
            lambda: any(delivery[0] == "json-1" and delivery[2] for delivery in deliveries(services)), what="the other"
        )
    group = int(pid.read_text())
    hook(tmp_path)
    wait_until(lambda: not is_there(group), 30, "the end of all of it")


def is_there(group: int) -> bool:
    """Tell whether a process of a session is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("kind", ["silent", "dripping", "without end"])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_server_that_never_comes_to_an_end_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.recv(65536)
            if kind == "silent":
                time.sleep(60)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
            while True:
                connection.sendall(b"x" if kind == "dripping" else b"x" * 2**20)
                if kind == "dripping":
                    time.sleep(0.5)

    monkeypatch.setattr("worker.notification_channels.SEND_SECONDS", 6.0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = {
            "ONBOARD_NOTIFY_URLS": f"json://127.0.0.1:{listening.getsockname()[1]}/",
            "ONBOARD_HOME": str(tmp_path),
        }

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        (channel,) = open_channels(load_settings(settings, folder=tmp_path))
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        assert not channel.send(Message("title", "text", {}))
        assert time.monotonic() - started < 25
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kilobytes"


def test_a_malformed_address_is_named_by_its_place_and_never_quoted(services_with: Any) -> None:
    services = services_with(ONBOARD_NOTIFY_URLS=f"json://127.0.0.1/ slack://{TOKEN}")
    with pytest.raises(SettingsError, match="address 2 of 2") as caught:
        open_channels(services.settings)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(services.settings)


def test_addresses_are_read_from_a_secret_file_and_named_by_kind(services_with: Any, tmp_path: Path) -> None:
    secret = tmp_path / "urls"
    secret.write_text(
        f"json://127.0.0.1/{TOKEN}\njsons://127.0.0.1/{TOKEN}\njson://127.0.0.1/b\n"
        f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ\n",
        encoding="utf-8",
    )
    services = services_with(ONBOARD_NOTIFY_URLS_FILE=secret)
    assert [channel.name for channel in open_channels(services.settings)] == ["json-1", "jsons-1", "json-2", "slack-1"]


def test_neither_token_nor_answer_of_a_channel_is_logged(
    services_with: Any, start_notifier: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Webhook(status=500) as webhook, structlog.testing.capture_logs() as logged:
        services = services_with(ONBOARD_NOTIFY_URLS=f"mmost://127.0.0.1:{webhook.port}/{TOKEN}")
        start_notifier(services)
        known(services, "mmost-1")
        finished(services.ledger)
        wait_until(lambda: any(tries >= 2 for _, tries, *_ in deliveries(services)), what="a second try")
    assert any("trying again" in line["event"] for line in logged)
    # urllib3 logs the paths that it asks for, at a level that the program never sets
    our_lines = [line for line in caplog.records if not line.name.startswith("urllib3")]
    assert TOKEN not in str(logged) + str([line.getMessage() for line in our_lines])
