"""What happens to a batch once it is in the ledger: dispatched, sent, reaped, paused, resumed, cancelled, closed."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType

import structlog

from tasks import process_identity
from tasks.ledger import Ledger
from tasks.models import BatchState, RowState, Slice, Stop, StopCode
from tasks.send.sampling import Sampler
from tasks.send.send_loop import SendLoop
from tasks.send_window import Window

log = structlog.get_logger("onboard")

#: States of a batch that the same file, dropped again, is part of.
GOES_ON = (BatchState.RUNNING, BatchState.INTERRUPTED, BatchState.PAUSED, BatchState.HALTED)


def dispatch(ledger: Ledger, send: Callable[[Slice], None], window: Window | None = None) -> int:
    """Send a message for each slice that is due, a bounded number at a time; return how many.

    While the window is closed none is sent.
    """
    if window is not None and not window.is_open(ledger.now()):
        return 0
    taken = ledger.dispatch.take_due()
    for due in taken:
        send(due)
    return len(taken)


def onboard_slice(send_loop: SendLoop, ledger: Ledger, sampler: Sampler, work: Slice) -> None:
    """Do what is due in a slice, and close the batch if that was the last of it; of a new batch, ask elepay first.

    A slice that the ledger does not have is left: its message is of another ledger, or of no program of ours.
    """
    if not ledger.dispatch.has(work):
        log.warning("a message names a slice that the ledger does not have", batch=work.batch_id)
        return
    if not send_loop.draining and not sampler.lets_go(work):
        return
    send_loop.run_slice(work)
    close_finished_batch(ledger, work.batch_id)


def close_finished_batch(ledger: Ledger, batch_id: int) -> None:
    """Close the batch, or let it wait for a person, if its last (canary) row has come to an end."""
    if ledger.lifecycle.close(batch_id):
        log.info("batch finished", batch=batch_id)
    elif ledger.lifecycle.pause_after_canary(batch_id):
        log.info("canary rows have run, batch waits for approval", batch=batch_id)


def reap(ledger: Ledger, *, look_up_delay_seconds: float) -> int:
    """Take back what dead workers hold, and close batches that nobody closed; return how many rows were taken back.

    A worker of this machine whose process is gone is dead at once; any other is dead when its lease has ended.
    """
    end_dead_workers(ledger)
    reaped = ledger.reaper.reap(look_up_delay_seconds=look_up_delay_seconds)
    if reaped:
        log.warning("rows of dead workers taken back", rows=reaped)
    ledger.lifecycle.return_to_drop_folder()
    for batch_id in ledger.lifecycle.pause_overdue():
        log.warning("batch paused, its time is over", batch=batch_id)
    for batch_id in ledger.lifecycle.that_may_have_ended():
        close_finished_batch(ledger, batch_id)
    return reaped


def end_dead_workers(ledger: Ledger) -> None:
    """End the leases of this machine's processes that are gone."""
    here = process_identity.host()
    for worker, host, pid, process_started in ledger.workers.processes():
        if host == here and process_identity.is_dead(pid, process_started):
            ledger.workers.end(worker)
            log.warning("worker died", worker=worker, pid=pid)


def interrupt(ledger: Ledger, batch_id: int, who: str) -> bool:
    """Pause a batch because the command that works on it is to end; False if it is not this process's."""
    batch = ledger.batches.get(batch_id)
    if batch.runner != ledger.scope.runner:
        return False
    interrupted = ledger.lifecycle.pause(batch_id, Stop(StopCode.INTERRUPT, {"who": who, "batch": batch_id}), who)
    if interrupted:
        log.info("batch paused", batch=batch_id, why="interrupted")
    return interrupted


def pause(ledger: Ledger, batch_id: int, who: str = "") -> bool:
    """Send nothing more of a batch until it is resumed; False if it does not run."""
    paused = ledger.lifecycle.pause(batch_id, Stop(StopCode.PERSON, {"who": who, "batch": batch_id}), who)
    if paused:
        log.info("batch paused", batch=batch_id, why="by a person")
    return paused


def resume(ledger: Ledger, batch_id: int, who: str = "", *, stopped_by: StopCode | EllipsisType | None = ...) -> bool:
    """Go on with a batch that is stopped, or that nobody works on, from this process; False if it is neither.

    With `stopped_by` also if it is no longer stopped for that reason.
    """
    resumed = ledger.lifecycle.resume(batch_id, who, stopped_by=stopped_by)
    if resumed:
        log.info("batch goes on", batch=batch_id)
    return resumed


def cancel(ledger: Ledger, batch_id: int, who: str = "") -> bool:
    """Give a batch up: what was not sent never is, and another file may bring it; False if it has ended already."""
    cancelled = ledger.lifecycle.change_state(
        batch_id, BatchState.CANCELLED, Stop(StopCode.CANCELLED, {"who": who}), only_from=GOES_ON, who=who
    )
    if cancelled:
        log.info("batch cancelled", batch=batch_id)
    return cancelled


def is_over(ledger: Ledger, batch_id: int) -> bool:
    """Return whether a batch will not move any more without a person; a stopped one only when nobody holds its rows.

    An interrupted one may: the command that asks takes it (`Ledger.take`).
    """
    state = ledger.batches.get(batch_id).state
    if state in (BatchState.FINISHED, BatchState.UNUSABLE):
        return True
    if state in (BatchState.PAUSED, BatchState.HALTED, BatchState.CANCELLED):
        count = ledger.queries.count_states(batch_id)
        return not count.get(RowState.SENDING) and not count.get(RowState.CLAIMED)
    return False
