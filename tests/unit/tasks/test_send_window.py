"""The nightly window: every minute of odd days, over midnight, and where clocks are put forward and back."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tasks.errors import SettingsError
from tasks.send_window import Window, time_of_day
from tasks.settings import load_settings

TOKYO, BERLIN = "Asia/Tokyo", "Europe/Berlin"


def at(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_without_times_it_is_always_open() -> None:
    window = Window.of("", "", TOKYO)
    assert window.always
    assert window.is_open(0.0)
    assert window.span(1e9) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("opens", "closes"), [("01:00", "06:00"), ("22:30", "05:15"), ("00:00", "12:00"), ("12:00", "00:00")]
)
def test_every_minute_of_a_day_is_in_or_out_by_the_clock_on_the_wall(opens: str, closes: str) -> None:
    window = Window.of(opens, closes, TOKYO)
    start = datetime(2026, 11, 25, tzinfo=ZoneInfo(TOKYO))
    for minute in range(24 * 60):
        now = start + timedelta(minutes=minute)
        wall = now.strftime("%H:%M")
        inside = opens <= wall < closes if opens < closes else wall >= opens or wall < closes
        assert window.is_open(now.timestamp()) is inside, wall
        span = window.span(now.timestamp())
        assert now.timestamp() < span.closes_at
        assert (span.opens_at <= now.timestamp()) is inside
        assert datetime.fromtimestamp(span.opens_at, ZoneInfo(TOKYO)).strftime("%H:%M") == opens
        assert datetime.fromtimestamp(span.closes_at, ZoneInfo(TOKYO)).strftime("%H:%M") == closes


def test_the_beginning_is_in_and_the_end_is_out_to_the_second() -> None:
    window = Window.of("01:00:05", "01:00:10", TOKYO)
    base = at("2026-11-25T01:00:00", TOKYO)
    assert [window.is_open(base + second) for second in (4.999, 5.0, 9.999, 10.0)] == [False, True, True, False]


def test_where_clocks_are_put_forward_a_time_that_is_missing_counts_as_so_much_later() -> None:
    window = Window.of("02:30", "06:00", BERLIN)  # on 2026-03-29, 02:00 is followed by 03:00
    span = window.span(at("2026-03-29T00:00", BERLIN))
    assert datetime.fromtimestamp(span.opens_at, UTC).strftime("%H:%M") == "01:30"  # 03:30 summer time
    assert span.closes_at == at("2026-03-29T06:00", BERLIN)


def test_a_night_in_which_nothing_is_left_of_the_window_is_passed_over() -> None:
    window = Window.of("02:30", "03:15", BERLIN)
    span = window.span(at("2026-03-29T00:00", BERLIN))
    assert span.opens_at == at("2026-03-30T02:30", BERLIN)


def test_where_clocks_are_put_back_the_first_of_two_times_counts() -> None:
    window = Window.of("01:00", "02:30", BERLIN)  # on 2026-10-25, 02:30 comes twice
    night = at("2026-10-25T00:00", BERLIN)
    assert window.span(night).closes_at == at("2026-10-25T02:30", BERLIN, fold=0)
    assert not window.is_open(at("2026-10-25T02:15", BERLIN, fold=1))
    later = Window.of("01:00", "06:00", BERLIN).span(night)
    assert later.closes_at - later.opens_at == 6 * 3600, "the night is an hour longer"


@pytest.mark.parametrize("zone", [TOKYO, BERLIN, "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(("opens", "closes"), [("01:00", "06:00"), ("23:00", "01:30"), ("01:30", "03:30")])
def test_through_a_year_spans_follow_each_other_without_touching(zone: str, opens: str, closes: str) -> None:
    window, now, spans = Window.of(opens, closes, zone), at("2026-01-01T12:00", zone), []
    for _ in range(366):
        span = window.span(now)
        assert now < span.opens_at < span.closes_at
        assert window.span(span.opens_at) == window.span(span.closes_at - 0.001) == span
        spans.append(span)
        now = span.closes_at
    assert all(23 * 3600 <= later[0] - earlier[0] <= 48 * 3600 for earlier, later in itertools.pairwise(spans))


@pytest.mark.parametrize("text", ["", "1:00", "24:00", "01:60", "01:00:60", "one", "01.00", "０１:００"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time of day"):
        time_of_day(text)


HOME = {"HOME": "/home/one"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"ONBOARD_NOT_BEFORE": "01:00"}, "both a beginning and an end"),
        ({"ONBOARD_UNTIL": "01:00"}, "both a beginning and an end"),
        ({"ONBOARD_NOT_BEFORE": "01:00", "ONBOARD_UNTIL": "01:00:00"}, "differ"),
        ({"ONBOARD_NOT_BEFORE": "1 am", "ONBOARD_UNTIL": "06:00"}, "ONBOARD_NOT_BEFORE.*time of day"),
    ],
)
def test_settings_that_are_no_window_stop_the_start(values: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_settings({**HOME, **values})


def test_settings_make_the_window() -> None:
    settings = load_settings({**HOME, "ONBOARD_NOT_BEFORE": "22:00", "ONBOARD_UNTIL": "05:00"})
    assert settings.window.is_open(at("2026-11-25T23:00", TOKYO))
    assert load_settings(HOME).window.always
