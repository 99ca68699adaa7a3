"""Nights that follow each other, by real commands against the simulator: open work is counted once, and ends."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from factories import Command, Simulator

HEADER = "customer_id,payment_method,resource\n"


def write(folder: Path, name: str, *lines: str, header: str = HEADER) -> str:
    (folder / name).write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def open_in(listed: dict[str, Any]) -> dict[tuple[str, str], dict[str, int]]:
    return {(group["state"], group["code"]): group["batches"] for group in listed["groups"]}


def said_of(onboard: Command, batch: int) -> str:
    """The headline of a batch, the same in status, reports and failures.csv."""
    status = onboard.json("status", batch)
    reported = onboard.json("report", batch)
    assert status["verdict"].partition(";")[0] == reported["verdict"].partition(";")[0]
    summary = json.loads(Path(reported["reports"]["summary"]).read_bytes())
    failures = Path(reported["reports"]["failures"]).read_text(encoding="utf-8").splitlines()
    assert len(failures) - 1 == status["work"]["open"] == sum(group["rows"] for group in summary["to_do"])
    verdict: str = status["verdict"]
    return verdict


def test_three_nights_end_with_nothing_open_and_every_source_once(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    wrong = ("cus_1,creditcart,ios", "cus_2,creditcart,ios", "missing_3,creditcard,ios", "cus_4,,ios")
    first = onboard.json("run", write(tmp_path, "monday.csv", "cus_0,creditcard,ios", *wrong))
    listed = onboard.json("open")
    assert (listed["exit"], listed["open"]) == (1, 4)
    assert open_in(listed) == {
        ("invalid", "unknown_payment_method"): {"1": 2},
        ("invalid", "missing_value"): {"1": 1},
        ("refused", "M002003"): {"1": 1},
    }
    # the report is corrected: two rows rightly, one wrongly, and one is taken out
    failures = Path(first["reports"]["failures"]).read_text(encoding="utf-8").splitlines(keepends=True)
    corrected = [failures[0], failures[1].replace("creditcart", "creditcard"), failures[2], failures[3]]
    (tmp_path / "corrected.csv").write_text("".join(corrected).replace("missing_3", "cus_3"), encoding="utf-8")
    onboard.json("run", "corrected.csv")
    listed = onboard.json("open")
    assert open_in(listed) == {
        ("invalid", "unknown_payment_method"): {"2": 1},
        ("invalid", "missing_value"): {"1": 1},
    }
    assert "4 needed attention: 2 resolved in batch 2, 1 carried over to batch 2, 1 open" in said_of(onboard, 1)
    assert "1 needs attention" in said_of(onboard, 2)
    # the source system corrects one row, and dumps everything again
    onboard.json("run", write(tmp_path, "tuesday.csv", "cus_0,creditcard,ios", "cus_2,creditcard,ios", *wrong[3:]))
    assert open_in(onboard.json("open")) == {("invalid", "missing_value"): {"3": 1}}
    # what is left is written to a file, corrected there and run
    written = onboard.json("open", "--csv", "open.csv")
    (path,) = written["files"]
    assert written["files"][path] == 1
    text = (tmp_path / path).read_text(encoding="utf-8")
    (tmp_path / path).write_text(text.replace("cus_4,,ios", "cus_4,creditcard,ios"), encoding="utf-8")
    again = onboard.json("open", "--csv", "open.csv")
    assert again["exit"] == 2
    assert "open.csv is there already" in again["stderr"]
    onboard.json("run", "open.csv")
    assert onboard.json("open")["open"] == 0
    for batch in range(1, 5):
        assert onboard.json("status", batch)["exit"] == 0
        assert "open" not in said_of(onboard, batch)
    assert [each["work"]["open"] for each in onboard.json("status")["batches"]] == [0] * 4
    counted = simulator.statistics()["references"]
    assert (counted["total"], counted["doubled_count"]) == (5, 0)


def test_open_rows_are_written_for_their_owner_only_and_to_all_files_or_to_none(
    tmp_path: Path, simulator: Simulator
) -> None:
    onboard = Command(tmp_path, simulator)
    onboard.json("run", write(tmp_path, "a.csv", "cus_1,creditcart,ios"))
    other = "payment_method,customer_id,resource\n"
    onboard.json("run", write(tmp_path, "b.csv", "creditcart,cus_2,ios", header=other))
    (tmp_path / "open-2.csv").write_text("mine")
    refused = onboard.json("open", "--csv", "open.csv")
    assert (refused["exit"], "open-2.csv is there already" in refused["stderr"]) == (2, True)
    assert sorted(path.name for path in tmp_path.glob("*open*")) == ["open-2.csv"]
    (tmp_path / "open-2.csv").unlink()
    written = onboard.json("open", "--csv", "open.csv")["files"]
    assert list(written.values()) == [1, 1]
    for name, header in (("open.csv", HEADER), ("open-2.csv", other)):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(header.strip())


def test_what_is_dismissed_is_open_no_more_until_that_is_taken_back(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    onboard.json("run", write(tmp_path, "a.csv", "cus_1,creditcart,ios", "cus_2,creditcart,ios"))
    done = onboard.json("dismiss", "1", "2", "--reason", "left us")
    assert (done["exit"], done["work"]["open"], done["work"]["dismissed"]) == (0, 1, 1)
    assert onboard.json("open")["open"] == 1
    again = onboard.json("dismiss", "1", "2", "--reason", "left us")
    assert again["exit"] == 2
    assert "does not need a person" in again["stderr"]
    assert onboard.json("dismiss", "1", "2")["exit"] == 2
    assert onboard.json("dismiss", "1", "2", "--undo")["work"]["open"] == 2


def test_a_report_that_is_written_again_leaves_what_somebody_has_corrected(
    tmp_path: Path, simulator: Simulator
) -> None:
    onboard = Command(tmp_path, simulator)
    done = onboard.json("run", write(tmp_path, "a.csv", "cus_1,creditcart,ios"))
    failures = Path(done["reports"]["failures"])
    corrected = failures.read_text(encoding="utf-8").replace("creditcart", "creditcard")
    failures.write_text(corrected, encoding="utf-8")
    again = onboard.json("report", "1")
    beside = Path(again["reports"]["failures_edited"])
    assert (beside.name, beside.read_text(encoding="utf-8")) == ("failures-edited.csv", corrected)
    assert "creditcart" in failures.read_text(encoding="utf-8")
    assert "failures-edited.csv" in again["stderr"]
    assert onboard.json("run", beside)["exit"] == 0
    assert "failures_edited" not in onboard.json("report", "1")["reports"]


def test_a_customer_is_found_over_all_batches(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    onboard.json("run", write(tmp_path, "a.csv", "cus_1,creditcard,ios", "cus_2,creditcard,ios"))
    onboard.json("run", write(tmp_path, "b.csv", "cus_1,paypay,web", "cus_1,creditcard,ios"))
    found = onboard.json("find", "cus_1")["found"]
    assert [(row["batch_id"], row["line"], row["state"]) for row in found] == [
        (2, 2, "created"),
        (2, 3, "skipped"),
        (1, 2, "created"),
    ]
    by_source = onboard.json("find", found[0]["source_id"])["found"]
    assert by_source == onboard.json("find", found[0]["reference"])["found"] == found[:1]
    nothing = onboard("find", "cus_9")
    assert nothing.returncode == 1
    assert "cus_9" in nothing.stdout


def decide(path: Path, decisions: dict[str, tuple[str, str]], encoding: str = "utf-8-sig") -> None:
    """Fill in a file of decisions, by line, as a person does in a spreadsheet."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            row["decision"], row["source_id"] = decisions.get(row["line"], ("", ""))
            writer.writerow(row)


