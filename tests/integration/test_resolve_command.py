"""Rows that wait for a person: `resolve`, and `retry` for unclear rows."""

from __future__ import annotations

from pathlib import Path

from factories import Command, Simulator, write_csv


def unclear_batch(onboard: Command, simulator: Simulator, fault: str = "commit_then_drop_connection") -> int:
    """A finished batch of two rows that wait for a person: elepay's lists do not come to an end."""
    simulator.control(**{fault: 1.0}, list_500=1.0, max_faults_per_key=1000)
    done = onboard.json("run", write_csv(onboard.folder / "u.csv", 2))
    assert done["exit"] == 1, done
    assert done["books"]["unclear"] == 2
    simulator.control(**{fault: 0.0}, list_500=0.0)
    batch: int = done["batch"]
    return batch


def test_people_settle_unclear_rows(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    batch = unclear_batch(onboard, simulator)
    listed = onboard.json("resolve")
    assert listed["exit"] == 1
    assert [row["line"] for row in listed["unclear"]] == [2, 3]
    assert onboard("resolve", batch, 2, "--created", "src_none").returncode == 2, "elepay has no such source"
    assert onboard("resolve", batch, 2).returncode == 2, "no decision"
    source = simulator_sources(simulator)[listed["unclear"][0]["reference"]]
    assert onboard("resolve", batch, 2, "--created", source).returncode == 0
    assert onboard("resolve", batch, 3, "--created", source).returncode == 2, "it belongs to line 2"
    assert onboard("resolve", batch, 3, "--give-up").returncode == 0
    assert onboard("resolve", batch, 3, "--give-up").returncode == 2, "it is settled"
    assert onboard.json("status", batch)["books"]["created"] == 1
    shown = onboard.json("show", batch, 2)
    assert shown["row"]["source_id"] == source
    assert any(entry["who"] and entry["what"].startswith("resolved") for entry in shown["history"])


def test_a_row_that_a_person_calls_absent_is_sent_again(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    batch = unclear_batch(onboard, simulator, fault="drop_before_commit")
    assert onboard("resolve", batch, 2, "--absent").returncode == 0
    assert onboard("resolve", batch, 3, "--absent").returncode == 0
    assert onboard.json("run", tmp_path / "u.csv")["books"]["created"] == 2
    assert simulator.statistics()["references"] == {"total": 2, "doubled": [], "doubled_count": 0}


def test_a_row_that_elepay_has_is_not_absent_whoever_says_so(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    batch = unclear_batch(onboard, simulator)
    said = onboard("resolve", batch, 2, "--absent")
    assert said.returncode == 2
    source = next(word for word in said.stderr.split() if word.startswith("src_"))
    simulator.control(list_500=1.0)
    assert onboard("resolve", batch, 3, "--absent").returncode == 2, "elepay does not say"
    simulator.control(list_500=0.0)
    assert onboard("resolve", batch, 2, "--created", source).returncode == 0
    assert (
        onboard.json("status", batch)["books"] | {"created": 1, "unclear": 1} == onboard.json("status", batch)["books"]
    )


def test_retry_looks_unclear_rows_up_again_where_they_are(tmp_path: Path, simulator: Simulator) -> None:
    onboard = Command(tmp_path, simulator, ONBOARD_LOOK_UPS="1")
    batch = unclear_batch(onboard, simulator)
    done = onboard.json("retry", batch)
    assert done["exit"] == 0, done
    assert (done["batch"], done["books"]["created"]) == (batch, 2)
    assert simulator.statistics()["references"] == {"total": 2, "doubled": [], "doubled_count": 0}


def simulator_sources(simulator: Simulator) -> dict[str, str]:
    """Reference -> source id."""
    import requests

    found = requests.get(f"{simulator.url}/_sim/sources", timeout=5).json()
    rows = found["sources"] if isinstance(found, dict) else found
    return {row["reference"]: row["id"] for row in rows}
