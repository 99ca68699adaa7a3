"""Open work over all batches: what needs a person, each row once, grouped by what one action solves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path

from tasks.csv_records import FileFormat
from tasks.errors import LedgerError
from tasks.ledger import OpenCounts, OpenExample
from tasks.models import Batch, Reason, RowCounts, RowState, Work
from tasks.operations.batch_status import batch_stands, require_account
from tasks.operations.find_record import find_record
from tasks.reason_texts import Situation, situation_of
from tasks.reports.aggregates import TaskKey, key_of
from tasks.reports.open_groups import OpenGroup, OpenLine
from tasks.reports.open_work_csv import OpenWorkFiles
from tasks.reports.report_data import ReportFacts
from tasks.reports.row_texts import RowTextWriter
from tasks.services import Services

#: So many rows of a group are listed.
SHOWN = 5


@dataclass(slots=True)
class _Group:
    """An `OpenGroup` while rows are counted."""

    example: Reason
    situation: Situation
    since: float
    batches: Counter[int] = field(default_factory=Counter)
    lines: list[OpenLine] = field(default_factory=list)

    def add(self, each: OpenExample) -> None:
        self.since = min(self.since, each.since)
        self.batches[each.batch_id] += each.rows
        if len(self.lines) < SHOWN:
            self.lines.append(OpenLine(each.batch_id, each.row.line, each.row.customer_id))

    def seen(self, key: TaskKey) -> OpenGroup:
        counted = self.batches.total(), self.since, dict(self.batches), tuple(self.lines)
        return OpenGroup(key, self.example, self.situation, *counted)


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """Files with open rows that can be corrected and run."""

    files: Mapping[Path, int]  #: file -> rows
    to_be_resolved: int  #: unclear rows, which no file solves
    dropped: int  #: rows of files that were dropped (ONBOARD_KEEP_DAYS)


def list_open_work(services: Services, batch_id: int | None = None) -> tuple[OpenGroup, ...]:
    """Return all open work of this account, or what is left of one batch, the largest group first."""
    groups: dict[TaskKey, _Group] = {}
    explainers = _Explainers(services)
    for each in services.ledger.open_causes.first_rows(batch_id, SHOWN):
        reason = explainers.first_reason(each)
        key = key_of(each.row, reason)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(reason, explainers.situation(each), each.since)
        group.add(each)
    seen = [group.seen(key) for key, group in groups.items()]
    return tuple(sorted(seen, key=lambda group: (-group.rows, group.key)))


def count_open_work(services: Services) -> OpenCounts:
    """Count what `list_open_work` lists of all batches, at a fraction of its cost."""
    return services.ledger.open_work.count()


def write_open_work(services: Services, path: Path, *, lang: str | None = None) -> WrittenFiles:
    """Write the open rows that a corrected file solves, with the columns of failures.csv.

    Rows of batches whose files have the same columns and dialect go to one file: `path`, and if there are others, files
    numbered behind its name. Raises LedgerError if one of them is there already; OSError.
    """
    to_be_resolved = dropped = 0
    try:
        with OpenWorkFiles(path, lang or services.settings.lang) as files:
            for batch_id, rows in groupby(services.ledger.open_work.open_rows(), lambda each: each.batch_id):
                batch = services.ledger.batches.get(batch_id)
                found = {each.row.record: each.row for each in rows}
                wanted = {record: row for record, row in found.items() if row.state != RowState.UNCLEAR}
                to_be_resolved += len(found) - len(wanted)
                if services.dropped(batch):
                    dropped += len(wanted)
                elif wanted:
                    files.add(_facts(services, batch, with_file=True), wanted)
    except FileExistsError as error:
        raise LedgerError(
            "{file} is there already, and may have been edited: give another name", file=error.filename
        ) from error
    return WrittenFiles(files.written, to_be_resolved, dropped)


def dismiss(services: Services, batch_id: int, lines: Sequence[int], reason: str, *, who: str) -> Work:
    """Set rows aside that need a person, by a line of each, with a reason; all or none.

    Returns what became of the batch's rows that needed a person. Raises LedgerError if a row is not open, or no record
    is on a line.
    """
    services.ledger.open_work.dismiss(batch_id, _records(services, batch_id, lines), reason, who)
    return services.ledger.open_work.of_batch(batch_id)


def take_back_dismissals(services: Services, batch_id: int, lines: Sequence[int], *, who: str) -> Work:
    """Let rows need a person again that were set aside; as `dismiss`. Raises LedgerError if one was not."""
    services.ledger.open_work.take_back_dismissals(batch_id, _records(services, batch_id, lines), who)
    return services.ledger.open_work.of_batch(batch_id)


def _records(services: Services, batch_id: int, lines: Sequence[int]) -> list[int]:
    require_account(services, services.ledger.batches.get(batch_id))
    return [find_record(services, batch_id, line).record for line in lines]


class _Explainers:
    """Knows of each batch what its rows' reasons and hints depend on."""

    def __init__(self, services: Services) -> None:
        self._batch = cache(services.ledger.batches.get)
        self._writer = cache(lambda batch_id: RowTextWriter(_facts(services, self._batch(batch_id)), "en"))
        self._stands = cache(lambda batch_id: batch_stands(services, self._batch(batch_id)))

    def first_reason(self, each: OpenExample) -> Reason:
        return next(iter(self._writer(each.batch_id).explain(each.row).reasons), Reason("unknown_code"))

    def situation(self, each: OpenExample) -> Situation:
        row = each.row
        stands = self._stands(each.batch_id)
        return situation_of(row.state, needs_person=row.needs_person, batch_stands=stands, number=each.batch_id)


def _facts(services: Services, batch: Batch, *, with_file: bool = False) -> ReportFacts:
    return ReportFacts(
        batch,
        RowCounts(batch.records),  # nothing counts on them: the rows are looked at one by one
        services.kept_file(batch) if with_file else None,
        FileFormat.from_dict(batch.file_format) if with_file else None,
    )
