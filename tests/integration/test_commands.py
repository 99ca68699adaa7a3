"""The commands as people and scripts use them, against the simulator, with real workers."""

from __future__ import annotations

import csv
import json
import signal
import socket
import time
from pathlib import Path

import pytest
from factories import KEY, ROOT, Command, Simulator, new_worker, wait_until, write_csv
from listeners import MailServer, free_port

from tasks.ledger import Ledger
from tasks.models import Account, BatchState, RowState

CLEAN = "customer_id,payment_method,resource\n"


def test_a_clean_file_is_created_and_reported(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    done = onboard.json("run", write_csv(tmp_path / "a.csv", 30))
    assert done["exit"] == 0, done["stderr"]
    assert done["books"] == {
        "records": 30,
        "created": 30,
        "skipped": 0,
        "invalid": 0,
        "refused": 0,
        "unclear": 0,
        "open": 0,
        "balance": True,
    }
    counted = simulator.statistics()
    assert counted["references"] == {"total": 30, "doubled": [], "doubled_count": 0}
    with Path(done["reports"]["results"]).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["onboarding_state"] for row in rows} == {"created"}
    assert len({row["onboarding_source_id"] for row in rows}) == 30
    assert rows[0]["description"] == "Membership 1"
    assert {"results", "failures", "summary", "html", "xlsx", "manifest"} <= set(done["reports"])


def test_the_same_file_again_sends_nothing(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 5)
    onboard("run", file)
    again = onboard.json("run", file)
    assert again["exit"] == 0
    assert again["books"]["skipped"] == 5
    assert simulator.statistics()["created"] == 5


def test_again_makes_one_more_source_for_every_row(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 5)
    onboard("run", file)
    assert onboard.json("run", "--again", file)["books"]["created"] == 5
    counted = simulator.statistics()
    assert counted["created"] == 10
    assert counted["references"]["doubled_count"] == 0


def test_corrected_failures_are_a_child_batch_of_what_was_not_created(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = tmp_path / "a.csv"
    file.write_text(CLEAN + "cus_1,creditcard,ios\nmissing_2,creditcard,ios\ncus_3,creditcart,ios\n", encoding="utf-8")
    first = onboard.json("run", file)
    assert first["exit"] == 1
    assert (first["books"]["created"], first["books"]["refused"], first["books"]["invalid"]) == (1, 1, 1)
    failures = Path(first["reports"]["failures"])
    corrected = failures.read_text(encoding="utf-8").replace("missing_2", "cus_2").replace("creditcart", "creditcard")
    (tmp_path / "corrected.csv").write_text(corrected, encoding="utf-8")
    second = onboard.json("run", "corrected.csv")
    assert second["exit"] == 0, second["stderr"]
    assert second["books"]["created"] == 2
    ledger = Ledger.open(onboard.ledger_url)
    assert ledger.batches.get(second["batch"]).parent_id == first["batch"]
    ledger.close()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a,b\n1,2\n", "lacks customer_id"), (b"", "empty"), (b"customer_id,payment_method,resource\n", "no record")],
)
def test_an_unusable_file_is_one_sentence_and_exit_code_2(
    tmp_path: Path, simulator: Simulator, content: bytes, said: str
) -> None:
    onboard = Command(tmp_path, simulator)
    (tmp_path / "a.csv").write_bytes(content)
    done = onboard.json("run", "a.csv")
    assert done["exit"] == 2
    assert said in done["error"]["message"]
    assert said in done["stderr"]
    assert "Traceback" not in done["stderr"]
    assert onboard.json("status")["batches"][0]["state"] == "unusable"
    assert simulator.statistics()["created"] == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ELEPAY_SECRET_KEY": ""}, "ELEPAY_SECRET_KEY"),
        ({"ELEPAY_SECRET_KEY": "sk_live_1234567"}, "ELEPAY_MODE"),
        ({"ELEPAY_BASE_URL": "http://elepay.example"}, "ELEPAY_BASE_URL"),
        ({"ONBOARD_WORKER": "3"}, "ONBOARD_WORKER"),
    ],
)
def test_wrong_settings_stop_before_anything_is_read(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    done = Command(tmp_path, **settings)("run", write_csv(tmp_path / "a.csv", 1))
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "home" / "ledger.db").exists()


