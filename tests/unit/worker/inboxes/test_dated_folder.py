"""Closed claims lie in a folder a day, and none overwrites another."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from worker.inboxes.dated_folder import DatedFolder

ZONE = "Asia/Tokyo"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def claim_folder(root: Path, text: str) -> Path:
    folder = root / "claim"
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def test_the_same_name_twice_on_one_day_is_kept_twice(tmp_path: Path, archive: Path) -> None:
    texts = ("first", "second", "third")
    ends = [DatedFolder(archive, ZONE).add(claim_folder(tmp_path, text), "12") for text in texts]
    assert [end.name for end in ends] == ["12", "12-2", "12-3"]
    assert [(end / "file").read_text() for end in ends] == list(texts)
    assert not (tmp_path / "claim").exists()


def test_a_file_or_an_empty_folder_of_that_name_stays(tmp_path: Path, archive: Path) -> None:
    dated = DatedFolder(archive, ZONE)
    day = dated.add(claim_folder(tmp_path, "first"), "1").parent
    (day / "2").write_text("of a person")
    (day / "2-2").mkdir()
    assert dated.add(claim_folder(tmp_path, "second"), "2").name == "2-3"
    assert ((day / "2").read_text(), list((day / "2-2").iterdir())) == ("of a person", [])


def test_only_today_and_yesterday_are_recent(tmp_path: Path, archive: Path) -> None:
    dated = DatedFolder(archive, ZONE)
    assert dated.recent() == []
    today = dated.add(claim_folder(tmp_path, "today"), "3")
    now = datetime.now(ZoneInfo(ZONE))
    days = [archive / f"{now - timedelta(days=ago):%Y-%m-%d}" / "1" for ago in (1, 3)]
    for day in days:
        day.mkdir(parents=True)
    assert today in dated.recent()
    assert days[1] not in dated.recent()


def test_a_failure_that_is_not_about_the_name_is_raised(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DatedFolder(archive, ZONE).add(tmp_path / "gone", "12")
