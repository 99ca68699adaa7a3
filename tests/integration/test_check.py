"""`onboard check` on real files: every error, what would be skipped, what could not be looked at, and its reports."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from factories import KEY, Command, Simulator, write_csv
from reported import cells

from tasks.operations.foreseen_rows import ROWS_KEPT

HEADER = "customer_id,payment_method,resource,reference,description\n"
#: Lines 2 to 4 can be sent; then each fault that the tests look at.
SOUND = "".join(f"cus_{n},creditcard,ios,c-{n},Plan\n" for n in range(3))
FAULTS = (
    "cus_5,creditcart,ios,,\n" * 3  # lines 5 to 7
    + ",creditcart,desktop,,\n"  # line 8: three causes
    + "4111 1111 1111 1111,creditcard,ios,,\n"  # line 9
    + "cus_0,creditcard,ios,c-0,Plan\n"  # line 10: twice in the file
    + "cus_1,creditcard,ios,c-1,Other\n"  # line 11: the same with other content
)
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with a few faults."""
    path = tmp_path / "customers.csv"
    path.write_text(HEADER + SOUND + FAULTS, encoding="utf-8")
    return path


def cause_of(said: dict[str, Any], code: str) -> dict[str, Any]:
    """The one cause with this code."""
    (cause,) = [each for each in said["causes"] if each["code"] == code]
    return cause


def one_line(text: str) -> str:
    """What was printed, without its line breaks."""
    return re.sub(r"\s+", " ", text)


def test_every_error_is_said_once_by_cause_with_where_and_what_to_do(tmp_path: Path, file: Path) -> None:
    said = one_line(Command(tmp_path, COLUMNS=80, ELEPAY_REQUESTS_PER_SECOND=20)("check", "--offline", file).stdout)
    assert "3 of 10 rows can be sent; 1 known with other content; 1 twice in the file; 5 need attention" in said
    assert "4 rows: Unknown payment method: payment_method Line 5: payment_method is not" in said
    assert "Lines 5–8. 3 of them have no other fault." in said
    assert said.count("Write elepay's own word in small letters") == 1
    assert said.index("4 rows:") < said.index("1 row: ")
    assert "**** **** **** 1111" in said
    assert "4111" not in said
    assert "1 row: would be skipped: Twice in the file" in said
    assert "See record 1." in said
    assert "elepay was not asked (--offline). Not checked: whether the payment methods are enabled" in said
    assert "3 rows at 20/s" in said


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_japanese_check_holds_no_english_sentence_and_keeps_to_the_width(
    tmp_path: Path, file: Path, columns: int
) -> None:
    command = Command(tmp_path, COLUMNS=columns, ONBOARD_LANG="ja")
    done = command("check", "--offline", "--report", tmp_path / "checked", file)
    assert done.returncode == 1
    sentences = [line for line in done.stdout.splitlines() if str(tmp_path) not in line]
    assert not [line for line in sentences if ENGLISH.search(line)]
    assert "10 件中 3 件を送信できます" in done.stdout
    assert "該当行：5～8。うち 3 件は、この対応だけで解消します。" in done.stdout


def test_more_causes_than_fit_are_counted_and_it_is_said_where_all_are(tmp_path: Path) -> None:
    columns = [f"metadata.m{n}" for n in range(19)] + [f"extra.e{n}" for n in range(5)]
    rows = [[f"cus_{at}", "creditcard", "ios", *("x" * 300 if at == n else "" for n in range(24))] for at in range(24)]
    lines = [["customer_id", "payment_method", "resource", *columns], *rows]
    file = tmp_path / "wide.csv"
    file.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    said = one_line(Command(tmp_path)("check", "--offline", file).stdout)
    assert said.count("1 row: Value too long") == 20
    assert "4 rarer causes are not shown: --report FOLDER or --json has all." in said
    assert len(Command(tmp_path).json("check", "--offline", file)["causes"]) == 24


def test_json_has_every_cause_whole_and_every_invalid_row(tmp_path: Path, file: Path) -> None:
    said = Command(tmp_path).json("check", "--offline", file)
    assert (said["records"], said["to_send"], said["invalid"], said["repeated"]) == (10, 3, 5, 2)
    assert said["skipped"] == {"duplicate_in_file": 1, "changed": 1}
    cause = cause_of(said, "unknown_payment_method")
    assert (cause["rows"], cause["alone"], cause["lines"], cause["values"]) == (4, 3, [[5, 8]], ["creditcart"])
    assert [row["line"] for row in said["rows"]] == [5, 6, 7, 8, 9]
    assert said["more"] == 0
    assert {reason["column"] for reason in said["rows"][3]["reasons"]} == {"customer_id", "payment_method", "resource"}
    assert all(reason["hint"] in said["hints"] for row in said["rows"] for reason in row["reasons"])
    assert said["not_asked"] == "offline"
    assert said["reports"] == {}


