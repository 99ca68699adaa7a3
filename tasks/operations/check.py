"""A file is read as an acceptance would read it: what would become of its rows; nothing is stored, nothing is sent."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, load_mapping, open_file
from tasks.errors import LedgerError, SettingsError, UnusableFile
from tasks.files.file_store import MANIFEST
from tasks.files.local_folder import LocalFolder
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, ReportRow, RowCounts, RowState
from tasks.operations.file_policies import refusal
from tasks.operations.foreseen_rows import ForeseenTotals, foresee_rows
from tasks.operations.sendable_methods import ask
from tasks.reports.aggregates import Task
from tasks.reports.report_data import CheckFacts, Commands, FileWarning, ReportFacts
from tasks.reports.versions import program_versions
from tasks.reports.writing import FILES, write_reports
from tasks.services import Services


@dataclass(frozen=True, slots=True)
class ReportPlace:
    """Where the reports of a check go, and how they are written."""

    folder: Path
    lang: str = "en"
    excel_safe: bool = False


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What would become of a file."""

    opened: OpenedFile
    facts: ReportFacts  #: what its reports are made from, whether they are written or not
    to_send: int
    invalid: int
    repeated: int  #: skipped because their identity stands further up in the file
    skipped: Mapping[str, int]  #: code -> rows that would be skipped
    reasons: Mapping[str, int]  #: code -> how often it keeps a row from being sent
    to_do: tuple[Task, ...]  #: invalid rows by cause
    left_out: tuple[Task, ...]  #: skipped rows by cause, the most frequent first
    rows: tuple[ReportRow, ...]  #: the first invalid rows (`foreseen_rows.ROWS_KEPT`)
    warnings: Warnings
    requests_per_second: float  #: 0: no limit is set
    seconds: float | None  #: that the sending takes at this rate; None without a limit
    reports: Mapping[str, Path] = field(default_factory=dict)  #: name -> path of what was written

    @property
    def records(self) -> int:
        """How many records the file has."""
        return self.to_send + self.invalid + sum(self.skipped.values())


def check(
    services: Services,
    file: Path,
    *,
    mapping: Path | None = None,
    offline: bool = False,
    report: ReportPlace | None = None,
) -> CheckedFile:
    """Read a file; elepay is asked which payment methods this key has, unless `offline` or without a key.

    1. look at the file as a whole
    2. ask elepay, and look for a ledger to compare with; what of it fails is said, and the check goes on without
    3. read every row, and count
    4. with `report`: read every row again, into the reports

    Raises UnusableFile; SettingsError for a malformed mapping, a key of another mode, or a folder for reports that
    holds others; OSError if the reports cannot be written.
    """
    titles = load_mapping(mapping) if mapping else {}
    opened = open_file(file, services.intake_rules(mapping=titles))
    if report:
        _require_free(report.folder, file)
    methods, asked = _ask(services, offline=offline)
    rules = services.intake_rules(mapping=titles, sendable=methods)
    with _ledger(services, asked) as (ledger, facts):
        reading = _Reading(services, file, opened, rules, ledger)
        checked = reading.count(facts)
        return replace(checked, reports=reading.write(checked, report)) if report else checked


def _ask(services: Services, *, offline: bool) -> tuple[frozenset[str] | None, CheckFacts]:
    """Return the payment methods of this key, if they can be known, and what is known of the check so far."""
    if offline or services.settings.secret_key is None:
        return None, CheckFacts(time.time(), "offline" if offline else "no_key")
    answer = ask(services)
    return answer.methods, CheckFacts(time.time(), answer.why, str(answer.error or ""))


@contextlib.contextmanager
def _ledger(services: Services, facts: CheckFacts) -> Iterator[tuple[Ledger | None, CheckFacts]]:
    """Give the ledger to compare with, if there is one that can be read; none is made."""
    try:
        ledger = services.existing_ledger()
    except LedgerError:
        yield None, replace(facts, not_compared="unreadable")
        return
    if ledger is None:
        yield None, replace(facts, not_compared="absent")
        return
    try:
        yield ledger, facts
    finally:
        ledger.close()


