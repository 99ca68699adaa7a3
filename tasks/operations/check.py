"""A file is read as an acceptance would read it: what would become of its rows; nothing is stored, nothing is sent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, load_mapping, open_file, read_rows
from tasks.models import NewRow, Reason, RowState, decode_reasons
from tasks.operations.sendable_methods import sendable_methods
from tasks.services import Services

#: Reasons that are returned one by one; the rest is counted.
EXAMPLES = 20


class RejectedRow(NamedTuple):
    """A row that cannot be sent, and one of its reasons."""

    record: int
    line: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What would become of a file."""

    opened: OpenedFile
    to_send: int
    invalid: int
    repeated: int  #: stand earlier in the file
    reasons: Mapping[str, int]  #: code -> how often
    examples: tuple[RejectedRow, ...]
    warnings: Warnings
    requests_per_second: float  #: 0: no limit is set
    seconds: float | None  #: that the sending takes at this rate; None without a limit

    @property
    def records(self) -> int:
        """How many records the file has."""
        return self.to_send + self.invalid + self.repeated


def check(services: Services, file: Path, *, mapping: Path | None = None, offline: bool = False) -> CheckedFile:
    """Read a file; elepay is asked which payment methods this key has, unless `offline` or without a key.

    Raises UnusableFile; SettingsError for a malformed mapping or a key that elepay does not take.
    """
    settings = services.settings
    rules = services.intake_rules(
        mapping=load_mapping(mapping) if mapping else {},
        sendable=None if offline or settings.secret_key is None else sendable_methods(services),
    )
    opened = open_file(file, rules)
    reading = _Reading(own_spellings=settings.other_spelling == "own")
    reading.read(file, opened, rules)
    rate = settings.requests_per_second
    return CheckedFile(
        opened=opened,
        to_send=reading.identities.to_send,
        invalid=reading.invalid,
        repeated=reading.identities.repeated,
        reasons=reading.reasons,
        examples=tuple(reading.examples),
        warnings=reading.warnings,
        requests_per_second=rate,
        seconds=reading.identities.to_send / rate if rate else None,
    )


class _Reading:
    """What the rows of a file come to, row by row."""

    def __init__(self, *, own_spellings: bool) -> None:
        self.identities = _Identities(own_spellings=own_spellings)
        self.invalid = 0
        self.reasons: Counter[str] = Counter()
        self.examples: list[RejectedRow] = []
        self.warnings = Warnings()

    def read(self, file: Path, opened: OpenedFile, rules: AcceptanceChecks) -> None:
        for chunk in read_rows(file, opened, rules, warnings=self.warnings):
            for row in chunk:
                self._add(row)

    def _add(self, row: NewRow) -> None:
        reasons = decode_reasons(row.reasons) if row.state == RowState.INVALID else self.identities.add(row)
        for reason in reasons:
            self.reasons[reason.code] += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(RejectedRow(row.record, row.line, reason))
        self.invalid += bool(reasons)


class _Identities:
    """The identities of a file so far, as the ledger would take them in if it were empty."""

    def __init__(self, *, own_spellings: bool) -> None:
        self.to_send = 0
        self.repeated = 0
        self._own_spellings = own_spellings
        self._lines: dict[bytes, int] = {}
        self._spelled: dict[bytes, set[bytes | None]] = {}  # without those whose only spelling is the folded one

    def add(self, row: NewRow) -> tuple[Reason, ...]:
        """Count a row that can be sent; return why it cannot if its identity is there in another spelling."""
        name = _short(row.identity or b"")
        line = self._lines.setdefault(name, row.line)
        spellings = self._spelled.get(name, {None})
        if line != row.line and row.spelling in spellings:
            self.repeated += 1
            return ()
        if line != row.line and not self._own_spellings:
            return (Reason("other_spelling", detail=f"line {line}"),)
        if line != row.line:
            self._spelled[name] = spellings | {row.spelling}
        elif row.spelling:
            self._spelled[name] = {row.spelling}
        self.to_send += 1
        return ()


def _short(identity: bytes) -> bytes:
    """Return eight bytes: a million of them fit into memory, and a wrong match only shifts a forecast."""
    return hashlib.blake2b(identity, digest_size=8).digest()