def test_causes_of_a_check_and_of_the_run_s_report_are_the_same(
    tmp_path: Path, simulator: Simulator, file: Path
) -> None:
    command = Command(tmp_path, simulator)
    checked = command.json("check", "--report", tmp_path / "checked", file)
    run = command.json("run", file)
    summaries = [json.loads(Path(said["reports"]["summary"]).read_text(encoding="utf-8")) for said in (checked, run)]
    invalid = [[one for one in summary["to_do"] if one["state"] == "invalid"] for summary in summaries]
    assert invalid[0] == invalid[1]
    assert summaries[0]["books"]["invalid"] == summaries[1]["books"]["invalid"] == checked["invalid"]
    assert summaries[0]["books"]["skipped"] == summaries[1]["books"]["skipped"] == 2
    words = "; 1 known with other content; 1 twice in the file; 5 need attention"
    assert checked["headline"].endswith(words)
    assert run["verdict"].endswith(words)
    assert [each["code"] for each in checked["warnings"]] == [each["code"] for each in run["warnings"]]


def test_a_report_of_a_check_is_the_run_s_and_its_failures_can_be_run(
    tmp_path: Path, simulator: Simulator, file: Path
) -> None:
    command = Command(tmp_path, simulator)
    said = command.json("check", "--report", tmp_path / "checked", "--excel-safe", file)
    assert set(said["reports"]) == {
        *("results", "failures", "results_excel_safe", "failures_excel_safe", "summary", "html", "xlsx", "manifest")
    }
    summary = json.loads(Path(said["reports"]["summary"]).read_text(encoding="utf-8"))
    assert summary["check"] is True
    assert summary["batch"]["id"] is None
    assert (summary["books"]["open"], summary["books"]["need_a_person"]) == (3, 5)
    states = [row["onboarding_state"] for row in cells(Path(said["reports"]["results"]))]
    assert states == ["open"] * 3 + ["invalid"] * 5 + ["skipped"] * 2
    failures = Path(said["reports"]["failures"])
    assert {row["onboarding_batch"] for row in cells(failures)} == {""}
    assert simulator.statistics()["requests"].get("createSource", 0) == 0
    assert not (command.home / "ledger.db").exists()
    corrected = failures.read_text(encoding="utf-8").replace("creditcart", "creditcard").replace("4111 1111", "cus_9")
    failures.write_text(corrected.replace(" 1111 1111", ""), encoding="utf-8")
    done = command.json("run", failures)
    assert done["books"]["created"] == 2
    assert done["books"]["skipped"] == 2, "line 5 stands there three times"
    assert command.json("run", file)["books"]["created"] == 3


def test_a_page_says_that_it_is_a_check(tmp_path: Path, file: Path) -> None:
    command = Command(tmp_path)
    english = Path(command.json("check", "--offline", "--report", tmp_path / "en", file)["reports"]["html"])
    japanese = Path(
        command.json("check", "--offline", "--report", tmp_path / "ja", "--lang", "ja", file)["reports"]["html"]
    )
    page = english.read_text(encoding="utf-8")
    assert "3 of 10 rows can be sent" in page
    assert "nothing was sent, and nothing was stored" in page
    assert "elepay was not asked (--offline)" in page
    assert "Batch 0" not in page
    assert "10 件中 3 件を送信できます" in japanese.read_text(encoding="utf-8")


def test_a_folder_with_other_reports_is_left_alone(tmp_path: Path, simulator: Simulator, file: Path) -> None:
    command = Command(tmp_path, simulator)
    run = command.json("run", "--reports", tmp_path / "run", write_csv(tmp_path / "b.csv", 2))
    kept = Path(run["reports"]["results"]).read_bytes()
    refused = command.json("check", "--report", tmp_path / "run", file)
    assert refused["exit"] == 2
    assert "holds results.csv" in refused["error"]["message"]
    assert Path(run["reports"]["results"]).read_bytes() == kept
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "results.csv").write_text("mine\n")
    assert command.json("check", "--report", tmp_path / "mine", file)["exit"] == 2
    assert command.json("check", "--report", tmp_path / "checked", file)["exit"] == 1
    assert command.json("check", "--report", tmp_path / "checked", file)["exit"] == 1, "its own are replaced"
    other = command.json("check", "--report", tmp_path / "checked", tmp_path / "b.csv")
    assert other["exit"] == 2


def test_rows_that_the_ledger_knows_would_be_skipped_as_the_run_skips_them(
    tmp_path: Path, simulator: Simulator
) -> None:
    command = Command(tmp_path, simulator)
    first = command.json("run", write_csv(tmp_path / "a.csv", 5))
    second = write_csv(tmp_path / "b.csv", 8)
    checked = command.json("check", second)
    assert (checked["to_send"], checked["skipped"], checked["repeated"]) == (3, {"onboarded_before": 5}, 0)
    assert checked["left_out"][0]["lines"] == [[2, 6]]
    assert f"See batch {first['batch']} record 1." in one_line(command("check", second).stdout)
    same = command.json("check", tmp_path / "a.csv")
    assert same["same_as"] == first["batch"]
    assert any(f"as batch {first['batch']}" in said for said in same["remarks"])
    run = command.json("run", second)
    assert run["skipped"] == checked["skipped"]
    assert checked["headline"].endswith("5 onboarded before")
    assert "5 onboarded before" in run["verdict"]


