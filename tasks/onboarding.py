"""The heart: accept_file, ring, onboard_slice, sweep, resume; plain functions, no Celery."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from tasks import process_identity
from tasks.accept import AcceptanceChecks, OpenedFile, Warnings, open_file, read_rows
from tasks.accept.subprocess_reader import BESIDE_BYTES, read_rows_beside
from tasks.csv_records import FileFormat, read_raw
from tasks.errors import UnusableFile
from tasks.gc_tuning import collector_at_rest
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, RowState, Slice, StopCode
from tasks.send.sampling import Sampler
from tasks.send.send_loop import SendLoop
from tasks.send_window import Window

log = structlog.get_logger("onboard")

#: States of a batch that the same file, dropped again, is part of.
GOES_ON = (BatchState.RUNNING, BatchState.INTERRUPTED, BatchState.PAUSED, BatchState.HALTED)
#: Stops after which the same file, dropped again, goes on; after all others a person looks first.
_STOPS_OF_PEOPLE = (StopCode.PERSON, StopCode.INTERRUPT, StopCode.DEADLINE)
#: How often a reader looks whether its turn has come.
TURN_SECONDS = 0.1
#: Rows that `onboard retry` brings into a batch of their own.
_RETRIED = frozenset({RowState.REFUSED, RowState.WAITING})


class Accepted(NamedTuple):
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
    window: str = ""  #: when its rows may be sent, as `window.Window` writes it
    deadline_at: float | None = None
    max_invalid_share: float = 1.0
    require_valid_row: bool = False
    refuse_finished_file: bool = False
    parent_id: int | None = None  #: the batch that this one retries; else what the file says
    progress: Callable[[int], None] = field(default=lambda _records: None)  #: called with the records read so far
    sleep: Callable[[float], None] = time.sleep


def accept_file(path: Path, *, ledger: Ledger, files: Path, rules: AcceptRules) -> Accepted:
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
    try:
        return _accept_file(path, ledger, files, rules)
    except UnusableFile as error:
        with contextlib.suppress(OSError), path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            batch_id = ledger.add_unusable_batch(path.name, sha256, reason=str(error), code=error.code)
            log.warning("file rejected", batch=batch_id, code=error.code, line=error.line)
        raise


def _accept_file(path: Path, ledger: Ledger, files: Path, rules: AcceptRules) -> Accepted:
    opened = open_file(path, rules.intake)
    _discard_dead_readings(ledger)
    if going_on := _going_on(ledger, opened, rules):
        return going_on
    copy = keep_file(path, files, opened.sha256)
    reader = register(ledger, rules.lease_seconds)
    try:
        batch_id = ledger.add_batch(
            name=path.name,
            sha256=opened.sha256,
            file_format=opened.format.to_dict(),
            reader=reader,
            parent_id=rules.parent_id or _parent(ledger, opened),
            brought_by=rules.brought_by,
            window=rules.window,
            deadline_at=rules.deadline_at,
            verify=rules.verify,
        )
        try:
            _wait_for_turn(ledger, batch_id, reader, rules)
            going_on = _going_on(ledger, opened, rules)
            if going_on is None:
                warnings = _read_into(ledger, batch_id, copy, opened, reader, rules)
        except BaseException:
            ledger.discard_batch(batch_id)
            raise
        if going_on is not None:  # dropped twice at once: the other was first
            ledger.discard_batch(batch_id)
            return going_on
    finally:
        ledger.end_worker(reader)
    log.info("batch accepted", batch=batch_id, records=ledger.batch(batch_id).records)
    if ledger.close_batch(batch_id):
        log.info("batch finished", batch=batch_id)
    return Accepted(ledger.batch(batch_id), goes_on=False, warnings=warnings)


def _going_on(ledger: Ledger, opened: OpenedFile, rules: AcceptRules) -> Accepted | None:
    """Return the unfinished batch of exactly this content, if there is one.

    It goes on, unless the breaker, a halt or the canary has stopped it; this process sends it, unless others are at it.
    """
    for batch in ledger.batches_of_file(opened.sha256):
        same_mode = batch.account.live == ledger.account.live
        if batch.state is BatchState.FINISHED and same_mode and rules.refuse_finished_file and not rules.again:
            raise UnusableFile(
                "finished_before",
                f"Exactly this file finished before, as batch {batch.id}.",
                detail=f"batch {batch.id}",
                hint=f"`onboard report {batch.id}` writes its reports again; --again makes one more source a row.",
            )
        if batch.state in GOES_ON and batch.account == ledger.account:
            ledger.set_deadline(batch.id, rules.deadline_at)
            if rules.verify:
                ledger.verify_from_now_on(batch.id)
            verified = batch.stop_code is StopCode.FORGOTTEN and rules.verify
            if verified or batch.stop_code in _STOPS_OF_PEOPLE:
                resume(ledger, batch.id)
            else:
                ledger.take(batch.id)
            return Accepted(ledger.batch(batch.id), goes_on=True, warnings=Warnings())
    return None


def _wait_for_turn(ledger: Ledger, batch_id: int, reader: int, rules: AcceptRules) -> None:
    """Wait until every batch that began before this one is read, or discarded.

    One reading at a time: a row that is skipped because another batch has its identity must never point at a batch
    that is discarded afterwards, or nobody would create it.
    """
    while ledger.is_read_before(batch_id):
        rules.progress(0)
        ledger.renew_lease(reader, rules.lease_seconds)
        rules.sleep(TURN_SECONDS)
        _discard_dead_readings(ledger)


def _discard_dead_readings(ledger: Ledger) -> None:
    end_dead_workers(ledger)
    ledger.discard_dead_readings()


def _read_into(
    ledger: Ledger, batch_id: int, copy: Path, opened: OpenedFile, reader: int, rules: AcceptRules
) -> Warnings:
    """Add every record of the file to its batch, and start it. Raises UnusableFile."""
    warnings = Warnings()
    invalid = records = 0
    read = read_rows_beside if opened.size >= BESIDE_BYTES else read_rows
    chunks = read(copy, opened, rules.intake, warnings=warnings)
    with collector_at_rest(), contextlib.closing(chunks):
        for chunk in chunks:
            records += len(chunk)
            invalid += [row.state for row in chunk].count(RowState.INVALID)
            ledger.add_rows(batch_id, chunk, again=rules.again, own_spellings=rules.own_spellings)
            ledger.renew_lease(reader, rules.lease_seconds)
            rules.progress(chunk[-1].record)
    _refuse_if_too_bad(invalid, records, rules)
    told = [[one.code, one.column, one.count, one.first_line, one.detail] for one in warnings]
    ledger.start_batch(
        batch_id, rules.slice_rows, canary_rows=rules.canary_rows, warnings=told, sample=not rules.verify
    )
    return warnings


def _refuse_if_too_bad(invalid: int, records: int, rules: AcceptRules) -> None:
    if rules.require_valid_row and invalid == records:
        raise UnusableFile(
            "no_valid_record",
            f"None of the {records:,} records is valid.",
            hint="`onboard check FILE` lists the reasons; correct them in the system that the file comes from.",
        )
    if invalid > rules.max_invalid_share * records:
        raise UnusableFile(
            "too_many_invalid",
            f"{invalid:,} of {records:,} records are invalid, more than {rules.max_invalid_share:.0%}.",
            value=f"{invalid:,}/{records:,}",
            detail=f"{rules.max_invalid_share:.0%}",
            hint="`onboard check FILE` lists the reasons; ONBOARD_MAX_INVALID_SHARE is the limit.",
        )


def keep_file(path: Path, files: Path, sha256: str) -> Path:
    """Copy a file to `files` under its checksum, whole or not at all, and return where.

    Raises UnusableFile if it is no longer what the checksum says.
    """
    files.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = kept_at(files, sha256)
    if kept.exists():
        return kept
    handle, name = tempfile.mkstemp(dir=files, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as target, path.open("rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        with Path(name).open("rb") as copied:
            if hashlib.file_digest(copied, "sha256").hexdigest() != sha256:
                raise UnusableFile(
                    "changed_while_reading",
                    "The file changed while it was being read.",
                    hint="Wait until its export has ended, then drop it again.",
                )
        Path(name).replace(kept)
    finally:
        Path(name).unlink(missing_ok=True)
    return kept


def kept_at(files: Path, sha256: str) -> Path:
    """Return where the copy of an accepted file is kept."""
    return files / f"{sha256}.csv"


def _parent(ledger: Ledger, opened: OpenedFile) -> int | None:
    """Return the batch whose failures.csv this file is, if it says so and the batch exists."""
    known = {str(batch.id): batch.id for batch in ledger.batches(1000)} if opened.parent_batches else {}
    return next((known[name] for name in opened.parent_batches if name in known), None)


def register(ledger: Ledger, lease_seconds: float, longest_request_seconds: float = 0.0) -> int:
    """Register this process in the ledger as one that will hold rows, and perhaps send them."""
    pid = os.getpid()
    return ledger.add_worker(
        process_identity.host(), pid, process_identity.started(pid), lease_seconds, longest_request_seconds
    )


def dispatch(ledger: Ledger, send: Callable[[Slice], None], window: Window | None = None) -> int:
    """Send a message for each slice that is due, a bounded number at a time; return how many.

    While the window is closed none is sent.
    """
    if window is not None and not window.is_open(ledger.now()):
        return 0
    taken = ledger.dispatch()
    for one in taken:
        send(one)
    return len(taken)


def onboard_slice(send_loop: SendLoop, ledger: Ledger, sampler: Sampler, one: Slice) -> None:
    """Do what is due in a slice, and close the batch if that was the last of it; of a new batch, ask elepay first."""
    if not send_loop.draining and not sampler.lets_go(one):
        return
    send_loop.run_slice(one)
    close_finished_batch(ledger, one.batch_id)


def close_finished_batch(ledger: Ledger, batch_id: int) -> None:
    """Close the batch, or let it wait for a person, if its last (canary) row has come to an end."""
    if ledger.close_batch(batch_id):
        log.info("batch finished", batch=batch_id)
    elif ledger.pause_after_canary(batch_id):
        log.info("canary rows have run, batch waits for approval", batch=batch_id)


def reap(ledger: Ledger, *, look_up_delay_seconds: float) -> int:
    """Take back what dead workers hold, and close batches that nobody closed; return how many rows were taken back.

    A worker of this machine whose process is gone is dead at once; of any other only its lease tells.
    """
    end_dead_workers(ledger)
    swept = ledger.reap(look_up_delay_seconds=look_up_delay_seconds)
    if swept:
        log.warning("rows of dead workers taken back", rows=swept)
    ledger.return_to_drop_folder()
    for batch_id in ledger.pause_overdue():
        log.warning("batch paused, its time is over", batch=batch_id)
    for batch_id in ledger.running_batches():
        close_finished_batch(ledger, batch_id)
    return swept


def end_dead_workers(ledger: Ledger) -> None:
    """End the leases of this machine's processes that are gone."""
    here = process_identity.host()
    for worker, host, pid, process_started in ledger.worker_processes():
        if host == here and process_identity.is_dead(pid, process_started):
            ledger.end_worker(worker)
            log.warning("worker died", worker=worker, pid=pid)


