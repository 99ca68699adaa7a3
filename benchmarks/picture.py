"""The picture: a bar a contestant, a group a scenario, from a template; readable in light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.results import Section

WIDEST = 460  #: units of the longest bar
ROW, HEAD, GAP = 22, 30, 14  #: heights


class Stroke(NamedTuple):
    """A bar with its words."""

    y: int
    width: float
    name: str
    says: str
    ours: bool


class Group(NamedTuple):
    """A scenario's bars below its title."""

    y: int
    title: str
    strokes: list[Stroke]


def picture(sections: Sequence[Section]) -> str:
    """Return the SVG of every scenario that has paces; the first contestant of each is ours."""
    groups = list(_groups([section for section in sections if section.paces]))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    height = groups[-1].y + HEAD + ROW * len(groups[-1].strokes) + GAP if groups else GAP
    return environment.get_template("results.svg.j2").render(groups=groups, height=height)


def _groups(sections: Sequence[Section]) -> Iterator[Group]:
    """Place one group below the other; bars are as long as their share of the quickest in their group."""
    y = GAP
    for section in sections:
        quickest, ours = max(section.paces.values()), next(iter(section.paces))
        strokes = [
            Stroke(
                y + HEAD + ROW * number,
                round(WIDEST * pace / quickest, 1),
                name,
                f"{pace:,.0f}",
                name == ours,
            )
            for number, (name, pace) in enumerate(section.paces.items())
        ]
        yield Group(y, section.title, strokes)
        y += HEAD + ROW * len(strokes) + GAP
