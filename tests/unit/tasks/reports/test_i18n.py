"""What the reports count: numbers and times as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.reports.html_report import parts
from tasks.reports.i18n import Texts
from tasks.reports.latency_chart import bars, percentiles
from tasks.reports.report_data import TimelinePoint
from tasks.reports.timeline_chart import timeline


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (9812, "9,812"), (19.84, "19.8"), (20.0, "20"), (19.96, "20"), (1234.5, "1,234"), (0.04, "0")],
)
def test_numbers_are_written_as_people_read_them(value: float, shown: str) -> None:
    assert Texts("en", "UTC").number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (9812.3, "9,812"),
        (54.6, "55"),
        (10.0, "10"),
        (2.5, "2.5"),
        (1.0, "1"),
        (0.333, "0.3"),
        (0.04, "0.04"),
        (0.0, "0"),
    ],
)
def test_a_rate_has_a_decimal_where_it_matters(value: float, shown: str) -> None:
    assert Texts("en", "UTC").rate(value) == shown


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_share_is_all_or_nothing_only_when_it_is(part: int, whole: int) -> None:
    part = min(part, whole)
    shown = Texts("en", "UTC").share(part, whole)
    assert (shown == "0 %") == (part == 0)
    assert (shown == "100 %") == (part == whole)


@pytest.mark.parametrize(
    ("seconds", "english", "japanese"),
    [
        (0.31, "0.3 s", "0.3 秒"),
        (59.6, "1 min", "1 分"),
        (3725, "1 h 2 min", "1 時間 2 分"),
        (86_400, "24 h", "24 時間"),
    ],
)
def test_durations_in_their_two_largest_units(seconds: float, english: str, japanese: str) -> None:
    assert Texts("en", "UTC").duration(seconds) == english
    assert Texts("ja", "UTC").duration(seconds) == japanese


def test_a_value_that_knows_its_language_is_said_in_it() -> None:
    class Sentence(str):
        def in_language(self, lang: str) -> str:
            return f"{lang}: {self}"

    value = Sentence("halted")
    assert Texts("ja", "UTC")("notice_claim", claim=value) == "ログでの名称：ja: halted"


@given(st.dictionaries(st.integers(0, 60_000), st.integers(1, 1000), max_size=30))
def test_no_answer_is_lost_between_the_bars(histogram: dict[int, int]) -> None:
    assert sum(bar.answers for bar in bars(histogram)) == sum(histogram.values())
    found = list(percentiles(histogram).values())
    assert found == sorted(found)
    assert not histogram or found[-1] == max(histogram)


@given(st.lists(st.tuples(st.integers(0, 200_000), st.integers(0, 50), st.integers(0, 5), st.booleans()), min_size=1))
def test_the_timeline_keeps_every_row_and_every_throttled_answer(seconds: list[tuple[int, int, int, bool]]) -> None:
    points = [TimelinePoint(1.8e9 + at, sent, throttled, paused) for at, sent, throttled, paused in seconds]
    run = timeline(points, 20.0)
    assert run
    assert len(run.steps) <= 100
    assert run.throttled == sum(point.throttled for point in points)
    assert any(step.paused for step in run.steps) == any(point.paused for point in points)
    lasted = [min(run.step_seconds, max(each.at for each in points) + 1 - step.at) for step in run.steps]
    rows = sum(step.rate * length for step, length in zip(run.steps, lasted, strict=True))
    assert rows == pytest.approx(sum(point.sent for point in points))
    assert run.top >= max(run.highest, 20.0)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_a_bar_has_room_for_the_smallest_part_and_ends_at_its_end(counts: list[int]) -> None:
    found = parts([(str(at), "", count) for at, count in enumerate(counts)])
    assert len(found) == sum(count > 0 for count in counts)
    assert all(part.width > 0.7 for part in found)
    assert not found or found[-1].start + found[-1].width == pytest.approx(100, abs=0.05)
