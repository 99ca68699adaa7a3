"""Open rows that one action solves: what `onboard open`, notifications and the digest show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tasks.models import Reason
from tasks.reason_texts import Situation, hint
from tasks.reports.aggregates import TaskKey


class OpenLine(NamedTuple):
    """An open row as a person looks for it."""

    batch_id: int
    line: int
    customer_id: str


@dataclass(frozen=True, slots=True)
class OpenGroup:
    """Open rows that one action solves, of whatever batch."""

    key: TaskKey
    example: Reason
    situation: Situation  #: of its first row, for the hint
    rows: int
    since: float  #: when the oldest of them was first open
    batches: Mapping[int, int]  #: batch -> rows
    lines: tuple[OpenLine, ...]  #: the first ones

    def hint(self, lang: str) -> str:
        """Return what to do about them."""
        return hint(self.example, lang, self.situation)