def interrupt(ledger: Ledger, batch_id: int, who: str) -> bool:
    """Pause a batch because the command that works on it was told to end; False if it is not this process's."""
    batch = ledger.batch(batch_id)
    if batch.runner != ledger.runner:
        return False
    reason = f"interrupted by {who}; the same command, or onboard resume {batch_id}, goes on"
    interrupted = ledger.pause(batch_id, StopCode.INTERRUPT, reason, who)
    if interrupted:
        log.info("batch paused", batch=batch_id, why="interrupted")
    return interrupted


def pause(ledger: Ledger, batch_id: int, who: str = "") -> bool:
    """Send nothing more of a batch until it is resumed; False if it does not run."""
    reason = f"paused by {who}; onboard resume {batch_id} goes on"
    paused = ledger.pause(batch_id, StopCode.PERSON, reason, who)
    if paused:
        log.info("batch paused", batch=batch_id, why="by a person")
    return paused


def resume(ledger: Ledger, batch_id: int, who: str = "") -> bool:
    """Go on with a batch that is stopped, or that nobody works on, from this process; False if it is neither."""
    resumed = ledger.resume_batch(batch_id, who)
    if resumed:
        log.info("batch goes on", batch=batch_id)
    return resumed


def cancel(ledger: Ledger, batch_id: int, who: str = "") -> bool:
    """Give a batch up: what was not sent never is, and another file may bring it; False if it has ended already."""
    cancelled = ledger.change_batch_state(
        batch_id, BatchState.CANCELLED, f"cancelled by {who}", only_from=GOES_ON, who=who
    )
    if cancelled:
        log.info("batch cancelled", batch=batch_id)
    return cancelled


