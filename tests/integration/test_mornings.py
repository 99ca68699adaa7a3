"""Nights that follow each other, by real commands against the simulator: open work is counted once, and ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from factories import Command, Simulator

HEADER = "customer_id,payment_method,resource\n"


def write(folder: Path, name: str, *lines: str, header: str = HEADER) -> str:
    (folder / name).write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return name


def open_in(listed: dict[str, Any]) -> dict[tuple[str, str], dict[str, int]]:
    return {(group["state"], group["code"]): group["batches"] for group in listed["groups"]}


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
    counted = simulator.statistics()["references"]
    assert (counted["total"], counted["doubled_count"]) == (5, 0)


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
