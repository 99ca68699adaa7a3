"""People are told each piece of news, at least once over a crash, never twice by two workers, and no data of a file."""

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
def ours(tmp_path: Path, ledger_url: str) -> Iterator[Any]:
    """Make what a process works with, for the settings given."""
    made: list[Services] = []

    def make(**given: object) -> Services:
        settings = load_settings(
            {
                "ONBOARD_HOME": str(tmp_path / "home"),
                "LEDGER_URL": ledger_url,
                "ONBOARD_NOTIFY_GAP_SECONDS": "0.1",
                **{name: str(value) for name, value in given.items()},
            },
            folder=tmp_path,
        )
        made.append(Services(settings))
        made[-1].ledger.version()
        return made[-1]

    yield make
    for one in made:
        one.ledger.close()


@pytest.fixture
def tellers() -> Iterator[Any]:
    """Start tellers that tell at once; they end with the test."""
    started: list[Notifier] = []

    def start(ours: Services, **more: float) -> Notifier:
        teller = Notifier(ours, open_channels(ours.settings), **{"ripe_seconds": 0.0, "look_seconds": 0.02, **more})
        teller.start()
        started.append(teller)
        return teller

    yield start
    for teller in started:
        teller.finish(10)


def channels_of(ours: Services) -> list[str]:
    with ours.ledger.engine.read() as connection:
        return sorted(connection.execute(text("select name from channels")).scalars())


def tellings(ours: Services) -> list[tuple[str, int, bool, bool]]:
    """Channel, tries, told, still due: of every telling."""
    with ours.ledger.engine.read() as connection:
        found = connection.execute(
            text("select channel, tries, told_at, due_at from tellings order by news_id, channel")
        )
        return [(row[0], row[1], row[2] is not None, row[3] is not None) for row in found]


def known(ours: Services, *names: str) -> None:
    wait_until(lambda: set(names) <= set(channels_of(ours)), what="that the channels are known")


def finished(ledger: Ledger, rows: int = 2) -> int:
    batch = running_batch(ledger, [new_row(record, state="invalid") for record in range(1, rows + 1)])
    assert ledger.close_batch(batch)
    return batch


def hook(folder: Path, *lines: str) -> str:
    """A command that appends what it is told to a file, then does more."""
    script = folder / "hook.py"
    body = f"import sys\nopen({str(folder / 'told.jsonl')!r}, 'ab').write(sys.stdin.buffer.read() + b'\\n')\n"
    script.write_text(body + "\n".join(lines), encoding="utf-8")
    return f"{sys.executable} {script}"


