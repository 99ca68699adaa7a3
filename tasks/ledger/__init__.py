"""The memory: add, claim, mark, record, release, reap, count.

Every method is one transaction (or one read). Several processes and machines may call any of them at any time: rows
move by compare-and-set, and a row that somebody else has moved meanwhile is left alone. On SQLite writers take turns
through a lock file besides, which keeps the worst wait a tenth of what SQLite's own retrying gives.

============  ==================================================================
memory        is it the ledger of before, and as new: its id, its counter, and their copy in the home
timeouts      how long a server may be silent
postgres      PostgreSQL: every call ends, every transaction has limits, only a server that writes is used
engine        one database: connections, transactions, the clock that leases are measured by
schema        tables and constraints, the same on SQLite and PostgreSQL
migrations    the versions of the ledger
store         what the parts share: opening, versions, whose batches these are
conditions    what is asked about rows in several places
batches       batches: added, started, stopped, closed
sampling      rows of a new batch that are looked up before its first is sent
insert_rows   records on their way in: one owner for every identity
dispatch      which slices are due
leases        a worker's rows: claimed, marked, recorded, released
held_sources  no source stands for two rows
reaper        recovers rows of dead workers; closed methods, wrong keys, witnesses
resolution    what people decide about rows
follow_up     what became of created sources
audit_rows    what an audit compares with elepay
acceptance    a ledger that somebody accepts as it is
retention     personal data of batches that ended long ago
queries       counting and paging
outbox        what people are told, once through each channel
============  ==================================================================
"""

from tasks.ledger.acceptance import Accepting
from tasks.ledger.audit_rows import AuditedRow, Auditing
from tasks.ledger.batches import WATCH, Batches
from tasks.ledger.dispatch import DISPATCH_AGAIN_SECONDS, DISPATCHED_AT_ONCE, Doorbell
from tasks.ledger.follow_up import Following, FollowUpRow, SourceLine, StatusObservation
from tasks.ledger.held_sources import SharedSource
from tasks.ledger.insert_rows import Adding
from tasks.ledger.leases import Holding, WaveResult
from tasks.ledger.outbox import ClaimedDelivery, Telling
from tasks.ledger.queries import Counting, LookUpsToCome, Overview
from tasks.ledger.reaper import ClosedMethod, Sweeping, Witness
from tasks.ledger.resolution import Deciding, UnclearRow
from tasks.ledger.retention import Forgetting
from tasks.ledger.sampling import SampledRow
from tasks.models import ENDED_STATUSES, SETTLED_STATUSES

__all__ = [
    "DISPATCHED_AT_ONCE",
    "DISPATCH_AGAIN_SECONDS",
    "ENDED_STATUSES",
    "SETTLED_STATUSES",
    "WATCH",
    "AuditedRow",
    "ClaimedDelivery",
    "ClosedMethod",
    "FollowUpRow",
    "Ledger",
    "LookUpsToCome",
    "Overview",
    "SampledRow",
    "SharedSource",
    "SourceLine",
    "StatusObservation",
    "UnclearRow",
    "WaveResult",
    "Witness",
]


class Ledger(
    Batches,
    Adding,
    Doorbell,
    Holding,
    Sweeping,
    Deciding,
    Following,
    Auditing,
    Accepting,
    Forgetting,
    Counting,
    Telling,
):
    """The ledger behind one SQLAlchemy URL; `Ledger.open(url)` makes its tables if there are none."""
