"""No traceback reaches a user: the real command, in environments and with files that are wrong in every way."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from factories import ROOT, Command, MeasuredCommand, Simulator, write_csv
from postgres import postgres_server


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"LEDGER_URL": "mysql://me:hidden@db/x"}, "mysql:// is no ledger"),
        ({"LEDGER_URL": "postgres://me:hidden@127.0.0.1:1/x"}, "the ledger failed"),
        ({"REDIS_URL": "redis://:hid#den@h"}, "%23"),
        ({"ONBOARD_HOME": "/dev/null/home"}, "ONBOARD_HOME"),
        ({"ONBOARD_CANNARY": "3"}, "is ONBOARD_CANARY meant?"),
        ({"ONBOARD_LANG": "fr"}, "ONBOARD_LANG"),
    ],
)
def test_settings_that_will_not_do_are_a_sentence_and_an_object(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    command = MeasuredCommand if "ONBOARD_LANG" in settings else Command  # one of them as a user starts it
    done = command(tmp_path, **settings)("status", "--json")
    assert done.returncode == 2
    assert said in done.stderr
    assert said in json.loads(done.stdout)["error"]["message"]
    assert not any(word in done.stdout + done.stderr for word in ("Traceback", "hid", "den@"))


def test_a_file_name_that_is_no_utf8_is_run_as_any_other(tmp_path: Path) -> None:
    command = MeasuredCommand(tmp_path)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xe9.csv"))
    write_csv(path, 2)
    done = command("check", "--offline", "--json", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == "\udcff\udce9.csv"
    with Simulator() as simulator:
        command = Command(tmp_path, simulator)
        assert command("run", path).returncode == 0
        assert r"\xff\xe9.csv" in command("status").stdout


def test_a_terminal_without_utf8_gets_japanese_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_text("customer_id,payment_method,resource\n1.2E+11,paidy,ios\n")
    command = MeasuredCommand(tmp_path, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    done = command("check", "--offline", "--lang", "ja", path)
    assert done.returncode == 1, done.stderr
    assert "書き換え" in done.stdout


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    done = Command(tmp_path)("check", "--offline", "--lang", "fr", tmp_path)
    assert done.returncode == 2
    assert "en or ja" in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = Command(tmp_path)("simulator", "--port", port)
    assert done.returncode == 2
    assert f"port {port} cannot be served" in done.stderr


def test_a_fault_of_the_program_says_so_and_ends_with_70(tmp_path: Path) -> None:
    """An installation with a broken library stands for whatever nobody has thought of."""
    (tmp_path / "broken" / "rich").mkdir(parents=True)
    (tmp_path / "broken" / "rich" / "__init__.py").write_text("raise RuntimeError('sk_test_hidden')\n")
    command = MeasuredCommand(tmp_path, PYTHONPATH=f"{tmp_path / 'broken'}:{ROOT}")
    done = command("status", "--json")
    assert done.returncode == 70
    assert "fault of the program (RuntimeError" in json.loads(done.stdout)["error"]["message"]
    assert "Nothing is lost" in done.stderr
    assert not any(word in done.stdout + done.stderr for word in ("Traceback", "hidden"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"REQUESTS_CA_BUNDLE": "/no/ca.pem"}, "REQUESTS_CA_BUNDLE"),
        ({"HTTPS_PROXY": "socks5://127.0.0.1:9"}, "SOCKS"),
    ],
)
def test_doctor_says_what_of_the_way_to_elepay_is_wrong(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    (tmp_path / ".env").write_text("ONBOARD_LANG=en\n")
    command = Command(tmp_path, ONBOARD_TRUST_ENV="1", NO_PROXY="", **environment)
    findings = {one["subject"]: one["says"] for one in command.json("doctor")["findings"]}
    assert said in findings["elepay"]
    assert "https://api.elepay.io was tried" in findings["elepay"]
    assert str(tmp_path / ".env") in findings["settings"]


@pytest.mark.parametrize("encoding", ["EUC_JP", "SQL_ASCII"])
def test_a_database_that_is_not_in_utf8_is_refused(tmp_path: Path, encoding: str) -> None:
    import psycopg

    with postgres_server() as server:
        with psycopg.connect(f"{server} dbname=postgres", autocommit=True) as connection:
            connection.execute(
                f"create database odd encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0"
            )
        host = server.split(maxsplit=1)[0].removeprefix("host=")
        command = Command(tmp_path, LEDGER_URL=f"postgres://postgres@/odd?host={host}")
        started = command("status")
        findings = {one["subject"]: one["says"] for one in command.json("doctor")["findings"]}
    assert started.returncode == 2
    for said in (started.stderr, findings["ledger"]):
        assert f"is in {encoding}; the ledger needs one in UTF-8" in said
