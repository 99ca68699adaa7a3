"""A file becomes a batch of the ledger: read, checked, kept, and never taken twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, load_mapping, open_file, read_rows
from tasks.accept.subprocess_reader import BESIDE_BYTES, read_rows_beside
from tasks.errors import SettingsError, UnusableFile
from tasks.files.file_store import FileStore, accepted_name
from tasks.gc_tuning import collector_at_rest
from tasks.ledger import WATCH, CustomerIndex, Ledger
from tasks.models import Batch, BatchState, NewRow, RowState, StopCode
from tasks.operations.batch_lifecycle import GOES_ON, end_dead_workers, resume
from tasks.operations.file_policies import refusal
from tasks.operations.four_eyes import STOPS_OF_PEOPLE, Deed, FourEyes
from tasks.operations.sendable_methods import sendable_methods
from tasks.services import Services, register_process
from tasks.stop_texts import stop_of_file

log = structlog.get_logger("onboard")

#: How often a reader looks whether its turn has come.
TURN_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Accepted:
    """A file that is in the ledger."""

    batch: Batch
    goes_on: bool  #: it was there before, unfinished
    warnings: Warnings


@dataclass(frozen=True, slots=True)
class AcceptRules:
    """The settings that decide about a file."""

    intake: AcceptanceChecks
    slice_rows: int
    lease_seconds: float
    again: bool = False
    own_spellings: bool = False  #: a row whose identity is known in another spelling is sent as its own
    verify: bool = False  #: the ledger may have been lost: look every identity up before it is sent
    canary_rows: int = 0
    brought_by: str = ""  #: the command that accepts it
    who: str = ""  #: who gave that command
    window: str = ""  #: when its rows may be sent, as `window.Window` writes it
    deadline_at: float | None = None
    max_invalid_share: float = 1.0
    require_valid_row: bool = False
    refuse_finished_file: bool = False
    parent_id: int | None = None  #: the batch that this one retries; else what the file says
    four_eyes: FourEyes = field(default_factory=FourEyes)
    progress: Callable[[int], None] = field(default=lambda _records: None)  #: called with the records read so far
    sleep: Callable[[float], None] = time.sleep


def accept(
    services: Services,
    path: Path,
    *,
    who: str,
    brought_by: str,
    mapping: Path | None = None,
    canary: int | None = None,
    again: bool = False,
    verify_first: bool = False,
    deadline_at: float | None = None,
    parent_id: int | None = None,
    progress: Callable[[int], None] = lambda _records: None,
) -> Accepted:
    """Bring a file into the ledger as this installation's settings say, and let it run; see `accept_file`.

    `brought_by` is the command that brings it, `canary` how many rows run before a person approves the rest (None: as
    the settings say). Whatever `progress` raises ends the reading, and leaves nothing of the file in the ledger.
    Raises UnusableFile; SettingsError for a malformed mapping or a key that elepay does not take; SecondPersonNeeded.
    """
    settings = services.settings
    rules = AcceptRules(
        intake=_intake(services, mapping),
        slice_rows=settings.slice_rows,
        lease_seconds=settings.lease_seconds,
        again=again,
        own_spellings=settings.other_spelling == "own",
        verify=verify_first or settings.verify_first,
        canary_rows=settings.canary if canary is None else canary,
        brought_by=brought_by,
        who=who,
        window=str(settings.window),
        deadline_at=deadline_at,
        max_invalid_share=settings.max_invalid_share,
        require_valid_row=settings.require_valid_row,
        refuse_finished_file=settings.refuse_finished_file,
        parent_id=parent_id,
        four_eyes=FourEyes.of(settings),
        progress=progress,
    )
    return accept_file(path, ledger=services.ledger, files=services.files, rules=rules)


def _intake(services: Services, mapping: Path | None) -> AcceptanceChecks:
    return services.intake_rules(mapping=load_mapping(mapping) if mapping else {}, sendable=sendable_methods(services))


def count_with_source(services: Services, path: Path, *, mapping: Path | None = None) -> int:
    """Return of how many identities of a file `again` would make one more source; nothing is stored.

    0 if the file goes on with an unfinished batch, or cannot be used. Raises SettingsError as `accept` does.
    """
    ledger, intake = services.ledger, _intake(services, mapping)
    holders: set[int] = set()
    try:
        opened = open_file(path, intake)
        if any(_goes_on(ledger, batch) for batch in ledger.batches.of_file(opened.sha256)):
            return 0
        with contextlib.closing(_reader(opened)(path, opened, intake, warnings=Warnings())) as chunks:
            for chunk in chunks:  # one number each: a file may have a million
                holders.update(batch_id << 40 | record for batch_id, record in ledger.rows.holders_of(chunk))
    except UnusableFile:
        return 0
    return len(holders)


def accept_file(path: Path, *, ledger: Ledger, files: FileStore, rules: AcceptRules) -> Accepted:
    """Bring a dropped file into the ledger and let it run.

    1. look at the file as a whole
    2. if exactly this content is in an unfinished batch, go on with that one
    3. keep a copy under its checksum: it is what is read, and what the reports are made from
    4. wait until files that were dropped before are read
    5. add its records chunk by chunk, `waiting`, `invalid` or `skipped`
    6. cut it into slices that are due

    Raises UnusableFile; of such a file only a batch in state `unusable` stays in the ledger. A reader that dies in the
    middle leaves a batch that the next call discards.
    """
    person = _person(ledger, rules)
    try:
        return _accept_file(path, ledger, files, rules, person)
    except UnusableFile as error:
        with contextlib.suppress(OSError), path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            batch_id = ledger.batches.add_unusable(_name_of(path), sha256, stop=stop_of_file(error), code=error.code)
            log.warning("file rejected", batch=batch_id, code=error.code, line=error.line)
        raise


def _name_of(path: Path) -> str:
    """Return a file's name as text, its bytes that are not UTF-8 as escapes."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def _person(ledger: Ledger, rules: AcceptRules) -> str | None:
    """Return the key of who brings a file; None of a drop folder's. Raises SecondPersonNeeded, SettingsError."""
    rule = rules.four_eyes
    if rule.is_on and rules.canary_rows > rule.most_canary_rows:
        raise SettingsError(
            "with ONBOARD_FOUR_EYES at most {most} rows run before somebody has approved: ONBOARD_CANARY says how many",
            most=rule.most_canary_rows,
        )
    if rules.brought_by == WATCH:
        return None
    return rule.require_person(ledger, Deed.BRING, rules.who) if rule.is_on else rule.person(rules.who)


