"""The memory: add, claim, advance, release, sweep, count, page.

Every method is one transaction (or one read). Several processes and machines may call any of them at any time: rows
move by compare-and-set, and a row that somebody else has moved meanwhile is left alone. On SQLite writers take turns
through a lock file besides, which keeps the worst wait a tenth of what SQLite's own retrying gives.

===========  ==================================================================
memory       is it the ledger of before, and as new: its id, its counter, and their copy in the home
patience     how long a server may be silent
postgres     PostgreSQL: every call ends, every transaction has limits, only a server that writes is used
engine       one database: connections, transactions, the clock that leases are measured by
schema       tables and constraints, the same on SQLite and PostgreSQL
migrations   the versions of the ledger
store        what the parts share: opening, versions, whose batches these are
conditions   what is asked about rows in several places
batches      batches: added, started, stopped, closed
sampling     rows of a new batch that are looked up before its first is sent
adding       records on their way in: one owner for every identity
doorbell     which slices are due
holding      a worker's rows: claimed, marked, recorded, released
held_sources no source stands for two rows
sweeping     the rescue of the abandoned; closed methods, wrong keys, witnesses
deciding     what people decide about rows
following    what became of created sources
auditing     what an audit holds against elepay
accepting    a ledger that somebody accepts as it is
forgetting   personal data of batches that ended long ago
counting     counting and paging
telling      what people are told, once through each channel
===========  ==================================================================
"""

from tasks.ledger.accepting import Accepting
from tasks.ledger.adding import ENDED_STATUSES, SETTLED_STATUSES, Adding
from tasks.ledger.auditing import AuditedRow, Auditing
from tasks.ledger.batches import WATCH, Batches
from tasks.ledger.counting import Counting, LookUpsToCome, Overview
from tasks.ledger.deciding import Deciding, UnclearRow
from tasks.ledger.doorbell import RING_AGAIN_SECONDS, RUNG_AT_ONCE, Doorbell
from tasks.ledger.following import Followed, Following, SeenStatus, SourceLine
from tasks.ledger.forgetting import Forgetting
from tasks.ledger.held_sources import SharedSource
from tasks.ledger.holding import Holding, Wave
from tasks.ledger.sampling import SampledRow
from tasks.ledger.sweeping import ClosedMethod, Sweeping, Witness
from tasks.ledger.telling import Claimed, Telling

__all__ = [
    "ENDED_STATUSES",
    "RING_AGAIN_SECONDS",
    "RUNG_AT_ONCE",
    "SETTLED_STATUSES",
    "WATCH",
    "AuditedRow",
    "Claimed",
    "ClosedMethod",
    "Followed",
    "Ledger",
    "LookUpsToCome",
    "Overview",
    "SampledRow",
    "SeenStatus",
    "SharedSource",
    "SourceLine",
    "UnclearRow",
    "Wave",
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
