"""What may pass now is tried again: unclear rows where they are, refused and unsent ones in a batch of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tasks.csv_records import FileFormat, read_raw
from tasks.errors import LedgerError
from tasks.ledger import Ledger
from tasks.models import Batch, BatchState, RowState
from tasks.operations.accept_batch import accept
from tasks.operations.batch_status import require_account, state_word
from tasks.operations.four_eyes import Deed, FourEyes
from tasks.services import Services

#: States of rows that are brought into a batch of their own.
_SENT_AGAIN = frozenset({RowState.REFUSED, RowState.WAITING})


@dataclass(frozen=True, slots=True)
class Retried:
    """What is tried again."""

    sent_again: int  #: rows, in the child batch
    looked_up: int  #: unclear rows, in the batch itself
    child: Batch | None  #: the batch of the rows that are sent again

    def batches(self, batch_id: int) -> list[int]:
        """Return the numbers of the batches that have something to do: the one that is retried, its child."""
        return [*([batch_id] if self.looked_up else []), *([self.child.id] if self.child else [])]


def require_retryable(services: Services, batch_id: int) -> Batch:
    """Return a batch that may be retried. Raises LedgerError if it may not."""
    batch = services.ledger.batches.get(batch_id)
    if batch.state not in (BatchState.FINISHED, BatchState.CANCELLED):
        raise LedgerError(
            "batch {batch} is {state}: only a finished or cancelled batch can be retried",
            batch=batch_id,
            state=state_word(batch.state),
        )
    if dropped := services.dropped(batch):
        raise LedgerError("{dropped}: it cannot be retried", dropped=dropped)
    require_account(services, batch)
    return batch


def retry(
    services: Services,
    batch_id: int,
    *,
    who: str,
    planned: Callable[[int, int], None] = lambda _sent_again, _looked_up: None,
    progress: Callable[[int], None] = lambda _records: None,
) -> Retried:
    """Try a batch again; `planned` is called with the two numbers before the child batch is read.

    Raises LedgerError if no row could be tried again, or as `require_retryable`; UnusableFile.
    """
    batch = require_retryable(services, batch_id)
    rule = FourEyes.of(services.settings)
    if rule.covers(batch):
        rule.require_person(services.ledger, Deed.RETRY, who, batch_id)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"retry-of-{batch_id}.csv"
        sent_again = write_retry_file(services.ledger, batch_id, services.kept_file(batch), file)
        looked_up = services.ledger.resolution.count_to_look_up(batch_id) if batch.state is BatchState.FINISHED else 0
        if not sent_again and not looked_up:
            raise LedgerError("batch {batch} has no row that could be tried again", batch=batch_id)
        planned(sent_again, looked_up)
        child = None
        if sent_again:
            accepted = accept(
                services,
                file,
                who=who,
                brought_by="retry",
                verify_first=batch.verify,
                parent_id=batch_id,
                progress=progress,
            )
            child = accepted.batch
    if looked_up:  # last: it lets the batch run again, and one that runs cannot be retried after a kill in the middle
        looked_up = services.ledger.resolution.look_up_again(batch_id, who)
    return Retried(sent_again, looked_up, child)


def write_retry_file(ledger: Ledger, batch_id: int, kept: Path, target: Path) -> int:
    """Write those records of a batch's file that elepay refused, or that were never sent, as a file of their own.

    Header and records are the original bytes. Returns how many records it holds.
    """
    fmt = FileFormat.from_dict(ledger.batches.get(batch_id).file_format)
    newline = fmt.encode(fmt.newline)
    wanted = (row.record for row in ledger.queries.report_rows(batch_id) if row.state in _SENT_AGAIN)
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