def test_what_could_not_be_asked_is_said_and_the_exit_code_is_the_file_s(tmp_path: Path, simulator: Simulator) -> None:
    file = write_csv(tmp_path / "a.csv", 3)
    assert Command(tmp_path, simulator).json("check", file)["not_asked"] == ""
    assert Command(tmp_path, simulator).json("check", "--offline", file)["not_asked"] == "offline"
    assert Command(tmp_path, ELEPAY_SECRET_KEY="").json("check", file)["not_asked"] == "no_key"
    away = Command(tmp_path, ELEPAY_BASE_URL="http://127.0.0.1:9", ELEPAY_SECRET_KEY=KEY)
    unreachable = away.json("check", file)
    assert (unreachable["exit"], unreachable["not_asked"]) == (0, "unreachable")
    simulator.control(accepted_keys=["sk_test_another"])
    done = Command(tmp_path, simulator)("check", file)
    assert done.returncode == 0
    assert "elepay does not take this key" in one_line(done.stdout)
    assert "Not checked: whether the payment methods are enabled for this key." in one_line(done.stdout)
    assert KEY not in done.stdout + done.stderr


def test_a_ledger_that_cannot_be_read_does_not_stop_a_check(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "a.csv", 3)
    said = Command(tmp_path, LEDGER_URL="postgresql+psycopg://nobody@127.0.0.1:9/none").json("check", "--offline", file)
    assert (said["exit"], said["to_send"], said["not_compared"]) == (0, 3, "unreadable")


@pytest.mark.parametrize(
    ("content", "lang", "said"),
    [
        (
            "customer id,payment_method,payment method,metadata.routes,extra.,memo\n1,2,3,4,5,6\n",
            "en",
            [
                "the same column twice: 'payment_method'",
                "'metadata.routes' has a key",
                "'extra.' has no",
                "lacks resource.",
            ],
        ),
        ("foo,bar,bar\n", "en", ["'bar' (column 2)", "lacks customer_id, payment_method, resource.", "no record."]),
        (
            "foo,bar,bar\n",
            "ja",
            ["同じ列が 2 か所", "resource がありません", "レコードがありません。"],
        ),
        ('foo,bar\n"open,2\n', "en", ["lacks customer_id, payment_method, resource.", "quote"]),
    ],
)
def test_all_that_makes_a_file_unusable_is_said_at_once(
    tmp_path: Path, content: str, lang: str, said: list[str]
) -> None:
    file = tmp_path / "a.csv"
    file.write_text(content, encoding="utf-8")
    done = Command(tmp_path)("check", "--offline", "--lang", lang, file)
    assert done.returncode == 2
    assert [each for each in said if each not in done.stderr] == []
    hints = done.stderr.splitlines()[1]
    assert hints.count(hints.split(". ")[0]) == 1
    error = Command(tmp_path).json("check", "--offline", "--lang", lang, file)["error"]
    assert [each for each in said if each not in error["message"]] == []


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, ""),
        ({"ONBOARD_MAX_INVALID_SHARE": "0.5"}, ""),
        ({"ONBOARD_MAX_INVALID_SHARE": "0.4"}, "too_many_invalid"),
    ],
)
def test_a_check_says_that_a_run_would_refuse_the_file_as_a_whole(
    tmp_path: Path, simulator: Simulator, file: Path, settings: dict[str, str], code: str
) -> None:
    command = Command(tmp_path, simulator, **settings)
    checked = command.json("check", file)
    assert (checked["exit"], checked["refused"]) == (1, code)
    assert any("refuse this file as a whole: 5 of 10 records are" in said for said in checked["remarks"]) == bool(code)
    run = command.json("run", file)
    assert run.get("error", {}).get("code", "") == code


def test_without_a_limit_no_time_is_foretold(tmp_path: Path) -> None:
    command = Command(tmp_path, ELEPAY_REQUESTS_PER_SECOND="0")
    said = command.json("check", "--offline", write_csv(tmp_path / "a.csv", 1))
    assert said["forecast"]["seconds"] is None
    assert said["forecast"]["text"].startswith("1 row to send, no limit set")


@pytest.mark.resilience
def test_two_hundred_thousand_invalid_rows_are_counted_and_all_in_the_report(tmp_path: Path) -> None:
    rows = 200_000
    file = tmp_path / "large.csv"
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["customer_id", "payment_method", "resource"])
        writer.writerows([f"cus {n}", "creditcart", "ios"] for n in range(rows))
    said = Command(tmp_path).json("check", "--offline", "--report", tmp_path / "checked", file, timeout=280)
    assert said["invalid"] == rows
    assert (len(said["rows"]), said["more"]) == (ROWS_KEPT, rows - ROWS_KEPT)
    assert {cause["rows"] for cause in said["causes"]} == {rows}
    assert all(len(cause["values"]) <= 3 and cause["lines"] == [[2, rows + 1]] for cause in said["causes"])
    with Path(said["reports"]["failures"]).open(encoding="utf-8") as failures:
        assert sum(1 for _ in failures) == rows + 1