class _Reading:
    """One file, whose rows can be read as often as they are needed."""

    def __init__(
        self, services: Services, file: Path, opened: OpenedFile, rules: AcceptanceChecks, ledger: Ledger | None
    ) -> None:
        self._services, self._file, self._opened = services, file, opened
        self._rules, self._ledger = rules, ledger

    def _rows(self, warnings: Warnings | None = None) -> Iterator[ReportRow]:
        own_spellings = self._services.settings.other_spelling == "own"
        return foresee_rows(
            self._file, self._opened, self._rules, self._ledger, own_spellings=own_spellings, warnings=warnings
        )

    def count(self, check: CheckFacts) -> CheckedFile:
        """Read every row once."""
        totals, warnings = ForeseenTotals(), Warnings()
        for row in self._rows(warnings):
            totals.add(row)
        rate, to_send = self._services.settings.requests_per_second, totals.states[RowState.WAITING]
        counts = RowCounts(
            records=totals.states.total(),
            skipped=totals.states[RowState.SKIPPED],
            invalid=totals.states[RowState.INVALID],
            open=to_send,
        )
        return CheckedFile(
            opened=self._opened,
            facts=self._facts(replace(check, refused=self._refusal(totals), same_as=self._same_as()), counts, warnings),
            to_send=to_send,
            invalid=counts.invalid,
            repeated=totals.repeated,
            skipped=totals.skipped,
            reasons=totals.reasons,
            to_do=tuple(totals.to_do),
            left_out=tuple(totals.left_out),
            rows=tuple(totals.rows),
            warnings=warnings,
            requests_per_second=rate,
            seconds=to_send / rate if rate else None,
        )

    def _refusal(self, totals: ForeseenTotals) -> UnusableFile | None:
        settings = self._services.settings
        return refusal(
            totals.invalid_alone,
            totals.states.total(),
            max_invalid_share=settings.max_invalid_share,
            require_valid_row=settings.require_valid_row,
        )

    def _same_as(self) -> int:
        """Return the newest batch that was made from exactly this file, or 0."""
        known = self._ledger.batches.of_file(self._opened.sha256) if self._ledger else []
        usable = [batch for batch in known if batch.state is not BatchState.UNUSABLE]
        return usable[0].id if usable else 0

    def _facts(self, check: CheckFacts, counts: RowCounts, warnings: Warnings) -> ReportFacts:
        """Return what reports need; the batch in it is none of the ledger."""
        settings = self._services.settings
        batch = Batch(
            id=0,
            name=_name_of(self._file),
            sha256=self._opened.sha256,
            state=BatchState.READING,
            account=self._services.account,
            records=counts.records,
            created_at=check.at,
        )
        return ReportFacts(
            batch=batch,
            counts=counts,
            file_path=self._file,
            file_format=self._opened.format,
            requests_per_second=settings.requests_per_second or None,
            warnings=[
                FileWarning(each.code, each.column, each.count, each.first_line, each.detail) for each in warnings
            ],
            versions=program_versions(),
            time_zone=settings.time_zone,
            mask_customers=settings.mask_customers,
            check=check,
        )

    def write(self, checked: CheckedFile, report: ReportPlace) -> dict[str, Path]:
        """Read every row once more, into the reports of a run: its rows that would be sent are open."""
        corrected = shlex.quote(str(report.folder / FILES["failures"]))
        return write_reports(
            LocalFolder(report.folder),
            replace(checked.facts, commands=Commands(f"onboard run {corrected}", "", "")),
            self._rows,
            lang=report.lang,
            excel_safe=report.excel_safe,
        )


def _name_of(file: Path) -> str:
    """Return a file's name as text, its bytes that are not UTF-8 as escapes."""
    return os.fsencode(file.name).decode("utf-8", "backslashreplace")


def _require_free(folder: Path, file: Path) -> None:
    """Raise SettingsError if a folder holds reports that are not those of an earlier check of this file."""
    store = LocalFolder(folder)
    there = [name for name in (*FILES.values(), MANIFEST) if store.get(name)]
    if there and not _is_of_check(store.get(MANIFEST), _name_of(file)):
        raise SettingsError(
            "{folder} holds {name}, which is not of a check of {file}: name another folder (--report)",
            folder=folder,
            name=there[0],
            file=_name_of(file),
        )


def _is_of_check(manifest: Path | None, name: str) -> bool:
    """Return whether a manifest is that of an earlier check of a file of this name."""
    try:
        said: Any = orjson.loads(manifest.read_bytes()) if manifest else None
        return bool(said["check"]) and said["file"]["name"] == name
    except (OSError, ValueError, KeyError, TypeError):
        return False
