"""What a channel may do to its notifier, and what it is shown: no setting, no secret, no time without an end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import socket
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from factories import KEY, wait_until
from listeners import Webhook
from notified import deliveries, finished, hook, known

from tasks.errors import SettingsError
from tasks.reports.notification_message import Message
from tasks.settings import load_settings
from worker.notification_channels import open_channels

TOKEN = "tokenthatnobodyshallsee123"


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
    begun = tmp_path / "begun"
    lines = ["import os", f"open({str(begun)!r}, 'a').write(f'{{os.getpid()}}\\n')", *BAD_COMMANDS[kind]]
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
    hook(tmp_path)
    for group in map(int, begun.read_text().split()):
        wait_until(partial(is_gone, group), 30, "the end of all of it")


def is_gone(group: int) -> bool:
    """Tell whether no process of a session is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


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