def test_a_key_that_elepay_does_not_take_stops_before_anything_is_sent(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(accepted_keys=["sk_test_another"])
    done = Command(tmp_path, simulator)("run", write_csv(tmp_path / "a.csv", 1))
    assert done.returncode == 2
    assert "ELEPAY_SECRET_KEY" in done.stderr
    assert KEY not in done.stderr


def test_policies_refuse_a_file_as_a_whole(tmp_path: Path, simulator: Simulator) -> None:
    file = tmp_path / "a.csv"
    file.write_text(CLEAN + "cus_1,creditcard,ios\ncus_2,nonsense,ios\n", encoding="utf-8")
    strict = Command(tmp_path, simulator, ONBOARD_MAX_INVALID_SHARE="0.4")
    assert "1 of 2 records are invalid" in strict.json("run", file)["error"]["message"]
    assert simulator.statistics()["created"] == 0
    file.write_text(CLEAN + "cus_2,nonsense,ios\n", encoding="utf-8")
    needs_one = Command(tmp_path, simulator, ONBOARD_REQUIRE_VALID_ROW="true")
    assert needs_one.json("run", file)["exit"] == 2
    once = Command(tmp_path, simulator, ONBOARD_REFUSE_FINISHED_FILE="true")
    good = write_csv(tmp_path / "b.csv", 2)
    first = once.json("run", good)
    assert first["exit"] == 0
    refused = once.json("run", good)
    assert refused["exit"] == 2
    assert f"batch {first['batch']}" in refused["error"]["message"]
    assert once.json("run", good, "--again")["books"]["created"] == 2


def test_check_counts_and_forecasts_and_sends_nothing(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="20")
    file = tmp_path / "a.csv"
    lines = [f"cus_{n},creditcard,ios\n" for n in range(1200)]
    file.write_text(CLEAN + "".join(lines) + "cus_1,creditcard,ios\n,creditcard,ios\n", encoding="utf-8")
    found = onboard.json("check", file)
    assert found["exit"] == 1
    assert (found["to_send"], found["repeated"], found["invalid"]) == (1200, 1, 1)
    assert found["forecast"]["seconds"] == 60
    said = onboard("check", file).stdout
    assert "1,200 rows at 20/s: 1 min, done about" in said
    assert "1202" in said, "the line of the invalid record"
    assert simulator.statistics()["requests"].get("createSource", 0) == 0
    assert not (onboard.home / "ledger.db").exists()


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path, simulator: Simulator) -> None:
    well = Command(tmp_path, simulator).json("doctor")
    assert well["ok"], well
    assert any("creditcard" in finding["says"] for finding in well["findings"])
    simulator.control(accepted_keys=["sk_test_another"])
    ill = Command(tmp_path, simulator, REDIS_URL="redis://127.0.0.1:9/0").json("doctor")
    assert ill["exit"] == 2
    assert {finding["subject"] for finding in ill["findings"] if not finding["ok"]} == {"elepay", "redis"}
    assert KEY not in json.dumps(ill)


def test_doctor_notices_a_distribution_whose_packages_have_the_same_names(tmp_path: Path, simulator: Simulator) -> None:
    other = tmp_path / "site" / "todo_list-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: todo-list\nVersion: 1.0\n")
    (other / "top_level.txt").write_text("tasks\n")
    command = Command(tmp_path, simulator)
    command.source = f"{ROOT}:{other.parent}"
    ill = command.json("doctor")
    (finding,) = [finding for finding in ill["findings"] if not finding["ok"]]
    assert (ill["exit"], finding["subject"]) == (2, "packages")
    assert "todo-list" in finding["says"]


def test_doctor_looks_at_channels_port_disk_and_clocks_and_sends_a_test(
    tmp_path: Path, simulator: Simulator, redis_url: str
) -> None:
    with MailServer(free_port()) as mail:
        command = Command(tmp_path, simulator, REDIS_URL=redis_url, ONBOARD_NOTIFY_URLS=mail.url)
        command.environment["ONBOARD_NOTIFY_COMMAND"] = "true"
        command.environment["ONBOARD_METRICS_PORT"] = str(free_port())
        well = command.json("doctor")
        says = {finding["subject"]: finding["says"] for finding in well["findings"]}
        assert well["ok"], well
        assert {"disk", "clocks", "metrics", "telling"} <= set(says)
        assert says["telling"].startswith("mailto-1 looks well; command-1 looks well")
        assert mail.mails == [], "nothing is sent unless asked for"
        assert command.json("doctor", "--notify")["ok"]
        assert "This is a test" in mail.texts()[0]
    ill = command.json("doctor", "--notify")
    command.environment["ONBOARD_NOTIFY_COMMAND"] = "no-such-program"
    with socket.create_server(("127.0.0.1", int(command.environment["ONBOARD_METRICS_PORT"]))):
        worse = command.json("doctor")
    assert [finding["subject"] for finding in ill["findings"] if not finding["ok"]] == ["telling"]
    assert [finding["subject"] for finding in worse["findings"] if not finding["ok"]] == ["metrics", "telling"]


