"""Medians, ratios, bars, and what is written of them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import bench, results
from benchmarks.contestants import Run
from benchmarks.picture import WIDEST, picture
from benchmarks.results import Bar, Section, contest

WHERE = {"machine": "2 cores", "system": "Linux 6.1", "Python": "3.11.7"}
ORDER = ("latency-50", "latency-0", "start-up")
RUNS = {
    "onboard run": [Run(1_000, 1.0, 0.5), Run(1_000, 0.5, 0.6), Run(1_000, 2.0, 0.4)],
    "threads": [Run(500, 1.0, 0.5), Run(500, 2.0, 0.5), Run(500, 0.1, 0.5)],
}


@pytest.fixture
def section() -> Section:
    return contest("50 ms", RUNS, bars={"threads": 3}, most_processor_ms=0.5)


def test_a_pace_is_the_median_of_the_rounds(section: Section) -> None:
    assert section.paces == {"onboard run": 1_000, "threads": 500}


def test_a_line_has_rows_pace_spread_ratio_and_processor(section: Section) -> None:
    assert section.lines == [
        ["onboard run", "1,000", "1,000", "500 to 2,000", "", "0.50"],
        ["threads", "500", "500", "250 to 5,000", "2.00", "1.00"],
    ]


def test_a_bar_is_met_from_its_own_side() -> None:
    assert Bar("ratio", 3.0, 3.0).met
    assert not Bar("ratio", 2.99, 3.0).met
    assert Bar("seconds", 2.0, 2.0, at_least=False).met
    assert not Bar("seconds", 2.01, 2.0, at_least=False).met


def test_the_page_says_which_bars_are_missed(section: Section) -> None:
    page = results.page([section], WHERE)
    assert "## The bars: 1 of 2 met" in page
    assert "| 50 ms: onboard run ÷ threads | 2x | at least 3x | **missed** |" in page
    assert "| 50 ms: processor a row | 0.5 ms | at most 0.5 ms | met |" in page
    assert "2 cores; system Linux 6.1, Python 3.11.7." in page


def test_what_is_measured_again_takes_the_place_of_itself_alone(tmp_path: Path, section: Section) -> None:
    file, other = tmp_path / "results.json", Section("Start-up", ["command"], [["0.3"]])
    results.keep(file, {"start-up": other, "latency-50": section}, WHERE, ORDER)
    again = Section("Start-up", ["command"], [["0.2"]])
    results.keep(file, {"start-up": again}, WHERE, ORDER)
    scenarios, where = results.remembered(file)
    assert list(scenarios.items()) == [("latency-50", section), ("start-up", again)]
    assert where == WHERE


def test_the_picture_has_a_bar_for_every_contestant(section: Section) -> None:
    drawing = ET.fromstring(picture([section, Section("no paces", [], [])]))
    bars = drawing.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "peer"]
    assert [float(bar.get("width", "")) for bar in bars] == [WIDEST, WIDEST / 2]


def test_the_pages_in_the_repository_are_what_its_figures_give(tmp_path: Path) -> None:
    """Whoever wants another page changes the code, or measures."""
    bench.write(tmp_path)
    for name in ("results.md", "results.svg"):
        assert (tmp_path / name).read_text("utf-8") == (bench.HERE / name).read_text("utf-8")
