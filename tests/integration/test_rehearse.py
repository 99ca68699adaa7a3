"""A rehearsal is a whole run, and nothing of it reaches the real ledger, elepay, Redis or channels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from consoles import running
from factories import ROOT, Command, Simulator, wait_until, write_csv
from raw_server import Listener

from tasks.settings import setting_names
from worker.commands.rehearse import KEPT, this_program

LIVE_KEY = "sk_live_0123456789"
#: What may be heard, kept and counted by others: each must be a decision to take over.
TOUCHING = ("ELEPAY_", "ONBOARD_NOTIFY", "ONBOARD_METRICS", "ONBOARD_HOME", "ONBOARD_DROP", "ONBOARD_REPORTS")


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listening:
        yield listening


def parents() -> dict[int, int]:
    """Every process of this machine, with its parent."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]): int(line.split()[1]) for line in listed.splitlines()}


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    children = {child for child, parent in parents().items() if parent == pid}
    return children.union(*map(descendants, children))


def digests(folder: Path) -> dict[str, str]:
    """Every file of a folder, and what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def rehearsals(folder: Path) -> list[Path]:
    """The folders that rehearsals have left."""
    return sorted(folder.glob("onboard-rehearsal-*"))


@pytest.fixture
def rehearsing(tmp_path: Path) -> Command:
    """A user without any setting; rehearsals lie in `tmp`."""
    (tmp_path / "tmp").mkdir()
    command = Command(tmp_path, TMPDIR=tmp_path / "tmp")
    for name in list(command.environment):
        if name.startswith(("ELEPAY_", "ONBOARD_")):
            del command.environment[name]
    return command


@pytest.mark.parametrize("given_by", ["dotenv", "environment", "files"])
@pytest.mark.resilience
@pytest.mark.representative
def test_a_rehearsal_among_live_settings_reaches_nothing_real(
    tmp_path: Path, rehearsing: Command, simulator: Simulator, listener: Listener, given_by: str
) -> None:
    simulator.control(live=True)
    home = tmp_path / "real"
    live = Command(
        tmp_path, simulator, ONBOARD_HOME=home, ELEPAY_MODE="live", ELEPAY_SECRET_KEY=LIVE_KEY
    )  # the real installation, which has had a night already
    assert live("ledger", "create").returncode == 0
    assert live.json("run", write_csv(tmp_path / "last.csv", 5))["books"]["created"] == 5
    before = digests(home)
    told = tmp_path / "told"
    settings = {
        "ELEPAY_SECRET_KEY": LIVE_KEY,
        "ELEPAY_MODE": "live",
        "ELEPAY_BASE_URL": f"http://127.0.0.1:{listener.port}",
        "LEDGER_URL": f"sqlite:///{home}/ledger.db",
        "REDIS_URL": f"redis://127.0.0.1:{listener.port}/0",
        "ONBOARD_HOME": str(home),
        "ONBOARD_DROP_FOLDER": str(home / "drop"),
        "ONBOARD_NOTIFY_URLS": f"json://127.0.0.1:{listener.port}/told",
        "ONBOARD_NOTIFY_COMMAND": f"touch {told}",
        "ONBOARD_METRICS_PORT": str(listener.port),
        "ONBOARD_CANARY": "1",
        "ONBOARD_NOT_BEFORE": "01:00",
        "ONBOARD_UNTIL": "01:01",
    }
    if given_by == "dotenv":
        lines = [f"{name}='{value}'" for name, value in settings.items()]
        (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    elif given_by == "environment":
        rehearsing.environment |= settings
    else:
        (tmp_path / "secrets").mkdir()
        for name, value in settings.items():
            (tmp_path / "secrets" / name).write_text(value, encoding="utf-8")
        rehearsing.environment |= {f"{name}_FILE": str(tmp_path / "secrets" / name) for name in settings}
        rehearsing.environment["ONBOARD_SECRETS_DIR"] = str(tmp_path / "secrets")
    for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):  # Celery reads these, whatever it is told
        rehearsing.environment[name] = f"redis://127.0.0.1:{listener.port}/0"
    rehearsing.environment["http_proxy"] = f"http://127.0.0.1:{listener.port}"
    said = rehearsing.json("rehearse", "--profile", "clean", write_csv(tmp_path / "last.csv", 8))
    assert said["exit"] == 0, said
    assert said["books"]["created"] == 8, "none of them is known to its ledger"
    assert said["rehearsal"]["references"] == 8
    assert digests(home) == before
    assert listener.connections == 0
    assert simulator.statistics()["created"] == 5
    assert not told.exists()
    everything = b"".join(path.read_bytes() for path in Path(said["rehearsal"]["folder"]).rglob("*") if path.is_file())
    assert b"sk_live_" not in everything


def test_nothing_that_reaches_others_is_taken_over() -> None:
    assert set(KEPT) < set(setting_names())
    assert [name for name in KEPT if name.startswith(TOUCHING) or name in ("REDIS_URL", "LEDGER_URL")] == []


def test_a_rehearsal_reads_the_file_as_the_run_would(tmp_path: Path, rehearsing: Command) -> None:
    """By the encodings, the titles and the language of this installation."""
    (tmp_path / ".env").write_text("ONBOARD_ENCODINGS=euc-jp\nONBOARD_LANG=ja\n", encoding="utf-8")
    (tmp_path / "titles.toml").write_text('customer_id = ["who"]\n', encoding="utf-8")
    (tmp_path / "mine.toml").write_text("missing_prefix = 'gone_'\n", encoding="utf-8")
    rows = "missing_1,creditcard,ios,会員\nc2,nonsense,ios,\n"
    (tmp_path / "a.csv").write_bytes(f"who,payment_method,resource,description\n{rows}".encode("euc-jp"))
    said = rehearsing.json(
        "rehearse", "--profile", "mine.toml", "--mapping", "titles.toml", "--reports", "out", "a.csv"
    )
    assert (said["exit"], said["books"]["created"], said["books"]["invalid"]) == (1, 1, 1), said
    assert 'lang="ja"' in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "会員" in (tmp_path / "out" / "results.csv").read_text("euc-jp")


def test_a_rough_night_says_what_the_simulator_saw_and_where_the_reports_are(
    tmp_path: Path, rehearsing: Command
) -> None:
    done = rehearsing("rehearse", "--seed", 7, write_csv(tmp_path / "a.csv", 300))
    assert done.returncode == 1, "some are refused"
    assert "test mode at http://127.0.0.1:" in done.stdout
    assert "exactly one source for every created row" in done.stdout
    (folder,) = rehearsals(tmp_path / "tmp")
    assert f"yours to delete: {folder}" in done.stdout
    assert folder.stat().st_mode & 0o777 == 0o700
    report = (folder / "reports" / "1" / "report.html").read_text("utf-8")
    assert "onboard run" not in report, "what is typed after a rehearsal is done in the real ledger"
    assert "onboard resolve" not in report
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "tmp"]


def test_the_words_at_its_end_open_the_console_on_its_batch(tmp_path: Path, rehearsing: Command) -> None:
    said = rehearsing("rehearse", "--profile", "clean", write_csv(tmp_path / "a.csv", 30))
    words = re.search(r"(ONBOARD_HOME=.*) onboard console, then http://[\d.:]+(/\S+)", said.stdout.replace("\n", " "))
    assert words, said.stdout
    settings = dict(each.split("=", 1) for each in shlex.split(words[1]))
    with running(Command(tmp_path, **settings), "--port", "0") as console:
        page = requests.get(console + words[2], timeout=60).text
    assert "30" in page
    assert "a.csv" in page


def test_it_says_how_to_call_this_program_also_where_it_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a folder" / "onboard"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert this_program() == f"'{program}'"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert this_program() == "onboard"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "worker" / "cli" / "__main__.py")])
    assert this_program() == "onboard"


def test_what_cannot_be_rehearsed_says_why_and_leaves_nothing(tmp_path: Path, rehearsing: Command) -> None:
    (tmp_path / "empty.csv").touch()
    file = write_csv(tmp_path / "a.csv", 2)
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "uvicorn.py").write_text("raise ImportError('not installed')\n", encoding="utf-8")
    rehearsing.environment["ONBOARD_LANG"] = "en"
    for words, said in (
        (["empty.csv"], "empty"),
        (["nothing.csv"], "nothing.csv"),
        (["--profile", "nice", file], "no profile 'nice'"),
    ):
        done = rehearsing("rehearse", *words)
        assert (done.returncode, said in done.stderr) == (2, True), done
    assert rehearsing.json("rehearse", "nothing.csv")["error"]["code"] == "unreadable_file"
    rehearsing.environment["ONBOARD_LANG"] = "fr"
    assert "ONBOARD_LANG" in rehearsing("rehearse", file).stderr
    rehearsing.environment["ONBOARD_LANG"] = "en"
    rehearsing.source = f"{tmp_path / 'fake'}:{rehearsing.source}"
    assert "pip install 'elepay-onboarding[simulator]'" in rehearsing("rehearse", file).stderr
    assert rehearsals(tmp_path / "tmp") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.resilience
@pytest.mark.representative
def test_an_interrupted_rehearsal_ends_in_order_and_leaves_nothing(
    tmp_path: Path, rehearsing: Command, number: signal.Signals
) -> None:
    file = write_csv(tmp_path / "a.csv", 20_000)
    process = rehearsing.start("rehearse", "--json", file)
    wait_until(lambda: list((tmp_path / "tmp").glob("onboard-rehearsal-*/logs/worker-1.log")), what="the run")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "interrupted" in err
    if out:
        assert json.loads(out.splitlines()[-1]).get("rehearsal") is None
    assert rehearsals(tmp_path / "tmp") == []


def test_a_killed_rehearsal_leaves_no_process(tmp_path: Path, rehearsing: Command) -> None:
    process = rehearsing.start("rehearse", write_csv(tmp_path / "a.csv", 20_000))
    wait_until(lambda: list((tmp_path / "tmp").glob("onboard-rehearsal-*/valkey.pid")), what="the run")
    wait_until(lambda: len(descendants(process.pid)) >= 4, what="simulator, run, Valkey and a worker")
    started = descendants(process.pid)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: started.isdisjoint(parents()), what="the end of all of them")
