"""A dropped file -> rows, and the rows that cannot be sent.

::

    open_file    the file as a whole: how it is written, its columns, its checksum; or UnusableFile
    read_rows    every record as a NewRow, `waiting` or `invalid`, a chunk at a time

=================  =======================================================
subprocess_reader  the same for a large file, read in a process of its own
columns            which column is what; the mapping file
misread_header     why a header lacks columns: titles further down, another delimiter
checks             vectorised checks of a chunk
key_checks         what may stand in the keys
record_chunk       the records under examination
footers            lines of totals
damage             keys that a spreadsheet has rewritten
blanks             blanks and invisible characters
file_warnings      reasons and warnings as data
request_codec      the request of a row as compact JSON
=================  =======================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.accept.blanks import trim
from tasks.accept.checks import check
from tasks.accept.columns import KEYS, REQUIRED, Column, column_warnings, is_guarded, load_mapping, read_columns
from tasks.accept.damage import kind_of_numbers
from tasks.accept.file_warnings import Warnings
from tasks.accept.footers import is_footer
from tasks.accept.misread_header import misread
from tasks.accept.record_chunk import Chunk, new_chunk
from tasks.accept.request_codec import compose_requests, content_of, decode_request, request_of
from tasks.csv_records import FileFormat, Record, RecordBatch, detect_format, read_batches, read_records, unguard
from tasks.elepay.catalogue import Catalogue, load_catalogue
from tasks.errors import UnusableFile
from tasks.gc_tuning import collector_at_rest
from tasks.identities import identity_of, spelling_of
from tasks.models import NewRow, Origin, Reason, RowState, encode_reasons

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AcceptanceChecks",
    "OpenedFile",
    "Warnings",
    "decode_request",
    "load",
    "load_mapping",
    "open_file",
    "read_rows",
    "request_of",
]

#: Of a dropped report: the batches that its first records name.
_BATCH_TITLE = "onboarding_batch"
#: Columns of a report that say which row a record corrects.
_ORIGIN_TITLES = (_BATCH_TITLE, "onboarding_record", "onboarding_line", "onboarding_ref")
_SAMPLE_RECORDS = 100
_MOST_PARENTS = 10


@dataclass(frozen=True, slots=True)
class AcceptanceChecks:
    """How files are read and what may stand in them."""

    encodings: tuple[str, ...] = ("utf-8-sig", "cp932")  #: tried strictly, in this order
    catalogue: Catalogue = field(default_factory=load_catalogue)
    mapping: Mapping[str, str] = field(default_factory=dict)  #: more titles, from `load_mapping`
    sendable_methods: frozenset[str] | None = None  #: of this key, by GET /payment-methods; None: not asked
    live: bool = False  #: elepay's mode: a rehearsal in test mode must not keep a row out of the live run
    send_damaged_keys: bool = False  #: send keys that a spreadsheet has rewritten as they are


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A file that can be read, before its records are."""

    format: FileFormat
    columns: tuple[Column, ...]
    sha256: str
    size: int  #: in bytes
    warnings: list[Reason]
    onboarding_columns: bool  #: it is a report of ours, dropped again
    parent_batches: tuple[str, ...]  #: what its first records say in `onboarding_batch`
    guarded: bool = False  #: its values were guarded against spreadsheets
    numbers: Mapping[str, str] = field(default_factory=dict)  #: key column -> `kind_of_numbers` of its first keys


def load() -> None:
    """Load pandas now, so that the first file does not wait for it."""
    import_module("pandas")


def open_file(path: Path, rules: AcceptanceChecks) -> OpenedFile:
    """Look at a file as a whole.

    Raises `UnusableFile` if nothing of it can be onboarded: encoding, header, columns, no record at all.
    """
    before = _version(path)
    fmt = detect_format(path, rules.encodings)
    columns = _columns(path, fmt, rules)
    sample = list(islice(read_records(path, fmt), _SAMPLE_RECORDS))
    if not sample:
        raise _no_records(fmt)
    sha256, size = _checksum(path)
    if _version(path) != before:
        raise _changed()
    return OpenedFile(
        format=fmt,
        columns=columns,
        sha256=sha256,
        size=size,
        warnings=column_warnings(columns),
        onboarding_columns=any(column.target == "own" for column in columns),
        parent_batches=_parent_batches(sample, columns),
        guarded=is_guarded(fmt),
        numbers=_numbers(sample, columns, guarded=is_guarded(fmt)),
    )