def write_retry_file(ledger: Ledger, batch_id: int, kept: Path, target: Path) -> int:
    """Write those records of a batch's file that elepay refused, or that were never sent, as a file of their own.

    Header and records are the original bytes. Returns how many records it holds.
    """
    fmt = FileFormat.from_dict(ledger.batch(batch_id).file_format)
    newline = fmt.encode(fmt.newline)
    wanted = (row.record for row in ledger.report_rows(batch_id) if row.state in _RETRIED)
    following = next(wanted, None)
    count = 0
    with target.open("wb") as file:
        sep_line = fmt.encode(f"sep={fmt.delimiter}{fmt.newline}") if fmt.has_sep_line else b""
        file.write(fmt.bom + sep_line + fmt.encode(fmt.header_text) + newline)
        for raw in read_raw(kept, fmt):
            if raw.record == following:
                file.write(raw.raw + newline)
                count += 1
                following = next(wanted, None)
    return count


def is_over(ledger: Ledger, batch_id: int) -> bool:
    """Tell whether a batch will not move any more without a person; a stopped one only when nobody holds its rows.

    An interrupted one may: the command that asks takes it (`Ledger.take`).
    """
    state = ledger.batch(batch_id).state
    if state in (BatchState.FINISHED, BatchState.UNUSABLE):
        return True
    if state in (BatchState.PAUSED, BatchState.HALTED, BatchState.CANCELLED):
        count = ledger.count_states(batch_id)
        return not count.get(RowState.SENDING) and not count.get(RowState.CLAIMED)
    return False