def told_by_hook(folder: Path) -> list[dict[str, Any]]:
    path = folder / "told.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_mail_webhook_and_command_are_each_told_once(ours: Any, tellers: Any, tmp_path: Path) -> None:
    with MailServer(free_port()) as mail, Webhook() as webhook:
        urls = f"{mail.url}\nmmost://127.0.0.1:{webhook.port}/{TOKEN}?channels=nightshift"
        mine = ours(ONBOARD_NOTIFY_URLS=urls, ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
        tellers(mine)
        known(mine, "command-1", "mailto-1", "mmost-1")
        finished(mine.ledger, 1234)
        wait_until(lambda: sum(told for *_, told, _ in tellings(mine)) == 3, what="the telling")
        (mailed,) = mail.texts()
        (posted,) = webhook.posted
        (given,) = told_by_hook(tmp_path)
    assert mailed.startswith("Finished: f.csv (Batch 1, test)")
    assert "0 of 1,234 created; 1,234 need attention" in mailed
    assert "1,234 × " in mailed
    assert "(missing_value)" in mailed
    assert "onboard report 1" in mailed
    assert posted["path"] == f"/hooks/{TOKEN}"
    assert "1,234 need attention" in posted["text"]
    assert "github" not in str(posted), "no picture from elsewhere"
    assert (given["event"], given["batch"], given["file"], given["live"]) == ("finished", 1, "f.csv", False)
    assert given["books"] == {
        "records": 1234,
        "created": 0,
        "skipped": 0,
        "invalid": 1234,
        "refused": 0,
        "unclear": 0,
        "open": 0,
        "balance": True,
    }
    assert [(one["code"], one["rows"]) for one in given["reasons"]] == [("missing_value", 1234)]
    assert given["text"] in mailed.replace("\r\n", "\n")
    assert tellings(mine) == [("command-1", 1, True, False), ("mailto-1", 1, True, False), ("mmost-1", 1, True, False)]


def test_the_words_are_japanese_if_people_want_that_and_the_link_is_the_address_given(
    ours: Any, tellers: Any, tmp_path: Path
) -> None:
    mine = ours(
        ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_LANG="ja", ONBOARD_REPORTS_URL="https://reports.example/onboard/"
    )
    tellers(mine)
    known(mine, "command-1")
    finished(mine.ledger)
    assert mine.ledger.add_news(NotificationKind.NOTHING_ARRIVED, once="2026-11-26", why="2026-11-26 02:00")
    wait_until(lambda: len(told_by_hook(tmp_path)) == 2, what="the telling")
    first, second = told_by_hook(tmp_path)
    assert first["verdict"] == "2 件中 0 件を登録しました、要対応 2 件"
    assert first["link"] == "https://reports.example/onboard/1"
    assert first["title"].startswith("完了: f.csv")
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
def test_the_link_leads_to_where_the_reports_are(ours: Any, tmp_path: Path, url: str, link: str) -> None:
    mine = ours(ONBOARD_REPORTS_URL=url, ONBOARD_DROP_FOLDER=tmp_path / "drop")
    batch = mine.ledger.batch(finished(mine.ledger))
    assert (notifier._link(mine, batch) == "onboard report 1") is not bool(url)
    (tmp_path / "drop" / "outbox" / "1-f").mkdir(parents=True)
    assert notifier._link(mine, batch) == link.replace("{outbox}", str(tmp_path / "drop" / "outbox"))


def test_every_event_of_a_batch_is_told_in_its_order_and_twice_if_it_happened_twice(
    ours: Any, tellers: Any, tmp_path: Path
) -> None:
    mine = ours(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    tellers(mine)
    known(mine, "command-1")
    batch = running_batch(mine.ledger, [new_row(1, state="invalid")])
    for _ in range(2):
        assert batch_lifecycle.pause(mine.ledger, batch, "somebody")
        assert batch_lifecycle.resume(mine.ledger, batch)
    stop = Stop(StopCode.KEY_INVALID, {"code": "M004001"})
    assert mine.ledger.change_batch_state(batch, BatchState.HALTED, stop, only_from=[BatchState.RUNNING])
    assert batch_lifecycle.resume(mine.ledger, batch)
    assert mine.ledger.close_batch(batch)
    unusable = stop_of_file(UnusableFile("no_header", "cus_secret is no title"))
    mine.ledger.add_unusable_batch("broken.csv", "0" * 64, stop=unusable, code="no_header")
    wait_until(lambda: len(told_by_hook(tmp_path)) == 5, what="the telling")
    told = told_by_hook(tmp_path)
    assert [one["event"] for one in told] == ["paused", "paused", "halted", "finished", "rejected"]
    assert told[0]["why"].startswith("paused by somebody")
    assert "the secret key is not valid: check ELEPAY_SECRET_KEY" in told[2]["text"]
    assert told[4]["code"] == "no_header"
    assert "cus_secret" not in str(told), "what a rejected file says is not told"


@pytest.mark.parametrize(("lang", "why"), [("en", "paused by sato@bastion"), ("ja", "sato@bastion が一時停止しました")])
def test_a_message_says_in_the_language_of_its_readers_why_a_batch_stopped(ours: Any, lang: str, why: str) -> None:
    mine = ours(ONBOARD_LANG=lang)
    mine.ledger.know_channels(["mail"], 0.0)
    batch = running_batch(mine.ledger, 2)
    assert batch_lifecycle.pause(mine.ledger, batch, "sato@bastion")
    (news,) = mine.ledger.untold_news("mail", time.time() + 1, 0.0)
    message = notifier.message_of(mine, news)
    assert why in message.text
    assert message.facts["why"] == f"paused by sato@bastion; onboard resume {batch} goes on"


def test_news_of_a_batch_is_told_by_its_own_account_only(ledger_url: str) -> None:
    """Two fleets on one ledger may call their channels the same."""
    mine, other = (Ledger.open(ledger_url, Account(False, address)) for address in ("https://here", "https://there"))
    finished(mine)
    mine.know_channels(["mailto-1"], 0.0)
    (news,) = mine.untold_news("mailto-1", mine.now(), 0.0)
    assert other.untold_news("mailto-1", other.now(), 0.0) == []
    mine.plan_tellings("mailto-1", [news.id])
    assert other.claim_telling("mailto-1", 60.0) is None
    claimed = mine.claim_telling("mailto-1", 60.0)
    assert claimed is not None
    assert claimed.news == news
    mine.close()
    other.close()


def test_nothing_that_happened_before_a_channel_was_known_is_told(ours: Any, tellers: Any, tmp_path: Path) -> None:
    before = ours()
    finished(before.ledger)
    mine = ours(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    tellers(mine)
    known(mine, "command-1")
    second = finished(mine.ledger)
    wait_until(lambda: bool(told_by_hook(tmp_path)), what="the telling")
    assert [one["batch"] for one in told_by_hook(tmp_path)] == [second]
    with Webhook() as webhook:
        more = ours(
            ONBOARD_NOTIFY_COMMAND=hook(tmp_path), ONBOARD_NOTIFY_URLS=f"mmost://127.0.0.1:{webhook.port}/{TOKEN}"
        )
        tellers(more)
        known(more, "mmost-1")
        finished(more.ledger)
        wait_until(lambda: bool(webhook.posted), what="the telling through the new channel")
        assert len(webhook.posted) == 1


def test_two_processes_tell_once(ours: Any, tellers: Any, tmp_path: Path) -> None:
    command = hook(tmp_path)
    for _ in range(4):
        mine = ours(ONBOARD_NOTIFY_COMMAND=command)
        tellers(mine)
    known(mine, "command-1")
    batches = [finished(mine.ledger) for _ in range(10)]
    wait_until(lambda: len(told_by_hook(tmp_path)) >= 10, what="the telling")
    wait_until(lambda: all(told for *_, told, _ in tellings(mine)), what="that the ledger knows")
    assert sorted(one["batch"] for one in told_by_hook(tmp_path)) == batches
    assert {tries for _, tries, *_ in tellings(mine)} == {1}


@pytest.mark.resilience
@pytest.mark.representative
def test_killed_between_claim_and_telling_it_is_told_by_another(
    ours: Any, tellers: Any, tmp_path: Path, ledger_url: str
) -> None:
    mine = ours()
    killed = textwrap.dedent(
        """
        import os, signal, sys, threading
        from tasks.services import Services
        from tasks.settings import load_settings
        from worker import notifier
        notifier.message_of = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        mine = Services(load_settings())
        teller = notifier.Notifier(mine, notifier.open_channels(mine.settings), lease_seconds=1.0, ripe_seconds=0)
        teller.start()
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
        known(mine, "command-1")
        finished(mine.ledger)
        assert process.wait(30) == -signal.SIGKILL
    assert tellings(mine) == [("command-1", 1, False, True)]
    assert told_by_hook(tmp_path) == []
    tellers(ours(ONBOARD_NOTIFY_COMMAND=environment["ONBOARD_NOTIFY_COMMAND"]))
    wait_until(lambda: [told for *_, told, _ in tellings(mine)] == [True], what="the telling by another process")
    assert len(told_by_hook(tmp_path)) == 1


def test_a_dead_mail_server_is_tried_again_and_no_other_channel_told_twice(
    ours: Any, tellers: Any, tmp_path: Path
) -> None:
    mail = MailServer(free_port())
    mine = ours(ONBOARD_NOTIFY_URLS=mail.url, ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    tellers(mine)
    known(mine, "mailto-1", "command-1")
    finished(mine.ledger)
    wait_until(lambda: any(tries >= 3 for _, tries, *_ in tellings(mine)), what="a third try")
    assert mine.ledger.overview().failing == 1
    with mail:
        wait_until(lambda: all(told for *_, told, _ in tellings(mine)), what="the telling when the server is back")
    assert len(mail.texts()) == len(told_by_hook(tmp_path)) == 1
    assert mine.ledger.overview().failing == 0


def test_what_could_not_be_told_for_a_day_is_given_up_and_logged(ours: Any, tellers: Any, tmp_path: Path) -> None:
    mine = ours(ONBOARD_NOTIFY_COMMAND="false", ONBOARD_NOTIFY_GAP_SECONDS="14400")
    tellers(mine)
    known(mine, "command-1")
    with structlog.testing.capture_logs() as logged:
        finished(mine.ledger)
        wait_until(lambda: [tries for _, tries, *_ in tellings(mine)] == [1], what="a try")
        wait_until(lambda: any("trying again" in one["event"] for one in logged), what="its line in the log")
        with mine.ledger.engine.write() as connection:
            connection.execute(text("update news set at = at - 80000"))
            connection.execute(text("update tellings set due_at = 1"))
        wait_until(lambda: tellings(mine) == [("command-1", 2, False, False)], what="that it is given up")
        wait_until(lambda: any("abandoned" in one["event"] for one in logged), what="its line in the log")
    given_up = next(one for one in logged if "abandoned" in one["event"])
    assert (given_up["log_level"], given_up["batch"], given_up["channel"], given_up["tries"]) == (
        *("error", 1),
        *("command-1", 2),
    )


def test_a_stopped_batch_is_told_when_nobody_holds_its_rows(ours: Any, tellers: Any, tmp_path: Path) -> None:
    mine = ours(ONBOARD_NOTIFY_COMMAND=hook(tmp_path))
    tellers(mine)
    known(mine, "command-1")
    batch = running_batch(mine.ledger, 3)
    worker = mine.ledger.add_worker("elsewhere", 1, "", 60.0)
    mine.ledger.claim_slice(mine.ledger.dispatch()[0], worker)
    assert batch_lifecycle.pause(mine.ledger, batch, "somebody")
    time.sleep(0.3)
    assert tellings(mine) == []
    mine.ledger.end_worker(worker)
    mine.ledger.reap(look_up_delay_seconds=1)
    wait_until(lambda: len(told_by_hook(tmp_path)) == 1, what="the telling")


def test_nothing_arrived_is_told_once_a_day_whoever_notices(ours: Any) -> None:
    first, second = ours(), ours()
    assert first.ledger.add_news(NotificationKind.NOTHING_ARRIVED, once="2026-11-26")
    assert not second.ledger.add_news(NotificationKind.NOTHING_ARRIVED, once="2026-11-26")
    assert second.ledger.add_news(NotificationKind.NOTHING_ARRIVED, once="2026-11-27")


def test_a_command_gets_none_of_our_settings_and_no_more_time_than_it_has(
    ours: Any, tellers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELEPAY_SECRET_KEY", KEY)
    monkeypatch.setenv("ONBOARD_NOTIFY_URLS", f"mmost://127.0.0.1/{TOKEN}")
    monkeypatch.setattr("worker.notification_channels.SEND_SECONDS", 1.0)
    sees = tmp_path / "sees.json"
    command = hook(tmp_path, "import json, os, time", f"json.dump(dict(os.environ), open({str(sees)!r}, 'w'))")
    mine = ours(ONBOARD_NOTIFY_COMMAND=command)
    tellers(mine)
    known(mine, "command-1")
    finished(mine.ledger)
    wait_until(lambda: len(tellings(mine)) == 1 and tellings(mine)[0][2], what="the telling")
    seen = json.loads(sees.read_text(encoding="utf-8"))
    assert "PATH" in seen
    assert [name for name in seen if name.startswith(("ELEPAY_", "ONBOARD_", "LEDGER_", "REDIS_"))] == []
    hook(tmp_path, "import time", "time.sleep(600)")
    finished(mine.ledger)
    wait_until(lambda: len(tellings(mine)) == 2 and tellings(mine)[1][1] >= 2, what="a second try")
    assert not tellings(mine)[1][2]
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
def test_whatever_a_command_does_the_other_channel_is_told_and_nothing_is_left(
    ours: Any, tellers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("worker.notification_channels.SEND_SECONDS", 6.0)
    pid = tmp_path / "pid"
    lines = ["import os", f"open({str(pid)!r}, 'w').write(str(os.getpid()))", *BAD_COMMANDS[kind]]
    with Webhook() as webhook:
        mine = ours(
            ONBOARD_NOTIFY_COMMAND=hook(tmp_path, *lines), ONBOARD_NOTIFY_URLS=f"json://127.0.0.1:{webhook.port}/"
        )
        tellers(mine)
        known(mine, "command-1", "json-1")
        finished(mine.ledger)
        wait_until(
            lambda: any(name == "command-1" and tries >= 2 for name, tries, *_ in tellings(mine)), what="2 tries"
        )
        wait_until(lambda: any(one[0] == "json-1" and one[2] for one in tellings(mine)), what="the other")
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


def test_a_malformed_address_is_named_by_its_place_and_never_quoted(ours: Any) -> None:
    mine = ours(ONBOARD_NOTIFY_URLS=f"json://127.0.0.1/ slack://{TOKEN}")
    with pytest.raises(SettingsError, match="address 2 of 2") as caught:
        open_channels(mine.settings)
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(mine.settings)


def test_addresses_are_read_from_a_secret_file_and_named_by_kind(ours: Any, tmp_path: Path) -> None:
    secret = tmp_path / "urls"
    secret.write_text(
        f"json://127.0.0.1/{TOKEN}\njsons://127.0.0.1/{TOKEN}\njson://127.0.0.1/b\n"
        f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ\n",
        encoding="utf-8",
    )
    mine = ours(ONBOARD_NOTIFY_URLS_FILE=secret)
    assert [one.name for one in open_channels(mine.settings)] == ["json-1", "jsons-1", "json-2", "slack-1"]


def test_neither_token_nor_answer_of_a_channel_is_logged(
    ours: Any, tellers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Webhook(status=500) as webhook, structlog.testing.capture_logs() as logged:
        mine = ours(ONBOARD_NOTIFY_URLS=f"mmost://127.0.0.1:{webhook.port}/{TOKEN}")
        tellers(mine)
        known(mine, "mmost-1")
        finished(mine.ledger)
        wait_until(lambda: any(tries >= 2 for _, tries, *_ in tellings(mine)), what="a second try")
    assert any("trying again" in one["event"] for one in logged)
    # urllib3 logs the paths that it asks for, at a level that the program never sets
    ours_only = [line for line in caplog.records if not line.name.startswith("urllib3")]
    assert TOKEN not in str(logged) + str([line.getMessage() for line in ours_only])