def test_a_malformed_address_stops_a_run_before_it_begins(tmp_path: Path, simulator: Simulator) -> None:
    secret = "slack://tokenthatnobodyshallsee123"
    command = Command(tmp_path, simulator, ONBOARD_NOTIFY_URLS=secret)
    done = command("run", write_csv(tmp_path / "a.csv", 3))
    assert done.returncode == 2
    assert "ONBOARD_NOTIFY_URLS" in done.stderr
    assert "tokenthat" not in done.stderr
    assert simulator.statistics()["requests"] == {}


def test_the_canary_runs_first_and_a_person_lets_the_rest_go(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 40)
    first = onboard.json("run", "--canary", 3, file)
    assert first["exit"] == 3
    assert first["state"] == "paused"
    assert simulator.statistics()["created"] == 3
    assert onboard.json("run", file)["exit"] == 3, "the same command does not approve"
    assert simulator.statistics()["created"] == 3
    approved = onboard.json("approve", first["batch"])
    assert (approved["exit"], approved["books"]["created"]) == (0, 40)
    assert onboard("approve", first["batch"]).returncode == 2
    assert simulator.statistics()["created"] == 40


def test_pause_resume_and_cancel(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="30")
    file = write_csv(tmp_path / "a.csv", 300)
    run = onboard.start("run", "--json", file)
    wait_until(lambda: simulator.statistics()["created"] >= 10, what="the first rows")
    assert onboard("pause", 1).returncode == 0
    out, err = run.communicate(timeout=60)
    assert run.returncode == 3, err
    paused = json.loads(out.splitlines()[-1])
    assert paused["state"] == "paused"
    assert paused["books"]["balance"]
    assert 10 <= paused["books"]["created"] < 300
    again = onboard.start("resume", 1, "--json")
    wait_until(lambda: simulator.statistics()["created"] >= paused["books"]["created"] + 5, what="more rows")
    assert onboard("cancel", 1).returncode == 0
    out, err = again.communicate(timeout=60)
    assert again.returncode == 3, err
    cancelled = json.loads(out.splitlines()[-1])
    assert cancelled["state"] == "cancelled"
    assert onboard("resume", 1).returncode == 2
    report = onboard.json("report", 1)
    with Path(report["reports"]["failures"]).open(newline="", encoding="utf-8") as rows:
        assert {(row["onboarding_state"], row["onboarding_code"]) for row in csv.DictReader(rows)} == {
            ("open", "not_attempted")
        }
    rest = onboard.json("run", file)
    assert rest["exit"] == 0
    assert rest["books"]["created"] == 300 - cancelled["books"]["created"]
    counted = simulator.statistics()
    assert (counted["created"], counted["references"]["doubled_count"]) == (300, 0)


def test_a_deadline_pauses_and_nothing_is_lost(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="30")
    run = onboard.start("run", "--json", "--until", "23:59", write_csv(tmp_path / "a.csv", 200))
    wait_until(lambda: simulator.statistics()["created"] >= 5, what="the first rows")
    ledger = Ledger.open(onboard.ledger_url)
    ledger.lifecycle.set_deadline(1, time.time() - 1)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 3, err
    assert "time is over" in json.loads(out.splitlines()[-1])["state_reason"]
    ledger.close()
    assert onboard.json("run", tmp_path / "a.csv")["books"]["created"] == 200


