"""Why the first line lacks the titles: they stand further down, or something else separates them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tasks.accept.columns import REQUIRED, targets_of
from tasks.csv_records import DELIMITERS, FileFormat, read_first_lines
from tasks.errors import UnusableFile

#: Titles below more lines than these are not looked for.
_LOOKED_AT_LINES = 40
#: What exports put between their columns, besides the delimiters that are read.
_SEPARATORS = {
    "|": "|",
    "\u3001": "\u3001",
    "\uff0c": "\uff0c",
    "\uff1b": "\uff1b",
    "\uff5c": "\uff5c",
    "\u00a6": "\u00a6",
    "^": "^",
    "~": "~",
    ":": ":",
    "/": "/",
    "blanks": r"[ \u3000]{2,}",
}
_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "blanks": "blanks"}
_QUOTES = "\"' \u3000"


def misread(path: Path, fmt: FileFormat, mapping: Mapping[str, str]) -> UnusableFile | None:
    """Return what to say about a file whose header lacks columns, if the titles are there in another way."""
    if len(fmt.header) == 1 and '"' in fmt.header_text and _has_titles(re.split("[,;\t]", fmt.header[0]), mapping):
        return _quoted_lines(fmt.header_line)
    for line, text in read_first_lines(path, fmt, _LOOKED_AT_LINES):
        if separator := _separator(text, mapping):
            return _explained(line, separator, fmt)
    return None


def _separator(text: str, mapping: Mapping[str, str]) -> str:
    """Return what separates the required titles in a line, or ""."""
    return next((name for name, titles in _split(text) if _has_titles(titles, mapping)), "")


def _split(text: str) -> Iterator[tuple[str, list[str]]]:
    for delimiter in DELIMITERS:
        yield delimiter, text.split(delimiter)
    for name, separator in _SEPARATORS.items():
        yield name, re.split(separator if name == "blanks" else re.escape(separator), text.strip(" "))


def _has_titles(titles: list[str], mapping: Mapping[str, str]) -> bool:
    return targets_of([title.strip(_QUOTES) for title in titles], mapping) >= set(REQUIRED)


def _explained(line: int, separator: str, fmt: FileFormat) -> UnusableFile | None:
    above = line > fmt.header_line
    if separator in DELIMITERS and (above or separator != fmt.delimiter):
        return _titles_below(line, fmt.header_line) if above else _other_delimiter(line, separator, fmt.delimiter)
    return None if separator in DELIMITERS else _unknown_delimiter(line, separator)


def _titles_below(line: int, first: int) -> UnusableFile:
    return UnusableFile(
        "titles_below",
        f"The titles stand in line {line}; the first line that is not blank (line {first}) must hold them.",
        line=line,
        hint=f"Delete the lines above line {line}, or have the export leave them out.",
        value=str(first),
    )


def _other_delimiter(line: int, separator: str, taken: str) -> UnusableFile:
    found, other = _NAMES[separator], _NAMES[taken]
    name = "a tab" if separator == "\t" else f"`{separator}`"
    return UnusableFile(
        "unknown_delimiter",
        f"In line {line} the titles are separated by {found}, but it holds as many {other} or more.",
        line=line,
        hint=f"Put a first line in front of the titles that says which it is: `sep=` and {name}. Or put titles with "
        f"{other} into quotes.",
        value=found,
    )


def _unknown_delimiter(line: int, separator: str) -> UnusableFile:
    shown = _NAMES.get(separator, f"`{separator}`")
    return UnusableFile(
        "unknown_delimiter",
        f"In line {line} the columns are separated by {shown}; only comma, semicolon and tab can be read.",
        line=line,
        hint="Export the file with one of them; they are recognised by themselves, or by a first line such as `sep=;`.",
        value=shown.strip("`"),
    )


def _quoted_lines(line: int) -> UnusableFile:
    return UnusableFile(
        "unknown_delimiter",
        f"Each line stands in quotes as a whole (line {line}), so that nothing separates the columns.",
        line=line,
        hint="A spreadsheet saved a file that it had not split into columns: open it again as text with a delimiter, "
        "or take the outer quotes off.",
        value='"',
    )
