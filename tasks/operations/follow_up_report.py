"""The list of sources that are pending for too long or have ended: follow-up.csv."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.ledger import ENDED_STATUSES, SourceLine
from tasks.reports.i18n import Texts
from tasks.reports.lists import write_list
from tasks.services import Services

COLUMNS = ("batch", "line", "customer_id", "reference", "source_id", "status", "since", "what_to_do")
#: Lines that are returned; the file has all.
EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class FollowUpReport:
    """The list that was written."""

    path: Path
    days: float
    sources: int
    by_status: Mapping[str, int]
    examples: tuple[tuple[str, ...], ...]  #: its first lines, in the order of COLUMNS


def report_follow_up(
    services: Services, *, folder: Path | None = None, days: float | None = None, lang: str | None = None
) -> FollowUpReport:
    """List the sources that have ended, or that are pending for more than `days`, in the folder's follow-up.csv."""
    settings = services.settings
    days = settings.pending_days if days is None else days
    lines = _Lines(Texts(lang or settings.lang, settings.time_zone))
    path = (folder or services.lists_folder) / "follow-up.csv"
    sources = services.ledger.follow_up.sources_to_look_at(services.ledger.now() - days * 86400)
    count = write_list(path, COLUMNS, lines.of(sources))
    return FollowUpReport(path, days, count, dict(lines.by_status), tuple(lines.examples))


@dataclass(slots=True)
class _Lines:
    texts: Texts
    by_status: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, ...]] = field(default_factory=list)

    def of(self, sources: Iterator[SourceLine]) -> Iterator[tuple[str, ...]]:
        """Yield the line of each source, and count it."""
        for source in sources:
            kind = source.status if source.status in ENDED_STATUSES else "pending"
            self.by_status[kind] += 1
            line = self._line(source, kind)
            if len(self.examples) < EXAMPLES:
                self.examples.append(line)
            yield line

    def _line(self, source: SourceLine, kind: str) -> tuple[str, ...]:
        since = self.texts.time(source.since, "%Y-%m-%d %H:%M %Z") if source.since else ""
        action = self.texts(f"follow_up_{kind}")
        return (
            str(source.batch_id),
            str(source.line),
            source.customer_id,
            source.reference,
            source.source_id,
            source.status,
            since,
            action,
        )