def _accept_file(path: Path, ledger: Ledger, files: FileStore, rules: AcceptRules, person: str | None) -> Accepted:
    opened = open_file(path, rules.intake)
    _discard_dead_readings(ledger)
    if going_on := _going_on(ledger, opened, rules):
        keep_file(path, files, opened.sha256)  # another machine may have accepted it: the reports are made here, too
        return going_on
    copy = keep_file(path, files, opened.sha256)
    reader = register_process(ledger, rules.lease_seconds)
    try:
        batch_id = ledger.batches.add(
            name=_name_of(path),
            sha256=opened.sha256,
            file_format=opened.format.to_dict(),
            reader=reader,
            parent_id=rules.parent_id or _parent(ledger, opened),
            brought_by=rules.brought_by,
            window=rules.window,
            deadline_at=rules.deadline_at,
            verify=rules.verify,
            who=rules.who,
            person=person,
            four_eyes=rules.four_eyes.is_on,
        )
        try:
            _wait_for_turn(ledger, batch_id, reader, rules)
            going_on = _going_on(ledger, opened, rules)
            if going_on is None:
                warnings = _read_into(ledger, batch_id, copy, opened, reader, rules)
        except BaseException:
            ledger.batches.discard(batch_id)
            raise
        if going_on is not None:  # dropped twice at once: the other was first
            ledger.batches.discard(batch_id)
            return going_on
    finally:
        ledger.workers.end(reader)
    log.info("batch accepted", batch=batch_id, records=ledger.batches.get(batch_id).records, who=rules.who)
    if ledger.lifecycle.close(batch_id):
        log.info("batch finished", batch=batch_id)
    return Accepted(ledger.batches.get(batch_id), goes_on=False, warnings=warnings)


def _going_on(ledger: Ledger, opened: OpenedFile, rules: AcceptRules) -> Accepted | None:
    """Return the unfinished batch of exactly this content, if there is one.

    It goes on, unless the breaker, a halt or the canary has stopped it; this process sends it, unless others are at it.
    """
    for batch in ledger.batches.of_file(opened.sha256):
        same_mode = batch.account.live == ledger.account.live
        if batch.state is BatchState.FINISHED and same_mode and rules.refuse_finished_file and not rules.again:
            raise UnusableFile(
                "finished_before",
                f"Exactly this file finished before, as batch {batch.id}.",
                detail=f"batch {batch.id}",
                hint=f"`onboard report {batch.id}` writes its reports again. If sources were deleted since, `onboard"
                f" audit {batch.id}` records that; then `ONBOARD_REFUSE_FINISHED_FILE=0 onboard run FILE` creates"
                " exactly the missing ones.",
            )
        if _goes_on(ledger, batch):
            verified = batch.stop_code is StopCode.FORGOTTEN and rules.verify
            if verified:
                rules.four_eyes.require_resumer(ledger, batch, rules.who)
            ledger.lifecycle.set_deadline(batch.id, rules.deadline_at)
            if rules.verify:
                ledger.lifecycle.verify_from_now_on(batch.id)
            if verified or batch.stop_code in STOPS_OF_PEOPLE:
                resume(ledger, batch.id, rules.who, stopped_by=batch.stop_code)
            else:
                ledger.lifecycle.take(batch.id)
            return Accepted(ledger.batches.get(batch.id), goes_on=True, warnings=Warnings())
    return None


