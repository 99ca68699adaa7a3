"""Medians, ratios and bars; `results.json` is the memory of the figures, and `results.md` is written from it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from benchmarks.contestants import Run

LIBRARIES = ("celery", "redis", "requests", "pandas", "tenacity", "sqlalchemy", "orjson", "aiohttp", "dramatiq")
ABOUT = """\
`make bench` writes this page; [README.md](README.md) says how it measures and how fair that is. The simulator runs on
the same cores. Times are of this machine only; ratios count. *First ÷ this* is the pace of a table's first line by
that of this line."""


@dataclass(frozen=True)
class Bar:
    """What a figure should be."""

    what: str
    figure: float
    bar: float
    unit: str = ""
    at_least: bool = True  #: else at most

    @property
    def met(self) -> bool:
        """True if it is."""
        return self.figure >= self.bar if self.at_least else self.figure <= self.bar


@dataclass(frozen=True)
class Section:
    """What a scenario found."""

    title: str
    columns: list[str]
    lines: list[list[str]]
    note: str = ""
    bars: list[Bar] = field(default_factory=list)
    paces: dict[str, float] = field(default_factory=dict)  #: rows a second by contestant, for the picture
    measured_on: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())


def contest(
    title: str,
    runs: Mapping[str, Sequence[Run]],
    *,
    bars: Mapping[str, float],
    most_processor_ms: float | None = None,
    note: str = "",
) -> Section:
    """Compare the first contestant, by the medians of its rounds, with each of the others.

    `bars` says how many times the others' pace it should have.
    """
    ours = next(iter(runs))
    paces = {name: median(run.pace for run in rounds) for name, rounds in runs.items()}
    processor = {name: median(run.processor_ms for run in rounds) for name, rounds in runs.items()}
    lines = []
    for name, rounds in runs.items():
        slowest, quickest = min(run.pace for run in rounds), max(run.pace for run in rounds)
        ratio = "" if name == ours else f"{paces[ours] / paces[name]:.2f}"
        spread = f"{slowest:,.0f} to {quickest:,.0f}"
        lines.append([name, f"{rounds[0].rows:,}", f"{paces[name]:,.0f}", spread, ratio, f"{processor[name]:.2f}"])
    held = [Bar(f"{title}: {ours} ÷ {name}", paces[ours] / paces[name], bar, "x") for name, bar in bars.items()]
    if most_processor_ms is not None:
        held.append(Bar(f"{title}: processor a row", processor[ours], most_processor_ms, " ms", at_least=False))
    note = f"{note} Rounds: {len(runs[ours])}.".lstrip()
    columns = ["", "rows", "rows/s", "slowest to quickest", "first ÷ this", "processor, ms a row"]
    return Section(title, columns, lines, note, held, paces)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return {
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in LIBRARIES},
    }


def keep(path: Path, found: Mapping[str, Section], where: Mapping[str, str], order: Iterable[str]) -> None:
    """Put what was found in place of what the file had of the same scenarios; the others stay."""
    everything = {**(remembered(path)[0] if path.exists() else {}), **found}
    scenarios = {name: asdict(everything[name]) for name in order if name in everything}
    content = {"machine": where, "scenarios": scenarios}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def remembered(path: Path) -> tuple[dict[str, Section], dict[str, str]]:
    """Return the scenarios of a file that `keep` wrote, and the machine."""
    content = json.loads(path.read_text("utf-8"))
    scenarios = {
        name: Section(**{**section, "bars": [Bar(**bar) for bar in section["bars"]]})
        for name, section in content["scenarios"].items()
    }
    return scenarios, content["machine"]


def page(sections: Sequence[Section], where: Mapping[str, str]) -> str:
    """Return the page: the bars first, then a table a scenario."""
    bars = [bar for section in sections for bar in section.bars]
    facts = ", ".join(f"{name} {value}" for name, value in where.items() if name != "machine")
    parts = ["# Results of the benchmarks", ABOUT, f"{where['machine']}; {facts}."]
    if any(section.paces for section in sections):
        parts.append("![Rows a second, side by side](results.svg)")
    if bars:
        met = sum(bar.met for bar in bars)
        parts += [f"## The bars: {met} of {len(bars)} met", _table(["what", "found", "bar", ""], map(_bar_line, bars))]
    for section in sections:
        note = f"{section.note} Measured on {section.measured_on}.".lstrip()
        parts += [f"## {section.title}", note, _table(section.columns, section.lines)]
    return "\n\n".join(parts) + "\n"


def _bar_line(bar: Bar) -> list[str]:
    word = "at least" if bar.at_least else "at most"
    return [
        bar.what,
        f"{bar.figure:,.3g}{bar.unit}",
        f"{word} {bar.bar:g}{bar.unit}",
        "met" if bar.met else "**missed**",
    ]


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