def test_many_unclear_rows_are_decided_by_a_file_and_each_is_checked(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    simulator.control(commit_then_drop_connection=1.0, list_500=1.0, max_faults_per_key=1000)
    lines = [f"cus_{number},creditcard,ios" for number in range(1, 5)]
    batch = onboard.json("run", write(tmp_path, "u.csv", *lines))["batch"]
    simulator.control(commit_then_drop_connection=0.0, list_500=0.0)
    assert onboard.json("resolve", "--csv", "decide.csv")["unclear"] == 4
    assert onboard.json("resolve", "--csv", "decide.csv")["exit"] == 2, "it may have been filled in"
    source_of = {row["reference"]: row["id"] for row in simulator.sources()}
    with (tmp_path / "decide.csv").open(encoding="utf-8-sig", newline="") as file:
        sources = {row["line"]: source_of[row["reference"]] for row in csv.DictReader(file)}
    decide(tmp_path / "decide.csv", {"2": ("created", sources["2"]), "3": ("sometimes", "")})
    said = onboard.json("resolve", "--from", "decide.csv")
    assert (said["exit"], said["error"]["code"], said["error"]["line"]) == (2, "decision_unknown", 3)
    decisions = {"2": ("Created", sources["2"]), "3": ("give_up", ""), "4": ("absent", ""), "5": ("created", "src_x")}
    decide(tmp_path / "decide.csv", decisions, encoding="cp932")
    done = onboard.json("resolve", "--from", "decide.csv")
    assert (done["exit"], done["taken"], done["failed"], done["undecided"]) == (1, 2, 2, 0)
    assert [each["error"] is None for each in done["results"]] == [True, True, False, False]
    books = onboard.json("status", batch)["books"]
    assert (books["created"], books["unclear"]) == (1, 3)
    assert [row["line"] for row in onboard.json("resolve")["unclear"]] == [4, 5]
    assert onboard.json("open")["open"] == 2
    again = onboard.json("resolve", "--from", "decide.csv")
    assert (again["taken"], again["failed"]) == (0, 4), "nothing is decided twice"


def test_every_row_is_shown_with_its_customer_and_its_times(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator)
    rows = ("cus_1", "cus_1", "cus_3", "cus_4")
    onboard.json("run", write(tmp_path, "a.csv", *(f"{row},creditcard,ios" for row in rows)), "--canary", "2")
    for line, times in {2: ("accepted", "sent", "asked next"), 3: ("accepted",), 5: ("accepted",)}.items():
        shown = onboard("show", 1, line).stdout
        assert rows[line - 2] in shown
        for label in times:
            assert re.search(rf"^  {label} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d JST", shown, re.MULTILINE), shown
        assert re.match(r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d JST", shown)
    assert re.search(r"^  sent .*, answered after \d+ ms$", onboard("show", 1, 2).stdout, re.MULTILINE)
    assert onboard.json("show", 1, 2)["times"]["sent_at"] > onboard.json("show", 1, 2)["times"]["accepted_at"] > 0
    onboard.json("cancel", 1, "--yes")
    onboard.json("run", write(tmp_path, "b.csv", "cus_4,creditcard,ios"))
    assert "it was resolved in batch 2" in onboard("show", 1, 5).stdout


def test_masked_customers_are_on_no_screen_and_whole_in_what_is_corrected(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1", ONBOARD_MASK_CUSTOMERS="1", ONBOARD_PENDING_DAYS="0")
    simulator.control(
        commit_then_drop_connection={"share": 1.0, "after_creates": 1}, list_500=1.0, max_faults_per_key=1000
    )
    customers = [f"cus_8fK2mQx{number}a1b2" for number in range(4)]
    rows = [f"{customer},creditcard,ios" for customer in customers]
    onboard.json("run", write(tmp_path, "a.csv", rows[0]))
    onboard.json("run", write(tmp_path, "b.csv", *rows[1:3], f"{customers[3]},creditcart,ios", "cus x12345,paypay,ios"))
    reference = onboard.json("find", customers[0])["found"][0]["reference"]
    shown = [
        onboard(*words).stdout
        for words in (
            ("open",), ("resolve",), ("show", 2, 2), ("find", customers[1]), ("check", "b.csv", "--offline"),
            ("show", 2, 5), ("report", "follow-up"), ("show", 1, 2),
        )
    ]  # fmt: skip
    for said in shown:
        assert not any(secret in said for secret in (*customers, reference, "x12345")), said
    assert sum("cus_…a1b2" in said for said in shown) >= 6
    assert any(f"…{reference[-4:]}" in said for said in shown)
    failures = Path(onboard.json("report", 2)["reports"]["failures"]).read_text(encoding="utf-8")
    assert all(customer in failures for customer in customers[1:])
    assert onboard.json("show", 2, 2)["row"]["customer_id"] == customers[1]
    follow_up = Path(onboard.json("report", "follow-up")["report"]).read_text(encoding="utf-8-sig")
    assert customers[0] in follow_up
    assert reference in follow_up