def _goes_on(ledger: Ledger, batch: Batch) -> bool:
    return batch.state in GOES_ON and batch.account == ledger.account


def _reader(opened: OpenedFile) -> Callable[..., Generator[list[NewRow], None, None]]:
    return read_rows_beside if opened.size >= BESIDE_BYTES else read_rows


def _wait_for_turn(ledger: Ledger, batch_id: int, reader: int, rules: AcceptRules) -> None:
    """Wait until every batch that began before this one is read, or discarded.

    One reading at a time: a row that is skipped because another batch has its identity must never point at a batch
    that is discarded afterwards, or nobody would create it.
    """
    while ledger.batches.is_read_before(batch_id):
        rules.progress(0)
        ledger.workers.renew(reader, rules.lease_seconds)
        rules.sleep(TURN_SECONDS)
        _discard_dead_readings(ledger)


def _discard_dead_readings(ledger: Ledger) -> None:
    end_dead_workers(ledger)
    ledger.batches.discard_dead_readings()


def _read_into(
    ledger: Ledger, batch_id: int, copy: Path, opened: OpenedFile, reader: int, rules: AcceptRules
) -> Warnings:
    """Add every record of the file to its batch, and start it. Raises UnusableFile."""
    warnings = Warnings()
    invalid = records = 0
    matcher, customers = ledger.work_matching.matcher(batch_id), CustomerIndex()
    chunks = _reader(opened)(copy, opened, rules.intake, warnings=warnings)
    with collector_at_rest(), contextlib.closing(chunks):
        for chunk in chunks:
            if rules.again and rules.four_eyes.is_on:
                _require_stranger_to(ledger, chunk, rules)
            records += len(chunk)
            invalid += [row.state for row in chunk].count(RowState.INVALID)
            ledger.rows.add(batch_id, chunk, again=rules.again, own_spellings=rules.own_spellings)
            matcher.look_at(chunk)
            customers.add(chunk)
            ledger.workers.renew(reader, rules.lease_seconds)
            rules.progress(chunk[-1].record)
    share, needs_one = rules.max_invalid_share, rules.require_valid_row
    if refused := refusal(invalid, records, max_invalid_share=share, require_valid_row=needs_one):
        raise refused
    ledger.finder.file(batch_id, customers)
    warned = [[each.code, each.column, each.count, each.first_line, each.detail] for each in warnings]
    ledger.lifecycle.start(
        batch_id,
        rules.slice_rows,
        canary_rows=rules.canary_rows,
        warnings=warned,
        sample=not rules.verify,
        taken_up=matcher.taken_up(),
        needs_approval=rules.four_eyes.is_on,
    )
    return warnings


def _require_stranger_to(ledger: Ledger, chunk: Sequence[NewRow], rules: AcceptRules) -> None:
    """Raise SecondPersonNeeded if who would give rows one more source has brought them before."""
    for batch_id in sorted({batch_id for batch_id, _ in ledger.rows.holders_of(chunk)}):
        rules.four_eyes.require_other(ledger, ledger.batches.get(batch_id), Deed.AGAIN, rules.who)


def keep_file(path: Path, files: FileStore, sha256: str) -> Path:
    """Copy a file to `files` under its checksum, whole or not at all, and return where it can be read.

    Raises UnusableFile if it is no longer what the checksum says.
    """
    name = accepted_name(sha256)
    if kept := files.get(name):
        return kept
    with files.put(name) as target:
        with path.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
        target.seek(0)
        if hashlib.file_digest(target, "sha256").hexdigest() != sha256:
            raise UnusableFile(
                "changed_while_reading",
                "The file changed while it was being read.",
                hint="Wait until its export has ended, then run or drop it again.",
            )
    kept = files.get(name)
    assert kept
    return kept


def _parent(ledger: Ledger, opened: OpenedFile) -> int | None:
    """Return the batch whose failures.csv this file is, if it says so and the batch exists."""
    known = {str(batch.id): batch.id for batch in ledger.batches.newest(1000)} if opened.parent_batches else {}
    return next((known[name] for name in opened.parent_batches if name in known), None)
