"""The tables of `report.xlsx`: formats, rows with their heights, rows that are kept for another order."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import xlsxwriter  # type: ignore[import-untyped]

from tasks.reports.aggregates import TaskKey
from tasks.reports.text_sheet import TextSheet

#: The widest column of the file, and the narrowest.
NARROWEST, WIDEST = 8, 40
LINE_POINTS = 14.0
_FONT = "Arial"
_DARK, _OURS, _LINE = "#1F3A5F", "#0F6B5C", "#D5DBE3"
_NOT_ASCII = re.compile("[^\x00-\x7f]")


class Styles:
    """The numbers of the formats; a number is all that a row needs."""

    def __init__(self, book: xlsxwriter.Workbook) -> None:
        base = {"num_format": "@", "font_name": _FONT, "font_size": 10, "valign": "top"}
        self.text_format = book.add_format(base)
        self.text = _number(self.text_format)
        lines = {"border": 1, "border_color": _LINE}
        self.cell = _number(book.add_format({**base, **lines, "text_wrap": True}))
        self.wrapped = _number(book.add_format({**base, "text_wrap": True}))
        self.strong = _number(book.add_format({**base, "bold": True}))
        self.right = _number(book.add_format({**base, "align": "right"}))
        self.indented = _number(book.add_format({**base, "align": "left", "indent": 1}))
        self.wrapped_indented = _number(book.add_format({**base, "text_wrap": True, "align": "left", "indent": 1}))
        self.strong_right = _number(book.add_format({**base, "bold": True, "align": "right"}))
        self.strong_indented = _number(book.add_format({**base, "bold": True, "align": "left", "indent": 1}))
        self.verdict = _number(
            book.add_format({**base, "bold": True, "font_size": 16, "font_color": _DARK, "text_wrap": True})
        )
        self.section = _number(
            book.add_format({**base, "bold": True, "font_size": 12, "font_color": _DARK, "bottom": 1})
        )
        head = {**base, **lines, "bold": True, "font_color": "#FFFFFF"}
        self.head = _number(book.add_format({**head, "bg_color": _DARK}))
        self.head_ours = _number(book.add_format({**head, "bg_color": _OURS}))


def _number(style: object) -> int:
    return int(style._get_xf_index())  # type: ignore[attr-defined]  # noqa: SLF001 - what a cell needs of a format


class Table:
    """One kind of row with its header, on as many sheets as it takes."""

    def __init__(
        self,
        new_sheet: Callable[[int], TextSheet],
        heads: Sequence[str],
        head_styles: tuple[int, ...],
        style: int,
        widths: Callable[[], Sequence[int]],
        max_rows: int,
    ) -> None:
        self._new_sheet = new_sheet
        self._heads = heads
        self._head_styles = head_styles
        self._styles = (style,) * len(heads)
        self.widths = widths  #: of its columns, as far as they are known
        self._max_rows = max_rows
        self.sheets: list[TextSheet] = []
        self._begin()

    def add(self, values: Sequence[str]) -> None:
        """Write one row."""
        self.add_cells(self.cells_of(values))

    def cells_of(self, values: Sequence[str]) -> str:
        """Return a row for `add_cells`."""
        lines = [
            lines_of(value, width)
            for value, width in zip(values, self.widths(), strict=True)
            if len(value) >= width or not value.isascii() or "\n" in value
        ]
        most = max(lines, default=1)
        return self.sheets[0].cells_of(values, self._styles, most * LINE_POINTS if most > 1 else 0)

    def add_cells(self, cells: str) -> None:
        """Write one row that `cells_of` made."""
        if self.sheets[-1].next_row >= self._max_rows:
            self._begin()
        self.sheets[-1].add_cells(cells)

    def _begin(self) -> None:
        self.sheets.append(self._new_sheet(len(self.sheets) + 1))
        self.sheets[-1].add_texts(self._heads, self._head_styles)


class WaitingRows:
    """Rows as text in a file, to be read in another order."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._starts: dict[TaskKey, array[int]] = {}
        self._end = 0

    def add(self, key: TaskKey, cells: str) -> None:
        """Keep one row."""
        self._starts.setdefault(key, array("Q")).append(self._end)
        self._end += self._file.write(cells.encode() + b"\n")

    def in_order(self, keys: Sequence[TaskKey]) -> Iterator[str]:
        """Yield all rows, those of the first key first."""
        for key in keys:
            for start in self._starts.get(key, ()):
                self._file.seek(start)
                yield self._file.readline()[:-1].decode()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def width_of(text: str) -> int:
    """Return how wide the first line of a text is, counting a full-width letter twice."""
    return columns_of(text.partition("\n")[0][: 2 * WIDEST])


def lines_of(text: str, width: int) -> int:
    """Return how many lines a text takes in a column; rather one too many, words are not broken.

    Japanese breaks earlier than its width says: no line may begin with a full stop, or break an English word.
    """
    broken = width if text.isascii() else width * 9 // 10
    return sum(1 + (columns_of(line) + 1) // broken for line in text.split("\n"))


@lru_cache(maxsize=4096)
def columns_of(text: str) -> int:
    """Return how wide a text is, counting a full-width letter twice."""
    if text.isascii():
        return len(text)
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in _NOT_ASCII.findall(text))
