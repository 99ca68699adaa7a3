"""A worksheet that holds text only and takes a row at a time: nothing in it is ever a formula, a link or a number.

XlsxWriter writes a cell at a time, derives a type from the look of a value unless given, and passes a text of the form
`<r>...</r>` on as its own mark-up. Here a row is written at once, always as inline text, in the way of its
`constant_memory` mode, three times as fast.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

from xlsxwriter.utility import xl_col_to_name  # type: ignore[import-untyped]
from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]

#: Excel's limits: rows of a sheet, characters of a cell (counted in UTF-16).
MAX_ROWS = 1_048_576
MAX_CHARS = 32_767
#: Stands for the number of the row in the text of its cells; no text of a cell can hold it.
_ROW = "\x00"
_ALWAYS_FITS = MAX_CHARS // 2
_MOST_PRINTED = 195  # columns that together are wider would make the letters too small: 8 points on A4
_HIGHEST = 409  # points, Excel's limit for a row
_SPECIAL = re.compile("[&<>\x00-\x1f\ufffe\uffff\ud800-\udfff]")
_KEPT = 1024  # texts of cells; those of one failure stand on two sheets
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]")
_LOOKS_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}_)")


class TextSheet(Worksheet):  # type: ignore[misc]
    """A worksheet for `add_texts`; rows come in order, XlsxWriter's own `write` methods are not used."""

    def __init__(self) -> None:
        super().__init__()
        self.next_row = 0
        self._starts: dict[tuple[int, ...], list[str]] = {}

    def add_texts(self, values: Sequence[str], styles: tuple[int, ...] | int = 0, height: float = 0) -> None:
        """Write the next row; `styles` is the number of a format for all cells, or one for each; `height` in points."""
        self.add_cells(self.cells_of(values, styles, height))

    def add_cells(self, cells: str) -> None:
        """Write the next row from what `cells_of` returned, also of another sheet."""
        self.next_row += 1
        number = str(self.next_row)
        self.fh.write(f'<row r="{number}"{cells.replace(_ROW, number)}</row>')

    def add_text_across(self, text: str, style: int, columns: int, height: float) -> None:
        """Write the next row as one text over several columns."""
        self.add_texts([text], style, height)
        self.merge.append([self.next_row - 1, 0, self.next_row - 1, columns - 1])

    def skip_row(self) -> None:
        """Leave the next row empty."""
        self.next_row += 1

    def cells_of(self, values: Sequence[str], styles: tuple[int, ...] | int = 0, height: float = 0) -> str:
        """Return a row as the text of its cells, in one line, behind its height; empty cells are left out.

        LibreOffice does not look for the height that wrapped texts need, so that they would lie one above another.
        """
        if isinstance(styles, int):
            styles = (styles,) * len(values)
        starts = self._starts.get(styles)
        if starts is None:
            starts = self._starts[styles] = [_cell_start(at, style) for at, style in enumerate(styles)]
        tall = f' ht="{min(height, _HIGHEST):g}" customHeight="1">' if height else ">"
        return tall + "".join([start + _text_of(value) for start, value in zip(starts, values, strict=True) if value])

    def finish(self, widths: Sequence[int], style: Any, *, table: bool = True, frozen_columns: int = 0) -> None:
        """Set widths and, for a table, frozen titles and a filter; `style` is the format of what people add."""
        last_row, last_column = max(self.next_row - 1, 0), max(len(widths) - 1, 0)
        for row, column in ((0, 0), (last_row, last_column)):
            self._check_dimensions(row, column)
        for column, width in enumerate(widths):
            self.set_column(column, column, width, style)
        printed = bisect_right(list(accumulate(widths)), _MOST_PRINTED) or 1
        if printed < len(widths):  # else the letters would be too small to read
            self.print_area(0, 0, last_row, printed - 1)
        if table:
            self.freeze_panes(1, frozen_columns)
            self.autofilter(0, 0, last_row, last_column)
            self.repeat_rows(0)
        self.ignore_errors({"number_stored_as_text": f"A1:{xl_col_to_name(last_column)}{last_row + 1}"})


def _cell_start(at: int, style: int) -> str:
    return f'<c r="{xl_col_to_name(at)}{_ROW}" s="{style}" t="inlineStr"'


@lru_cache(maxsize=_KEPT)
def _text_of(value: str) -> str:
    """Return what stands in a cell behind its start."""
    is_plain = not _SPECIAL.search(value) and "_x" not in value and "  " not in value and value.strip(" ") == value
    if is_plain and len(value) <= _ALWAYS_FITS:
        return f"><is><t>{value}</t></is></c>"
    return f'><is><t xml:space="preserve">{_escaped(value)}</t></is></c>'


def _escaped(text: str) -> str:
    """Return text as XML that a spreadsheet shows unchanged, cut to what a cell can hold."""
    wide = text.encode("utf-16-le", "surrogatepass")
    if len(wide) > 2 * MAX_CHARS:
        text = wide[: 2 * MAX_CHARS - 2].decode("utf-16-le", "ignore") + "…"
    text = _LOOKS_ESCAPED.sub("_x005F_", text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", text).replace("\n", "&#10;")
