"""`onboard console` as it is started: on which address or file, and for whom."""

from __future__ import annotations

import re
import signal
import stat
from pathlib import Path

import pytest
from consoles import Browser, asked, raw, status_of
from factories import Command, Simulator, wait_until


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