def test_the_breaker_pauses_a_batch_of_refusals(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(refuse={"U003005": 0.95})
    onboard = Command(tmp_path, simulator, ONBOARD_BREAKER_ANSWERS="20", ELEPAY_REQUESTS_PER_SECOND="100")
    done = onboard.json("run", write_csv(tmp_path / "a.csv", 400), "--workers", "1")
    assert done["exit"] == 3
    assert done["state"] == "paused"
    assert "refusals" in done["state_reason"]
    assert done["books"]["open"] > 200
    assert done["books"]["balance"]


def test_retry_sends_refused_rows_as_a_child_batch(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(refuse={"U003005": 0.3})
    onboard = Command(tmp_path, simulator, ONBOARD_BREAKER_ANSWERS="0")
    first = onboard.json("run", write_csv(tmp_path / "a.csv", 40))
    refused = first["books"]["refused"]
    assert 0 < refused < 40
    simulator.control(refuse={})
    second = onboard.json("retry", first["batch"])
    assert second["exit"] == 0, second["stderr"]
    assert second["books"]["created"] == refused
    assert simulator.statistics()["references"] == {"total": 40, "doubled": [], "doubled_count": 0}
    ledger = Ledger.open(onboard.ledger_url)
    assert ledger.batches.get(second["batch"]).parent_id == first["batch"]
    ledger.close()
    assert onboard("retry", second["batch"]).returncode == 2


def test_columns_that_are_not_sent_are_told_before_and_after(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    file = tmp_path / "c.csv"
    file.write_text(
        "customer_id,payment_method,resource,memo\n" + "".join(f"cus_{n},creditcard,ios,x\n" for n in range(3)),
        encoding="utf-8",
    )
    checked = onboard.json("check", file)
    assert [(one["code"], one["column"], one["count"]) for one in checked["warnings"]] == [
        ("unknown_column", "memo", 3)
    ]
    done = onboard.json("run", file)
    summary = json.loads(Path(done["reports"]["summary"]).read_text(encoding="utf-8"))
    assert [(one["code"], one["column"], one["rows"]) for one in summary["warnings"]] == [("unknown_column", "memo", 3)]


def test_what_is_wrong_with_a_whole_file_is_told_in_the_language_asked_for(
    tmp_path: Path, simulator: Simulator
) -> None:
    onboard = Command(tmp_path, simulator)
    (tmp_path / "h.csv").write_text("customer_id,payment_method\ncus_1,paypay\n", encoding="utf-8")
    said = onboard("run", tmp_path / "h.csv", "--lang", "ja")
    assert said.returncode == 2
    assert "1 行目の見出しに resource がありません" in said.stderr
    assert "ファイルを開けません" in onboard("run", tmp_path / "no.csv", "--lang", "ja").stderr


def test_ctrl_c_stops_in_order_and_the_same_command_goes_on(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ELEPAY_REQUESTS_PER_SECOND="50")
    file = write_csv(tmp_path / "a.csv", 200)
    run = onboard.start("run", file)
    wait_until(lambda: simulator.statistics()["created"] >= 20, what="the first rows")
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 3, err
    assert "Ctrl-C again ends at once" in out
    assert "the same command, or onboard resume 1, goes on" in out
    ledger = Ledger.open(onboard.ledger_url)
    count = ledger.queries.count_states(1)
    assert not {RowState.SENDING, RowState.CLAIMED} & set(count), count
    assert ledger.batches.get(1).state is BatchState.PAUSED
    ledger.close()
    assert onboard.json("run", file)["books"]["created"] == 200
    assert simulator.statistics()["references"] == {"total": 200, "doubled": [], "doubled_count": 0}


def test_a_worker_that_is_stuck_ends_and_says_so(tmp_path: Path, simulator: Simulator) -> None:
    simulator.control(hang_before_commit=1.0, hang_seconds=30, max_faults_per_key=1000)
    onboard = Command(tmp_path, simulator, ONBOARD_WATCHDOG_SECONDS="1.5")
    run = onboard.start("run", write_csv(tmp_path / "a.csv", 3), "--workers", "1")
    log = onboard.home / "logs" / "worker-1.log"
    wait_until(lambda: log.exists() and "no row has moved" in log.read_text(), seconds=40, what="the watchdog's word")
    wait_until(lambda: log.read_text().count("worker ready") >= 2, seconds=40, what="the worker's second start")
    run.send_signal(signal.SIGINT)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert "starting it again" in err
    assert run.returncode == 3, out


def test_a_ledger_written_by_people_is_theirs_too(tmp_path: Path, simulator: Simulator) -> None:
    """A row held by a worker that is not there any more does not keep a run from its end."""
    onboard = Command(tmp_path, simulator)
    file = write_csv(tmp_path / "a.csv", 6)
    onboard("run", "--canary", 2, file)
    ledger = Ledger.open(onboard.ledger_url, Account(False, simulator.url))
    ledger.lifecycle.approve(1, "test")
    gone = new_worker(ledger)
    (one,) = ledger.dispatch.take_due()
    assert ledger.leases.claim(one, gone.number)
    ledger.workers.end(gone.number)
    ledger.close()
    assert onboard.json("run", file)["books"]["created"] == 6


def test_a_worker_whose_key_does_not_fit_ends_and_says_so(tmp_path: Path, simulator: Simulator, redis_url: str) -> None:
    """Else every slice would fail in it, and a run would wait for ever."""
    onboard = Command(tmp_path, simulator, REDIS_URL=redis_url, ELEPAY_SECRET_KEY="sk_live_0123456789")
    said = onboard("worker", timeout=30)
    assert said.returncode == 2
    assert "ELEPAY_MODE" in said.stderr
