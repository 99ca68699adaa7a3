"""Japanese text that breaks between its characters: rich breaks at blanks only, of which Japanese has few."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

_JAPANESE = re.compile("[\u3000-\u30ff\u3400-\u9fff\uff01-\uff60]")
#: What is never broken: a word with what must not begin a line behind it, and what must not end one before it; a number
#: and the word for what it counts are one.
_PIECE = re.compile(
    r"[（「『【]*(?:[!-~]*\d [\u3040-\u30ff\u3400-\u9fff]|[!-~]+|[^\S\n]+|[^\n])[、。，．）」』】！？：；ー々…]*"
)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Text that takes as many lines as its place needs."""

    text: Text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield its lines."""
        for line in self.text.plain.split("\n"):
            for part in _lines(line, options.max_width):
                yield Text(part, style=self.text.style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the widths between which it looks well."""
        widest = max(map(cell_len, self.text.plain.split("\n")))
        longest = max((cell_len(piece) for piece in _PIECE.findall(self.text.plain)), default=0)
        return Measurement(longest, widest).with_maximum(options.max_width)


def wrapped(text: Text) -> Text | Wrapped:
    """Return text in the form in which it is broken well."""
    return Wrapped(text) if _JAPANESE.search(text.plain) else text


def _lines(line: str, width: int) -> Iterator[str]:
    current = ""
    for piece in _PIECE.findall(line):
        if current and cell_len(current + piece.rstrip()) > width:
            yield current.rstrip()
            current = ""
        current += piece if current else piece.lstrip()
        if cell_len(current.rstrip()) > width:
            *whole, current = chop_cells(current, width)
            yield from whole
    yield current.rstrip()


def longest_word(text: Text) -> int:
    """Return the cells of the longest piece of a text that is never broken."""
    return max((cell_len(piece.strip()) for piece in _PIECE.findall(text.plain)), default=0)
