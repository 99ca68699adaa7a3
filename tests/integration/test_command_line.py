"""The command line as people expect it: options, questions, what waits for others, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from factories import ROOT, Command, Simulator, children, command_line, running_batch, wait_until, write_csv
from terminals import Terminal

from tasks.ledger import Ledger


def test_retry_writes_its_reports_where_and_how_it_is_told(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(refuse={"U003005": 0.5})
    onboard = Command(tmp_path, simulator, ONBOARD_BREAKER_ANSWERS="0")
    first = onboard.json("run", write_csv(tmp_path / "a.csv", 20))
    simulator.control(refuse={})
    done = onboard.json("retry", first["batch"], "--reports", "there", "--lang", "ja", "--excel-safe")
    assert done["exit"] == 0, done["stderr"]
    assert {Path(path).parent for path in done["reports"].values()} == {Path("there")}
    assert (tmp_path / "there" / "results.excel-safe.csv").exists()
    assert "登録しました" in (tmp_path / "there" / "report.html").read_text("utf-8")


def test_approve_and_resume_write_their_reports_where_and_how_they_are_told(
    tmp_path: Path, simulator: Simulator
) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard.json("run", "--canary", 2, write_csv(tmp_path / "a.csv", 6))["exit"] == 3
    approved = onboard.json("approve", 1, "--reports", "approved", "--lang", "ja", "--excel-safe")
    assert approved["exit"] == 0, approved["stderr"]
    assert "登録しました" in (tmp_path / "approved" / "report.html").read_text("utf-8")
    assert (tmp_path / "approved" / "results.excel-safe.csv").exists()


def test_where_a_fleet_sends_resume_says_how_to_get_the_reports(
    tmp_path: Path, simulator: Simulator, redis_url: str
) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard("run", "--canary", 2, write_csv(tmp_path / "a.csv", 6)).returncode == 3
    fleet = Command(tmp_path, simulator, REDIS_URL=redis_url)
    done = fleet("approve", 1, "--reports", "approved")
    assert done.returncode == 0, done.stderr
    assert "`onboard report 1` writes the reports once the batch is over" in done.stdout
    assert not (tmp_path / "approved").exists()


def test_name_and_version_are_printed_whatever_the_settings_are(tmp_path: Path) -> None:
    broken = Command(tmp_path, ELEPAY_MODE="neither", ONBOARD_WORKER="3")
    (tmp_path / ".env").write_bytes(b"\xff\xfe no settings")
    done = broken("--version")
    assert (done.returncode, done.stdout) == (0, f"elepay-onboarding {version('elepay-onboarding')}\n")


@pytest.mark.parametrize("words", ["", "run", "ledger", "ledger create", "status", "simulator", "worker"])
def test_the_short_option_for_help_is_as_good_as_the_long_one(tmp_path: Path, words: str) -> None:
    onboard = Command(tmp_path)
    short, long = (onboard(*words.split(), option) for option in ("-h", "--help"))
    assert (short.returncode, short.stderr) == (0, "")
    assert short.stdout == long.stdout
    assert f"Usage: {f'onboard {words}'.strip()} " in short.stdout


def test_one_more_source_for_rows_that_have_one_is_made_after_a_yes_only(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 5)
    assert onboard("run", file).returncode == 0
    write_csv(file, 7)
    question = "5 rows have a source already; one more is created for each. Go on? [y/N] "
    for answer in ("\n", "\x04"):
        with Terminal(onboard, "run", "--again", file) as terminal:
            terminal.until(question)
            assert simulator.statistics()["created"] == 5, "it is asked before anything is sent"
            terminal.type(answer)
            assert terminal.end() == 3
            assert "nothing was changed" in terminal.text
    assert len(onboard.json("status")["batches"]) == 1, "nothing was stored"
    with Terminal(onboard, "run", "--again", file) as terminal:
        terminal.until(question)
        terminal.type("\x03")
        assert terminal.end() == 3, "as at every Ctrl-C"
    assert len(onboard.json("status")["batches"]) == 1
    with Terminal(onboard, "run", "--again", "--lang", "ja", file) as terminal:
        terminal.until("続けますか？ [y/N] ")
        terminal.type("y\n")
        assert terminal.end() == 0
    assert simulator.statistics()["created"] == 12


def test_nobody_is_asked_who_said_yes_or_has_no_terminal_or_has_nothing_to_lose(
    tmp_path: Path, simulator: Simulator
) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 3)
    with Terminal(onboard, "run", "--again", file) as terminal:
        assert terminal.end() == 0, "no row has a source"
    with Terminal(onboard, "run", "--again", "--yes", file) as terminal:
        assert terminal.end() == 0
    assert onboard("run", "--again", file).returncode == 0, "a script"
    assert simulator.statistics()["created"] == 9


def test_a_run_of_again_that_was_interrupted_goes_on_without_a_question(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 6)
    assert onboard("run", file).returncode == 0
    assert onboard("run", "--again", "--canary", 2, file).returncode == 3
    with Terminal(onboard, "run", "--again", file) as terminal:
        assert terminal.end() == 3, "it waits for its approval"
        assert "[y/N]" not in terminal.text


def test_a_batch_is_cancelled_after_a_yes_only(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard("run", "--canary", 2, write_csv(tmp_path / "a.csv", 6)).returncode == 3
    with Terminal(onboard, "cancel", 1) as terminal:
        terminal.until("4 rows of batch 1 will not be sent. Cancel the batch? [y/N] ")
        terminal.type("no\n")
        assert terminal.end() == 3
    assert onboard.json("status", 1)["state"] == "paused"
    with Terminal(onboard, "cancel", 1) as terminal:
        terminal.until("[y/N]")
        terminal.type("yes\n")
        assert terminal.end() == 0
    assert onboard.json("status", 1)["state"] == "cancelled"
    with Terminal(onboard, "cancel", 1) as terminal:
        assert terminal.end() == 2, "it is cancelled already, which needs no question"
        assert "[y/N]" not in terminal.text
    assert onboard("run", "--canary", 2, write_csv(tmp_path / "b.csv", 6, prefix="b")).returncode == 3
    assert onboard("cancel", 2).returncode == 0, "a script"


def test_a_file_is_left_to_a_fleet_only_if_a_worker_is_at_work(
    tmp_path: Path, simulator: Simulator, redis_url: str
) -> None:
    file = write_csv(tmp_path / "a.csv", 6)
    nobody = Command(tmp_path, simulator)
    done = nobody.json("run", "--no-wait", file)
    assert (done["exit"], "start `onboard watch`" in done["stderr"]) == (2, True)
    assert not (nobody.home / "ledger.db").exists()
    fleet = Command(tmp_path, simulator, REDIS_URL=redis_url)
    done = fleet.json("run", "--no-wait", file)
    assert (done["exit"], "no worker is at work" in done["stderr"]) == (2, True)
    assert fleet.json("status")["batches"] == []
    assert fleet("run", "--no-wait", "--reports", "there", file).returncode == 2
    worker = fleet.start("worker")
    try:
        wait_until(lambda: fleet("run", "--no-wait", "--canary", 2, file).returncode == 0, 60, "a worker")
        wait_until(lambda: fleet.json("status", 1)["state"] == "paused", 60, "the end of the canary")
        stays = fleet.json("run", "--no-wait", file)
        assert (stays["exit"], stays["state"]) == (3, "paused"), "no file approves"
        assert fleet("approve", 1).returncode == 0
        assert fleet.until_finished(1)["books"]["created"] == 6
        again = fleet.json("run", "--no-wait", file)
        assert (again["exit"], again["state"], again["books"]["skipped"]) == (0, "finished", 6)
    finally:
        worker.terminate()
        worker.communicate(timeout=60)


def test_a_file_is_left_to_the_watcher_that_is_at_work_in_the_same_home(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_DROP_FOLDER=tmp_path / "drop")
    file = write_csv(tmp_path / "a.csv", 6)
    watcher = onboard.start("watch")
    try:
        wait_until(lambda: onboard("run", "--no-wait", file).returncode == 0, 60, "a watcher")
        assert onboard.until_finished(1)["books"]["created"] == 6
        said = onboard.json("run", "--no-wait", write_csv(tmp_path / "b.csv", 4, prefix="b"))
        assert said["exit"] == 0
        assert (said["batch"], said["books"]["records"]) == (2, 4)
        assert "`onboard status 2 --watch`" in said["stderr"]
        assert onboard.until_finished(2)["books"]["created"] == 4
    finally:
        watcher.terminate()
        watcher.communicate(timeout=60)


def test_any_line_of_a_record_names_it_to_show_and_resolve(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(commit_then_drop_connection=1.0, list_500=1.0, max_faults_per_key=1000)
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    head = "customer_id,payment_method,resource,description\n"
    rows = 'cus_1,creditcard,ios,"one\r\ntwo\nthree"\n\ncus_2,creditcard,ios,x\n'
    (tmp_path / "a.csv").write_bytes((head + rows).encode())
    assert onboard.json("run", "a.csv")["books"]["unclear"] == 2
    assert "batch 1, line 2 (record 1): unclear" in onboard("show", 1, 2).stdout
    inside = onboard("show", 1, 4).stdout
    assert "line 4 is inside record 1, which starts on line 2\nbatch 1, line 2 (record 1): unclear" in inside
    for line in (0, 1, 5, 7):
        done = onboard("show", 1, line)
        assert (done.returncode, f"no record of batch 1 is on line {line}" in done.stderr) == (2, True)
    settled = onboard("resolve", 1, 3, "--give-up").stdout
    assert "line 3 is inside record 1, which starts on line 2\nline 2 of batch 1 is unclear and given up" in settled
    again = onboard("resolve", 1, 3, "--give-up")
    assert (again.returncode, "line 2 of batch 1 (record 1) does not wait" in again.stderr) == (2, True)


def test_a_watched_batch_ends_the_watching_with_its_exit_code(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="5")
    run = onboard.start("run", write_csv(tmp_path / "a.csv", 60))
    wait_until(lambda: simulator.statistics()["created"] >= 1, what="the first row")
    with Terminal(onboard, "status", 1, "--watch", columns=40) as watching:
        log = onboard.start("status", 1, "--watch", "--json")
        watching.until("Ctrl-C ends the watching")
        watching.until("All 60 created")
        assert watching.end() == 0
        shown = "\n".join(watching.shown)
    assert (shown.count("batch 1: a.csv"), shown.count("created")) == (1, 2), shown
    assert shown.count("running") == 0, "the last status stands there, and none of those before"
    out, err = log.communicate(timeout=60)
    assert (log.returncode, json.loads(out)["state"]) == (0, "finished")
    assert err.count("batch 1: a.csv") >= 2, "each status that differs"
    run.communicate(timeout=60)
    assert onboard("status", 9, "--watch").returncode == 2


def test_ctrl_c_ends_the_watching(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard("run", "--canary", 1, write_csv(tmp_path / "a.csv", 2)).returncode == 3
    assert onboard("status", 1, "--watch").returncode == 3, "it is paused: nothing moves"
    with Terminal(onboard, "status", "--watch") as watching:
        watching.until("Ctrl-C ends the watching")
        watching.type("\x03")
        assert watching.end() == 0
    ledger = Ledger.open(onboard.ledger_url)
    running_batch(ledger, 2)
    ledger.close()
    with Terminal(onboard, "status", 2, "--watch") as watching:
        watching.until("running, nobody at work")
        watching.type("\x03")
        assert watching.end() == 3


@pytest.mark.parametrize("columns", [60, 160])
def test_what_is_logged_stands_above_the_live_display_and_is_whole(
    tmp_path: Path, simulator: Simulator, columns: int
) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="10")
    file = write_csv(tmp_path / "a.csv", 60)
    with Terminal(onboard, "run", file, columns=columns) as terminal:
        terminal.until("rows/s")
        wait_until(lambda: simulator.statistics()["created"] >= 5, what="the first rows")
        for worker in children(terminal.process.pid):
            if b"worker.cli\0worker\0" in command_line(worker):
                os.kill(worker, signal.SIGKILL)
        terminal.until("worker process ended")
        terminal.until("/60", since="worker process ended")
        shown = terminal.shown
        (at,) = [number for number, line in enumerate(shown) if "worker process ended" in line]
        assert re.match(r"20\d\d-\d\d-\d\dT", shown[at]), shown
        whole = "".join(shown[at : at + 3]).replace(" ", "")
        assert re.search(r"\[warning\]workerprocessended,startingitagain\w*?code=-9pid=\d+", whole), shown
        assert any("/60" in line for line in shown[at + 1 :]), "the display is below it"
        assert not any("/60" in line for line in shown[: at + 1])
        assert terminal.end(120) == 0
        assert [line for line in terminal.shown if "worker process ended" in line] == [shown[at]]
        assert not any("━" in line for line in terminal.shown), "nothing of the display is left"


def test_what_is_logged_into_a_file_is_not_on_the_terminal(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    with (
        (tmp_path / "log").open("w") as log,
        Terminal(onboard, "run", write_csv(tmp_path / "a.csv", 3), stderr=log.fileno()) as terminal,
    ):
        assert terminal.end() == 0
        assert "batch accepted" not in terminal.text
    events = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert "batch accepted" in events


def test_a_reader_that_goes_changes_no_exit_code(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    assert onboard("run", "--canary", 1, write_csv(tmp_path / "a.csv", 2)).returncode == 3
    (tmp_path / "bad.csv").write_text("customer_id,payment_method,resource\n" + ",creditcard,ios\n" * 30)
    for words, code in (
        ("--help", 0),
        ("status", 0),
        ("status --json", 0),
        ("status --watch", 0),
        ("status 1", 3),
        ("status 9 --json", 2),
        ("check bad.csv", 1),
        ("no-such-command", 2),
        ("run --canary 1 a.csv", 3),
    ):
        process = onboard.start(*words.split())
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert process.wait(60) == code, words


def test_what_has_a_reader_is_read_to_its_end(tmp_path: Path) -> None:
    onboard = Command(tmp_path)
    head = subprocess.run(
        [f"{sys.executable} -m worker.cli resolve --help | head -n 2; echo ${{PIPESTATUS[0]}}"],
        shell=True,
        executable="bash",
        env={**onboard.environment, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert head.stdout.splitlines()[-1] == "0"
    assert "Usage: onboard resolve" in head.stdout
    assert head.stderr == ""


@pytest.fixture(scope="module")
def unclear_rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, list[str]]]:
    """A home with long names in which one row of each kind waits for a person; and what no terminal may break."""
    folder = tmp_path_factory.mktemp("a-folder-with-a-rather-long-name")
    with Simulator(commit_then_drop_connection=1.0, list_500=1.0, max_faults_per_key=1000) as simulator:
        onboard = Command(folder, simulator, ONBOARD_LOOK_UPS="1", ONBOARD_PENDING_DAYS="0")
        write_csv(folder / "customers-of-the-night.csv", 2, prefix="cus_with_a_rather_long_id_")
        first = onboard.json("run", "customers-of-the-night.csv")
        assert first["books"]["unclear"] == 2, first
        simulator.control(commit_then_drop_connection=0.0, list_500=0.0)
        assert onboard("run", write_csv(folder / "b.csv", 2)).returncode == 0
        references = [row["reference"] for row in onboard.json("resolve")["unclear"]]
        yield onboard, [*references, *(source["id"] for source in simulator.sources())]


@pytest.mark.parametrize(
    ("columns", "lang"),
    [
        (60, "ja"),
        (80, "en"),
        (120, "ja"),
        *(pytest.param(*other, marks=pytest.mark.resilience) for other in ((60, "en"), (80, "ja"), (120, "en"))),
    ],
)
def test_no_terminal_breaks_an_id_a_path_or_a_command(
    unclear_rows: tuple[Command, list[str]], columns: int, lang: str
) -> None:
    onboard, ids = unclear_rows
    onboard.environment |= {"COLUMNS": str(columns), "ONBOARD_LANG": lang}
    home, reports = str(onboard.home), str(onboard.home / "reports")
    for words, whole in (
        ("status", ["customers-of-the-night.csv", f"{home}/ledger.db"]),
        ("status 1", ["customers-of-the-night.csv"]),
        ("resolve", [*ids[:2], "cus_with_a_rather_long_id_000002", "onboard resolve"]),
        ("show 1 2", [ids[0]]),
        ("show 2 2", []),
        ("audit 2", [f"{reports}/2/audit.csv"]),
        ("report 1", [f"{reports}/1/report.html"]),
        ("doctor", [home, onboard.environment["ELEPAY_BASE_URL"], "docs/reference/settings.md"]),
        ("report follow-up", [f"{reports}/follow-up.csv"]),
        ("check b.csv", []),
    ):
        printed = onboard(*words.split()).stdout
        seen = set(re.findall(r"[!-~]+", printed))
        assert [each for each in whole if each not in printed] == [], printed
        broken = [each for each in ids if each[:12] in printed and not any(each in word for word in seen)]
        assert broken == [], printed
