"""Times as commands print them: in the people's zone, which they name; a time of today is short."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from worker.screen import open_screen


@pytest.mark.parametrize(("zone", "name"), [("Asia/Tokyo", "JST"), ("UTC", "UTC")])
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_time_of_today_is_short_and_names_its_zone(lang: str, zone: str, name: str) -> None:
    now = time.time()
    shown = open_screen(lang, zone).clock_time(now)
    assert shown == f"{datetime.fromtimestamp(now, ZoneInfo(zone)):%H:%M} {name}"


@pytest.mark.parametrize(("lang", "day"), [("en", "2021-11-27"), ("ja", "2021/11/27")])
def test_a_time_of_another_day_has_its_date_and_names_its_zone(lang: str, day: str) -> None:
    at = datetime(2021, 11, 27, 1, 0, tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()
    assert open_screen(lang, "Asia/Tokyo").clock_time(at) == f"{day} 01:00 JST"
    assert open_screen(lang, "America/New_York").clock_time(at).endswith("11:00 EST")
