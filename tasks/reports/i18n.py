"""The words of the reports for people, English and Japanese (data: `i18n.toml`), numbers, times."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from tasks.models import Reason
from tasks.reason_texts import LANGUAGES, sentence
from tasks.reports.masking import mask, masked

if TYPE_CHECKING:
    from tasks.reports.aggregates import Task


class Texts:
    """What the reports say, in one language; `further` texts by key are for whoever says more than they do.

    Of a file that was only checked (`of_check`) they say `check_KEY` in the place of KEY, where there is one. With
    `mask_customers` they show no customer id whole, nor what a file has in its place.
    """

    def __init__(
        self,
        lang: str,
        time_zone: str,
        further: Mapping[str, list[str]] | None = None,
        *,
        of_check: bool = False,
        mask_customers: bool = False,
    ) -> None:
        self.lang = lang if lang in LANGUAGES else LANGUAGES[0]
        self._at = LANGUAGES.index(self.lang)
        self._zone = ZoneInfo(time_zone)
        self._texts = {**_all_texts(), **(further or {})}
        self.of_check = of_check
        self.mask_customers = mask_customers

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of `key`; whole numbers get separators, and `key_one` is taken where `count` is 1."""
        if self.of_check and (f"check_{key}") in self._texts:
            key = f"check_{key}"
        if values.get("count") == 1 and f"{key}_one" in self._texts:
            key += "_one"
        return str(self._texts[key][self._at]).format(**{name: self._shown(value) for name, value in values.items()})

    def _shown(self, value: object) -> object:
        """Return a value as people read it: numbers with separators, and in its own words what knows its language."""
        if isinstance(value, int):
            return self.number(value)
        in_language = getattr(value, "in_language", None)
        return value if in_language is None else in_language(self.lang)

    def number(self, value: float) -> str:
        """Return a number as people read it: 9,812 or 19.8."""
        if isinstance(value, int) or value >= 100 or round(value, 1) == round(value):
            return f"{value:,.0f}"
        return f"{value:,.1f}"

    def rate(self, value: float) -> str:
        """Return how many in a second: 9,812, 55, 2.5 or 0.04."""
        return self.number(round(value) if value >= 10 else value) if value >= 0.05 else f"{value:.1g}"

    def share(self, part: int, whole: int) -> str:
        """Return a share in percent; never 0 % or 100 % unless it is exactly that."""
        if not whole or not part:
            return self("percent", number="0")
        percent = 100 * part / whole
        if part < whole:
            percent = min(max(percent, 0.1), 99.9)
        return self("percent", number=f"{percent:.0f}" if percent == round(percent) else f"{percent:.1f}")

    def time(self, at: float, form: str = "") -> str:
        """Return a time as people read it, in their zone; by default with day, second and zone."""
        return datetime.fromtimestamp(at, self._zone).strftime(form or self("time_full"))

    def customer(self, value: str) -> str:
        """Return a customer id or a reference as it may be shown."""
        return mask(value) if self.mask_customers else value

    def value(self, reason: Reason) -> str:
        """Return a value that was rejected, as it may be shown."""
        return masked(reason).value if self.mask_customers else reason.value

    def sentence(self, reason: Reason) -> str:
        """Return one sentence about a row, as it may be shown."""
        return sentence(reason._replace(value=self.value(reason)), self.lang)

    def status(self, word: str) -> str:
        """Return elepay's word for a source's status, with what it means where that is not English."""
        return self(f"source_{word}") if f"source_{word}" in self._texts else word

    def lines(self, task: Task) -> str:
        """Return where the first rows of a task stand."""
        ranges = [
            str(first) if first == last else self("line_range", first=str(first), last=str(last))
            for first, last in task.ranges
        ]
        lines, more = self("list_between").join(ranges), task.rows - task.lines_in_ranges
        if more:
            return self("lines_and_more", lines=lines, more=more)
        return self("lines", lines=lines, count=task.rows)

    def duration(self, seconds: float) -> str:
        """Return a duration in its two largest units."""
        whole = round(seconds)
        if whole < 1:
            return self("seconds", count=self.number(seconds))
        parts = [("hours", whole // 3600), ("minutes", whole % 3600 // 60), ("seconds", whole % 60)]
        first = next(at for at, (_, count) in enumerate(parts) if count)
        return " ".join(self(unit, count=count) for unit, count in parts[first : first + 2] if count)


def iso_time(at: float) -> str:
    """Return a time as programs read it: ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


@cache
def _all_texts() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("i18n.toml").read_text("utf-8"))
