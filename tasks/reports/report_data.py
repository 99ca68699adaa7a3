"""What the reports of a batch are made from, and the one error that says it does not fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tasks.csv_records import FileFormat
from tasks.errors import OnboardingError, UnusableFile
from tasks.models import Batch, BatchState, ReportRow, RowCounts, RowState, Successor, Work
from tasks.reason_texts import Situation, situation_of, stands


class ReconciliationError(OnboardingError):
    """File, rows and counts disagree: nothing was published.

    If rows were still moving, gather the facts and write again; otherwise the accepted copy or the ledger is damaged
    and a person must look. The message names the first record that is out of step.
    """


class TimelinePoint(NamedTuple):
    """One second of a run; seconds in which nothing happened may be left out."""

    at: float  #: epoch second in which it lies
    sent: int = 0  #: rows sent
    throttled: int = 0  #: answers "too many requests"
    paused: bool = False  #: the fleet paused


class FileWarning(NamedTuple):
    """One kind of oddity that did not keep rows from being sent."""

    code: str
    column: str
    rows: int
    first_line: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Commands:
    """What to type next; "" leaves the advice without a command."""

    fix: str = "onboard run failures.csv"  #: after failures.csv was corrected
    resume: str = "onboard resume"  #: what lets the batch go on if it stands still
    resolve: str = "onboard resolve"


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """What is known of a file that was only checked."""

    at: float
    not_asked: str = ""  #: why elepay was not asked, as `not_asked_…` in `i18n.toml` says it; "": it has answered
    code: str = ""  #: what elepay, or the way to it, said
    not_compared: str = ""  #: why rows were not compared with the ledger, as `not_compared_…` says it; "": they were
    refused: UnusableFile | None = None  #: why a run would refuse the file as a whole
    same_as: int = 0  #: the newest batch that was made from exactly this file; 0: none


#: After a rehearsal: its numbers of batches and rows are others in the real ledger.
NO_COMMANDS = Commands("", "", "")


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """All that is known about a batch besides its rows; what is left at its default is left out of the reports."""

    batch: Batch
    counts: RowCounts
    file_path: Path | None  #: the accepted copy of the file, unchanged; None if the file could not be read at all
    file_format: FileFormat | None  #: None exactly when `file_path` is
    parent: str = ""  #: name or number of the batch whose failures.csv this was
    started_at: float | None = None  #: UTC epoch seconds, like every `_at`
    finished_at: float | None = None
    requests_per_second: float | None = None  #: the limit; None: none was set
    rows_per_second: float | None = None  #: reached, over the whole run
    timeline: Sequence[TimelinePoint] = ()
    latency_histogram: Mapping[int, int] = field(default_factory=dict)  #: milliseconds -> answers, any grain
    warnings: Sequence[FileWarning] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    time_zone: str = "Asia/Tokyo"  #: IANA name, for the times that people read
    goes_on_at: float | None = None  #: the nightly window is closed until then, and rows wait for it
    waits_for_approval: bool = False  #: its canary rows have run
    commands: Commands = field(default_factory=Commands)
    work: Work | None = None  #: what became of its rows that needed a person
    successors: Mapping[int, Successor] = field(default_factory=dict)  #: record -> what became of it
    mask_customers: bool = False  #: page and workbook show no customer whole (ONBOARD_MASK_CUSTOMERS)
    check: CheckFacts | None = None  #: the file was only checked: the batch is none of the ledger, nothing was sent

    @property
    def stands(self) -> str:
        """How the batch stands for those who want it to go on (`reason_texts.stands`); `unnamed`: name no command."""
        if self.commands == NO_COMMANDS:
            return "unnamed"
        return stands(self.batch, waits_for_approval=self.waits_for_approval)

    def situation(self, state: str, *, needs_person: bool) -> Situation:
        """Return what the hint of one of its rows has to know."""
        return situation_of(state, needs_person=needs_person, batch_stands=self.stands, number=self.batch.id)

    def needs_person(self, row: ReportRow) -> bool:
        """Return whether a row is work for people, as the ledger counts it (`open_work.NEEDS_PERSON`).

        It may be done elsewhere already: see `successors`.
        """
        cancelled = self.batch.state is BatchState.CANCELLED
        if row.state == RowState.UNCLEAR:
            return row.needs_person or cancelled
        if row.state == RowState.WAITING:
            return cancelled
        return row.state in (RowState.INVALID, RowState.REFUSED)

    @property
    def settled(self) -> bool:
        """True if no row will move by itself any more: what is open now stays open until a person acts."""
        return self.batch.state not in (BatchState.READING, BatchState.RUNNING)
