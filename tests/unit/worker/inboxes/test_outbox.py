"""Reports are published whole, once, and overwrite nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from worker.inboxes.claims import FACTS
from worker.inboxes.outbox import Outbox
from worker.inboxes.protocol import Claim


@pytest.fixture
def claim(tmp_path: Path) -> Claim:
    claim = Claim(tmp_path / "claim", {"name": "a.csv"})
    claim.reports.mkdir(parents=True)
    (claim.reports / "summary.json").write_text("report")
    return claim


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    folder = tmp_path / "outbox"
    folder.mkdir()
    return folder


def test_reports_are_published_once_and_overwrite_nothing(outbox: Path, claim: Claim) -> None:
    (outbox / "12-a").mkdir()
    (outbox / "12-a" / "note.txt").write_text("of a person")
    first = Outbox(outbox).publish(claim, "12-a")
    assert first.name == "12-a-2"
    (claim.reports / "summary.json").write_text("written again after a crash")
    recovered = Claim(claim.folder, json.loads((claim.folder / FACTS).read_bytes()))
    assert Outbox(outbox).publish(recovered, "12-a") == first
    assert (first / "summary.json").read_text() == "report"
    assert sorted(path.name for path in outbox.iterdir()) == ["12-a", "12-a-2"]


@pytest.mark.parametrize(
    ("of_outbox", "of_set", "of_report"),
    [(0o700, 0o700, 0o600), (0o750, 0o750, 0o640), (0o2770, 0o750, 0o640), (0o777, 0o750, 0o640)],
)
def test_a_group_that_may_read_the_outbox_may_read_its_reports(
    outbox: Path, claim: Claim, of_outbox: int, of_set: int, of_report: int
) -> None:
    outbox.chmod(of_outbox)
    published = Outbox(outbox).publish(claim, "12-a")
    assert published.stat().st_mode & 0o777 == of_set
    assert stat.S_IMODE((published / "summary.json").stat().st_mode) == of_report


def test_a_claim_has_several_sets_of_reports_and_each_keeps_its_place(outbox: Path, claim: Claim) -> None:
    box = Outbox(outbox)
    night, last = box.publish(claim, "12-a-night-2026-11-26"), box.publish(claim, "12-a")
    assert (night.name, last.name) == ("12-a-night-2026-11-26", "12-a")
    assert (box.path_for(claim, night.name), box.path_for(claim, last.name)) == (night, last)


def test_a_copy_that_was_interrupted_is_made_anew(outbox: Path, claim: Claim) -> None:
    (claim.folder / "outgoing").mkdir()
    (claim.folder / "outgoing" / "half").write_text("x")
    target = Outbox(outbox).publish(claim, "12-a")
    assert [path.name for path in target.iterdir()] == ["summary.json"]


def test_only_complete_reports_are_copied(outbox: Path, claim: Claim) -> None:
    (claim.reports / ".writing-x").mkdir()
    target = Outbox(outbox).publish(claim, "12-a")
    assert [path.name for path in target.iterdir()] == ["summary.json"]
