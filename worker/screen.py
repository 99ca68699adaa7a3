"""Where a command prints, and in which language: a console, and the texts of the terminal (`terminal_texts.toml`)."""

from __future__ import annotations

import io
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from tasks.reports.i18n import Texts

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Screen:
    """What a command sees of the terminal."""

    console: Console
    texts: Texts

    def say(self, key: str, *, style: str = "", **values: object) -> None:
        """Print a text; commands, ids and paths within it are never broken by the width of the terminal."""
        self.console.print(Text(self.texts(key, **values), style=style), soft_wrap=True)

    def drawn(self, draw: Callable[[Screen], Result]) -> tuple[Result, Text]:
        """Return what `draw` returns, and what it prints, as wide and as colourful as here."""
        console, page = self.console, io.StringIO()
        like = Console(
            file=page,
            width=console.width,
            force_terminal=console.is_terminal,
            no_color=console.no_color,
            highlight=False,
        )
        result = draw(replace(self, console=like))
        return result, Text.from_ansi(page.getvalue().rstrip("\n"), overflow="fold")

    def clock_time(self, at: float) -> str:
        """Return a time of day with its zone, which is the people's; with the date if it is not today."""
        today = self.texts.time(time.time(), self.texts("time_day"))
        return self.texts.time(at, self.texts("time_minute_zone")).removeprefix(f"{today} ")


def open_screen(lang: str, time_zone: str, *, on_stderr: bool = False, mask_customers: bool = False) -> Screen:
    """Return the screen of this process; on standard error where standard output is for JSON."""
    texts = Texts(lang, time_zone, _terminal_texts(), mask_customers=mask_customers)
    return Screen(Console(stderr=on_stderr, highlight=False), texts)


@cache
def _terminal_texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("terminal_texts.toml").read_text("utf-8"))
