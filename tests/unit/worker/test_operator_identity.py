"""Who gives a command, by the system's word and not by the environment's."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from worker.operator_identity import who

ROOT = Path(__file__).resolve().parents[3]
#: A user id that has no name on any machine.
NAMELESS = 2_000_000_011


def test_names_in_the_environment_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    assert who() == f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


def test_a_user_without_a_name_is_its_number() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    becomes_nameless = f"import os; from worker.operator_identity import who; os.setuid({NAMELESS}); print(who())"
    done = subprocess.run(
        [sys.executable, "-c", becomes_nameless],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOGNAME": "somebody-else"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"{NAMELESS}@{socket.gethostname()}"
