"""`onboard console` as it is started: on which address or file, and for whom."""

from __future__ import annotations

import functools
import re
import resource
import signal
import socket
import stat
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from consoles import Browser, asked, raw, running, status_of
from factories import Command, Simulator, wait_until

from worker.console.safety.request_heads import HEAD_SECONDS


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_it_does_not_start_for_other_machines_while_nobody_has_to_sign_in(
    tmp_path: Path, reset_simulator: Simulator, host: str
) -> None:
    said = Command(tmp_path, reset_simulator)("console", "--host", host, "--port", "0")
    assert said.returncode == 2
    assert "nobody has to sign in" in said.stderr


def test_it_does_not_start_behind_a_proxy_that_nobody_named(tmp_path: Path, reset_simulator: Simulator) -> None:
    onboard = Command(tmp_path, reset_simulator, ONBOARD_CONSOLE_SIGN_IN="proxy", ONBOARD_CONSOLE_APPROVERS="leads")
    said = onboard("console", "--port", "0")
    assert said.returncode == 2
    assert "ONBOARD_CONSOLE_PROXIES" in said.stderr


def test_it_says_that_it_only_shows_while_nobody_can_sign_in(tmp_path: Path, reset_simulator: Simulator) -> None:
    output = tmp_path / "said"
    with output.open("w") as file:
        console = Command(tmp_path, reset_simulator).start(
            "console", "--port", "0", stdout=file.fileno(), stderr=file.fileno()
        )
        wait_until(lambda: "add-user" in output.read_text(), 60, "what it says")
        found = re.search(r"http://127\.0\.0\.1:\d+", output.read_text())
        assert found
        answer = Browser(found[0]).get("/")
        console.send_signal(signal.SIGINT)
        console.wait(60)
    assert answer.status_code == 200
    assert "Nobody is signed in here" in answer.text
    assert console.returncode == 0


def test_a_socket_file_is_for_its_user_and_group_only(tmp_path: Path, reset_simulator: Simulator) -> None:
    path = tmp_path / "c.sock"
    settings = {"ONBOARD_CONSOLE_SIGN_IN": "proxy", "ONBOARD_CONSOLE_APPROVERS": "leads"}
    onboard = Command(tmp_path, reset_simulator, ONBOARD_CONSOLE_SOCKET=path, **settings)
    for _ in range(2):  # the second one finds the file of the first
        with (tmp_path / "said").open("w") as file:
            console = onboard.start("console", stdout=file.fileno(), stderr=file.fileno())
            hana = asked(X_Forwarded_User="hana", X_Forwarded_Groups="leads")
            wait_until(lambda: "unix:" in (tmp_path / "said").read_text(), 60, "its start")
            second = onboard("console")
            mode = stat.S_IMODE(path.stat().st_mode)
            answers = [status_of(raw(str(path), request)) for request in (hana, asked())]
            console.send_signal(signal.SIGINT)
            console.wait(60)
        assert (mode, answers) == (0o660, [200, 401])
        assert (second.returncode, str(path) in second.stderr) == (2, True), "the file is in use"


@pytest.mark.resilience
def test_more_silent_connections_than_it_may_open_files_lock_people_out_for_seconds_only(
    tmp_path: Path, reset_simulator: Simulator
) -> None:
    few = functools.partial(resource.setrlimit, resource.RLIMIT_NOFILE, (100, 100))
    with running(Command(tmp_path, reset_simulator), "--port", "0", preexec=few) as url, ExitStack() as stack:
        parts = urlsplit(url)
        for _ in range(220):  # as many as it may open, and as wait in the queue of the system
            stack.enter_context(socket.create_connection((parts.hostname, parts.port), 30))
        began = time.monotonic()
        wait_until(lambda: is_served(url), 60, "an answer")
        assert 1 < time.monotonic() - began < 3.5 * HEAD_SECONDS


def is_served(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False