def _columns(path: Path, fmt: FileFormat, rules: AcceptanceChecks) -> tuple[Column, ...]:
    try:
        return read_columns(fmt, rules.mapping, rules.catalogue)
    except UnusableFile as error:
        if error.code == "missing_column" and (better := misread(path, fmt, rules.mapping)):
            raise better from None
        error.also = (*error.also, *_faults_of_records(path, fmt))
        raise


def _faults_of_records(path: Path, fmt: FileFormat) -> tuple[UnusableFile, ...]:
    """Return what is wrong with the first record of a file that cannot be used anyway."""
    try:
        return () if any(True for _ in read_records(path, fmt)) else (_no_records(fmt),)
    except UnusableFile as error:
        return (error,)


def _no_records(fmt: FileFormat) -> UnusableFile:
    rows = f"{fmt.empty_records:,}"
    return UnusableFile(
        "no_records",
        f"The file has a header (line {fmt.header_line}) and "
        + (f"nothing but empty rows ({rows}, from line {fmt.empty_from} on)." if fmt.empty_records else "no record."),
        line=fmt.header_line,
        hint="Export it again; if there is nothing to onboard, nothing needs to be done.",
        detail=rows if fmt.empty_records else "",
    )


def _parent_batches(sample: Sequence[Record], columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the batches that the first records name."""
    at = _place_of(_BATCH_TITLE, columns)
    if at is None:
        return ()
    named = {name: None for record in sample if (name := "".join(record.fields[at : at + 1]).strip())}
    return tuple(named)[:_MOST_PARENTS]


def _numbers(sample: Sequence[Record], columns: Sequence[Column], *, guarded: bool) -> dict[str, str]:
    """Return the key columns whose first keys are all numbers of one kind, with the kind."""
    found = {}
    for column in columns:
        if column.target in KEYS:
            at = column.at
            whole = (record.fields for record in sample if len(record.fields) == len(columns))
            keys = [trim(fields[at]) for fields in whole if not is_footer(fields)]
            found[column.target] = kind_of_numbers([unguard(key) for key in keys] if guarded else keys)
    return {target: kind for target, kind in found.items() if kind}


def _version(path: Path) -> tuple[int, ...]:
    """Return what distinguishes one content of a file from another, without reading it; () if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _checksum(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return digest, file.tell()
    except OSError as error:
        raise _changed() from error


def _changed() -> UnusableFile:
    return UnusableFile(
        "changed_while_reading",
        "The file changed while it was being read.",
        hint="Wait until its export has ended, then run or drop it again.",
    )


def read_rows(
    path: Path,
    opened: OpenedFile,
    rules: AcceptanceChecks,
    chunk_rows: int = 20_000,
    warnings: Warnings | None = None,
) -> Generator[list[NewRow], None, None]:
    """Yield a row for every record of the file, in order, `chunk_rows` at a time.

    `warnings` counts what is odd but does not keep a row from being sent. Raises `UnusableFile` if the structure breaks
    further down (an unclosed quote) or the file is not the opened one any more; what was yielded before is then void.
    """
    warnings = Warnings() if warnings is None else warnings
    digest = hashlib.sha256()
    batches = read_batches(path, opened.format, chunk_rows, on_bytes=digest.update)
    records = first_line = 0
    while rows := _next_rows(batches, opened, rules, warnings):
        first_line, records = first_line or rows[0].line, rows[-1].record
        yield rows
        del rows  # before the next ones are made
    for odd in opened.warnings:
        warnings.add(odd.code, odd.column, odd.detail, records, (1, first_line))
    warnings.add("empty_rows_at_end", "", "", opened.format.empty_records, (records + 1, opened.format.empty_from))
    if digest.hexdigest() != opened.sha256:
        raise _changed()


def _next_rows(
    batches: Iterator[RecordBatch], opened: OpenedFile, rules: AcceptanceChecks, warnings: Warnings
) -> list[NewRow]:
    """Return the rows of the next batch of records, or none at the end."""
    with collector_at_rest():
        batch = next(batches, None)
        if batch is None:
            return []
        chunk = new_chunk(batch, opened.columns, warnings, guarded=opened.guarded)
        sendable, send_damaged = rules.sendable_methods, rules.send_damaged_keys
        check(chunk, rules.catalogue, sendable, opened.numbers, send_damaged=send_damaged)
        return _with_origins(_rows_of(chunk, rules), chunk)


def _with_origins(rows: list[NewRow], chunk: Chunk) -> list[NewRow]:
    """Return the rows of a report that was corrected with the rows of former batches that they correct."""
    places = [at for title in _ORIGIN_TITLES if (at := _place_of(title, chunk.columns)) is not None]
    if len(places) < len(_ORIGIN_TITLES):
        return rows
    return [row._replace(origin=_origin(fields, places)) for row, fields in zip(rows, chunk.batch.fields, strict=True)]


def _place_of(title: str, columns: Sequence[Column]) -> int | None:
    return next((column.at for column in columns if column.title.casefold() == title), None)


def _origin(fields: Sequence[str], places: Sequence[int]) -> Origin | None:
    """Return the row that a record says it corrects; None if it names none."""
    *numbers, reference = ["".join(fields[at : at + 1]).strip() for at in places]
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        return None
    batch, record, line = map(int, numbers)
    return Origin(batch, record, line, reference)


def _rows_of(chunk: Chunk, rules: AcceptanceChecks) -> list[NewRow]:
    if not chunk.reasons:
        return _waiting_rows(chunk, list(range(len(chunk.batch))), live=rules.live)
    valid = [at for at in range(len(chunk.batch)) if at not in chunk.reasons]
    rows = dict(zip(valid, _waiting_rows(chunk, valid, live=rules.live), strict=True))
    rows.update(_invalid_rows(chunk, rules.catalogue, live=rules.live))
    return [rows[at] for at in range(len(chunk.batch))]


def _waiting_rows(chunk: Chunk, positions: list[int], *, live: bool) -> list[NewRow]:
    """Return the rows at `positions`, column by column."""
    batch: RecordBatch = chunk.batch
    frame = chunk.frame if len(positions) == len(batch) else chunk.frame.iloc[positions]
    customers, methods, resources = (_values(chunk, frame, target) for target in REQUIRED)
    references = _values(chunk, frame, "reference")
    requests = compose_requests(frame, chunk.columns)
    count = len(positions)
    return list(
        map(
            NewRow,
            map(batch.first_record.__add__, positions),
            map(batch.lines.__getitem__, positions),
            [RowState.WAITING.value] * count,
            map(identity_of, customers, methods, resources, references, [live] * count),
            customers,
            methods,
            resources,
            requests,
            map(content_of, requests),
            [None] * count,
            _spellings(customers, methods, resources, references),
        )
    )


def _spellings(*keys: list[str]) -> list[bytes | None]:
    """Return `spelling_of` of each row; where everything is ASCII, without a look at each."""
    if all("".join(values).isascii() for values in keys):
        return [None] * len(keys[0])
    return list(map(spelling_of, *keys))


def _values(chunk: Chunk, frame: pd.DataFrame, target: str) -> list[str]:
    column = chunk.column(target)
    return [""] * len(frame) if column is None else frame[column.at].tolist()


def _invalid_rows(chunk: Chunk, catalogue: Catalogue, *, live: bool) -> Iterator[tuple[int, NewRow]]:
    """Yield the rows that are not sent, with their positions; what is sound of their keys is kept, for the reports.

    A row keeps what it says as well, by which the same row of a later file is recognised.
    """
    values = [_values(chunk, chunk.frame, target) for target in (*REQUIRED, "reference")]
    customers, methods, resources, _ = values
    keys = {column.name for target in (*REQUIRED, "reference") if (column := chunk.column(target))}
    of_the_file = [column.at for column in chunk.columns if column.target != "own"]
    column = chunk.column("customer_id")
    for at, reasons in chunk.reasons.items():
        broken = at in chunk.broken
        faulty = broken or column is None or any(reason.column == column.name for reason in reasons)
        sound = not broken and at not in chunk.more and keys.isdisjoint(reason.column for reason in reasons)
        fields = chunk.batch.fields[at]
        said = (
            [each[at] for each in values]
            if not faulty
            else [fields[place] for place in of_the_file if place < len(fields)]
        )
        yield (
            at,
            NewRow(
                record=chunk.batch.first_record + at,
                line=chunk.batch.lines[at],
                state=RowState.INVALID.value,
                identity=None,
                customer_id=None if faulty else customers[at],
                payment_method=methods[at] if methods[at] in catalogue.methods else None,
                resource=resources[at] if resources[at] in catalogue.resources else None,
                request=None,
                content=None,
                reasons=encode_reasons(reasons),
                intended_identity=_intended(said, sound=sound, live=live),
            ),
        )


def _intended(said: Sequence[str], *, sound: bool, live: bool) -> bytes:
    """Return the identity of an invalid row whose keys are sound; of any other a digest of what it says.

    That is its keys as they stand, or all of its fields if even the customer cannot be read.
    """
    if sound:
        customer, method, resource, reference = said
        return identity_of(customer, method, resource, reference, live)
    return hashlib.blake2b("\x1f".join(said).encode(), digest_size=8).digest()
