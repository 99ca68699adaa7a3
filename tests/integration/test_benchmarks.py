"""Every contestant of the benchmarks sends a file, and each row has its one source."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from factories import Simulator

from benchmarks import console
from benchmarks.contestants import OURS, PEERS, clean_file, ours
from benchmarks.scenarios import Plan, million, under_limits


@pytest.mark.parametrize("name", [OURS, *PEERS])
@pytest.mark.resilience
@pytest.mark.representative
def test_every_contestant_sends_every_row_once(name: str, simulator: Simulator, tmp_path: Path) -> None:
    contestant = {OURS: ours(), **PEERS}[name]
    run = contestant(clean_file(tmp_path, 20), 20, simulator)  # which looks at what the simulator counted
    assert run.rows == 20
    assert run.seconds > 0
    assert run.processor_seconds > 0


@pytest.mark.resilience
def test_the_memory_of_every_process_is_seen(tmp_path: Path) -> None:
    found = million(Plan(tmp_path, share=0.0005))
    seen = {line[0] for line in found.lines}
    assert {"peak of onboard run", "peak of onboard worker", "peak of valkey-server"} <= seen
    redis = next(bar for bar in found.bars if "Redis" in bar.what)
    assert 0 < redis.figure < 20


@pytest.mark.resilience
def test_a_limit_is_measured_from_the_first_source_to_the_last(tmp_path: Path) -> None:
    found = under_limits(Plan(tmp_path, rounds=1, share=0.05))
    assert all(bar.figure > 0 for bar in found.bars)


@pytest.mark.resilience
def test_the_consoles_pages_and_what_they_cost_a_run_are_measured(
    simulator: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = console.Size(rows=1500, batches=2, times=2, turns=4, seconds=1.0, sent=20_000)
    console.fill(tmp_path, simulator.url, size)
    for part in (console.quiet, console.sending, console.pace):
        part(tmp_path, simulator, size)
    said = capsys.readouterr().out
    assert (
        said.count("median")
        == len(console.pages(tmp_path, simulator.url, size.batches)) * 2 + len(console.pages_of_running(1)) + 1
    )
    assert len(re.findall(r"alone +[\d,]+ rows/s, with consoles +[\d,]+", said)) == 2
