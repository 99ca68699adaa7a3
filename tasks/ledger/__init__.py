"""The memory: add, claim, mark, record, release, reap, count.

Every method is one transaction (or one read). Several processes and machines may call any of them at any time: rows
move by compare-and-set, and a row that somebody else has moved meanwhile is left alone. On SQLite writers take turns
through a lock file besides, which keeps the worst wait a tenth of what SQLite's own retrying gives.

`Ledger` is made of parts, one a concern (`ledger.leases.claim(…)`). A method of a part that takes a connection is a
step of its caller's transaction.

===============  ==================================================================
ledger           the ledger as a whole: opened, made, upgraded, closed
scope            what every part is given: database, account, whose batches these are
engine           one database: connections, transactions, the clock that leases are measured by
timeouts         how long a server may be silent
write_lock       one writer at a time, on SQLite: a lock file
postgres         PostgreSQL: every call ends, every transaction has limits, only a server that writes is used
memory           is it the ledger of before, and as new: its id, its counter, and their copy in the home
schema           tables and constraints, the same on SQLite and PostgreSQL
migrations       the versions of the ledger
conditions       what is asked about rows in several places
batches          batches: added, found, discarded
lifecycle        the life of a batch: started, stopped, resumed, closed
insert_rows      records on their way in: one owner for every identity
sampling         rows of a new batch that are looked up before its first is sent
dispatch         which slices are due
worker_leases    processes that hold rows, and their leases
leases           a worker's rows: claimed, marked, recorded, released
outcome_writes   outcomes on their way into the ledger
held_sources     no source stands for two rows
reaper           recovers rows leased by dead workers
batch_guards     closed payment methods, and answers that are about the key
control_sources  rows whose source elepay surely has
resolution       what people decide about rows
follow_up        what became of created sources
work_matching    which open rows the rows of a new batch take up
open_work        rows that need a person, over all batches
open_causes      the same by cause: how many rows, and the first of them
finder           rows by customer, source or reference
listing          batches and rows page by page, for people who look through them
audit_rows       what an audit compares with elepay
acceptance       a ledger that somebody accepts as it is
retention        personal data of batches that ended long ago
history          what happened to batches and rows, and who did it
queries          counting and paging
sessions         who is signed in to the console
outbox           notifications: each delivered once through each channel
===============  ==================================================================
"""

from tasks.ledger.audit_rows import AuditedRow
from tasks.ledger.batch_guards import ClosedMethod
from tasks.ledger.batches import WATCH
from tasks.ledger.control_sources import ControlSource
from tasks.ledger.dispatch import DISPATCH_AGAIN_SECONDS, DISPATCHED_AT_ONCE
from tasks.ledger.finder import CustomerIndex, FoundRow
from tasks.ledger.follow_up import FollowUpRow, SourceLine, StatusObservation
from tasks.ledger.held_sources import SharedSource
from tasks.ledger.leases import MarkResult
from tasks.ledger.ledger import Ledger
from tasks.ledger.lifecycle import Approval
from tasks.ledger.listing import BatchFilter, ListedRow, RowFilter
from tasks.ledger.open_causes import OpenExample
from tasks.ledger.open_work import OpenCounts, OpenRow
from tasks.ledger.outbox import ClaimedDelivery
from tasks.ledger.queries import LookUpsToCome, Overview, RowTimes
from tasks.ledger.resolution import DoubtTimes, UnclearRow
from tasks.ledger.sampling import SampledRow
from tasks.ledger.sessions import Session
from tasks.models import ENDED_STATUSES, SETTLED_STATUSES

__all__ = [
    "DISPATCHED_AT_ONCE",
    "DISPATCH_AGAIN_SECONDS",
    "ENDED_STATUSES",
    "SETTLED_STATUSES",
    "WATCH",
    "Approval",
    "AuditedRow",
    "BatchFilter",
    "ClaimedDelivery",
    "ClosedMethod",
    "ControlSource",
    "CustomerIndex",
    "DoubtTimes",
    "FollowUpRow",
    "FoundRow",
    "Ledger",
    "ListedRow",
    "LookUpsToCome",
    "MarkResult",
    "OpenCounts",
    "OpenExample",
    "OpenRow",
    "Overview",
    "RowFilter",
    "RowTimes",
    "SampledRow",
    "Session",
    "SharedSource",
    "SourceLine",
    "StatusObservation",
    "UnclearRow",
]
