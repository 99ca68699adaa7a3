"""The ledger's tables and constraints (SQLAlchemy Core), the same on SQLite and PostgreSQL.

Times are UTC epoch seconds. What elepay was asked to create stands in `rows.request`; what it answered is kept as ids,
states and codes only.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    or_,
)

from tasks.models import OWNING_STATES

metadata = MetaData()

#: The migration that makes these tables (`tasks/migrations`); code and ledger must agree on it.
VERSION = "0001"

#: 64 bits on PostgreSQL; on SQLite only INTEGER numbers itself.
_Id = BigInteger().with_variant(Integer, "sqlite")

#: One accepted file. `reader` is the worker that reads it into the ledger while it is `reading`; `canary` the number of
#: rows that run before a person approves the rest (0: none, or approved; -1: none runs before). `verify`: its rows are
#: looked up before they are sent; `sample_due_at`: when some of its rows are to be looked up before the first of all is
#: sent (NULL: done, or not asked for). `dropped_at`: when its file and personal data were dropped. Its orders: `live`
#: and `address` say where it is sent, `window` when (as `window.Window` writes it), and `runner` by whose workers:
#: those of one command (`workers.runner`), or (NULL) those of the fleet and of watchers. `brought_by` is the command
#: that accepted it, and `stop_code` why it does not go on (`models.StopCode`), with the values of its sentence as JSON
#: in `state_reason`. `who` is who gave that command, and `person` the same person as people are compared
#: (`operations/four_eyes.py`; NULL: nobody that is known). With `four_eyes` that person does not decide alone;
#: `first_approver` is, where two have to approve, the one who has.
batches = Table(
    "batches",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    Column("state", String(10), nullable=False),
    Column("state_reason", Text, nullable=False, default=""),
    Column("live", Boolean, nullable=False),
    Column("records", Integer, nullable=False, default=0),
    Column("parent_id", ForeignKey("batches.id")),
    Column("reader", Integer),
    Column("file_format", Text, nullable=False, default="{}"),
    Column("created_at", Float(53), nullable=False),
    Column("finished_at", Float(53)),
    Column("deadline_at", Float(53)),
    Column("warnings", Text, nullable=False, server_default="[]"),
    Column("canary", Integer, nullable=False, server_default="0"),
    Column("verify", Boolean, nullable=False, server_default=false()),
    Column("dropped_at", Float(53)),
    Column("address", Text, nullable=False),
    Column("window", Text, nullable=False, server_default=""),
    Column("runner", Integer),
    Column("brought_by", String(16), nullable=False, server_default=""),
    Column("stop_code", String(16)),
    Column("sample_due_at", Float(53)),
    Column("who", Text, nullable=False, server_default=""),
    Column("person", Text),
    Column("four_eyes", Boolean, nullable=False, server_default=false()),
    Column("first_approver", Text),
    sqlite_autoincrement=True,
)

#: One record of a file. `worker` holds it while it is `claimed`, `sending` or (for a look-up) `unclear`. Of a created
#: row `follow_up_at` is when its source's status is asked for next (NULL: never), after `follow_ups` times, `status_at`
#: when another status than the first was seen, and `source_generation` what its source carries if that is not the row's
#: own generation (a source of a ledger that was lost). Of an unclear row `ended_at` is when its request ended (of a
#: dead worker: when that was noticed; of a row never sent: when its batch was accepted), and `absent_at` when a
#: complete list first lacked its source since then. `yielded` is true of a row that does not own its identity (refused,
#: skipped): an index that asked for the state would be written anew, in a random place, with every step of every row.
#: `spelling` is a digest of how the identity was written, NULL where that is its folded form (`models.spelling_of`) and
#: for rows that were never to be sent. `intended_identity` is, of an invalid row whose keys are sound, the identity
#: that it would have, of any other invalid row 8 bytes that stand for what it says, and of a row of a cancelled batch
#: the identity that it gave up.
rows = Table(
    "rows",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("record", Integer, nullable=False),
    Column("line", Integer, nullable=False),
    Column("state", String(8), nullable=False),
    Column("identity", LargeBinary(16)),
    Column("generation", SmallInteger, nullable=False, server_default="1"),
    Column("customer_id", Text),
    Column("payment_method", Text),
    Column("resource", Text),
    Column("request", LargeBinary),
    Column("content", LargeBinary(8)),
    Column("reasons", LargeBinary),
    Column("worker", Integer),
    Column("attempts", SmallInteger, nullable=False, server_default="0"),
    Column("look_ups", SmallInteger, nullable=False, server_default="0"),
    Column("resends", SmallInteger, nullable=False, server_default="0"),
    Column("not_before", Float(53)),
    Column("sent_at", Float(53)),
    Column("latency_ms", Integer),
    Column("source_id", Text),
    Column("source_status", Text),
    Column("adopted", Boolean),
    Column("code", Text),
    Column("parameter", Text),
    Column("request_id", Text),
    Column("follow_up_at", Float(53)),
    Column("follow_ups", SmallInteger),
    Column("source_generation", SmallInteger),
    Column("status_at", Float(53)),
    Column("yielded", Boolean),
    Column("ended_at", Float(53)),
    Column("absent_at", Float(53)),
    Column("spelling", LargeBinary(8)),
    Column("intended_identity", LargeBinary(16)),
    PrimaryKeyConstraint("batch_id", "record"),
    sqlite_with_rowid=False,
)

#: No row that is, was or may be sent can yield its identity; one that forgets to yield keeps others out, which is safe.
rows.append_constraint(
    CheckConstraint(
        or_(rows.c.yielded.is_(None), rows.c.state.not_in(sorted(OWNING_STATES))), name="rows_owners_do_not_yield"
    )
)
OWNING = rows.c.yielded.is_(None)
#: Exactly one row may be, or have been, sent for an identity and generation.
Index(
    "rows_one_owner",
    rows.c.identity,
    rows.c.generation,
    unique=True,
    sqlite_where=OWNING,
    postgresql_where=OWNING,
)
#: Counting and finding by state.
Index("rows_by_state", rows.c.batch_id, rows.c.state, rows.c.record)
_HELD = rows.c.worker.is_not(None)
#: What a worker holds.
Index("rows_held", rows.c.worker, sqlite_where=_HELD, postgresql_where=_HELD)

_FOLLOWED = rows.c.follow_up_at.is_not(None)
#: Whose status is due; rows that are not created yet are not in it.
Index("rows_followed", rows.c.follow_up_at, sqlite_where=_FOLLOWED, postgresql_where=_FOLLOWED)

#: A spelling of an identity whose row was sent beside that of another spelling, under an identity of its own
#: (`models.own_identity_of`). A later row in this spelling always goes by its own identity, and every row of the folded
#: identity is compared with these too. `spelling` is empty for the folded spelling.
own_spellings = Table(
    "own_spellings",
    metadata,
    Column("identity", LargeBinary(16), nullable=False),
    Column("spelling", LargeBinary(8), nullable=False),
    PrimaryKeyConstraint("identity", "spelling"),
    sqlite_with_rowid=False,
)

#: Which row a source stands for, of every batch that has finished: a created row of a running batch is filed here, with
#: all others of its batch, before the batch finishes. Source ids fall all over their index, so an entry with each wave
#: would write a page of 32 KB for each row. A row that gave its source up later keeps its entry: only together with a
#: created row that names the same source it means something.
sources = Table(
    "sources",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("batch_id", _Id, nullable=False),
    Column("record", Integer, nullable=False),
    sqlite_with_rowid=False,
)

#: The row of a later batch that took up the work of a row which needed a person: a corrected row, or the same row
#: brought once more. It always names the last of several, so that whoever asks need not follow a chain.
carried_over = Table(
    "carried_over",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("record", Integer, nullable=False),
    Column("by_batch", _Id, nullable=False),
    Column("by_record", Integer, nullable=False),
    PrimaryKeyConstraint("batch_id", "record"),
    sqlite_with_rowid=False,
)
Index("carried_over_by", carried_over.c.by_batch, carried_over.c.by_record)

#: A row that needed a person and that somebody has set aside, and why.
dismissals = Table(
    "dismissals",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("record", Integer, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", Text, nullable=False),
    PrimaryKeyConstraint("batch_id", "record"),
    sqlite_with_rowid=False,
)

#: Finds the rows of a customer over all batches (`tasks/ledger/finder.py`): pages of sorted numbers, each made of a
#: digest of a customer id and a record. Filled once a batch: a line for each row would slow the reading of files by a
#: seventh, an index on the customer id by far more.
customer_pages = Table(
    "customer_pages",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("first_number", BigInteger, nullable=False),
    Column("numbers", LargeBinary, nullable=False),
    PrimaryKeyConstraint("batch_id", "first_number"),
)

#: A range of records, the work of one message. `due_at` is when its message is to be sent (again); NULL: nothing to do.
slices = Table(
    "slices",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("first_record", Integer, nullable=False),
    Column("last_record", Integer, nullable=False),
    Column("due_at", Float(53)),
    Column("rung", Boolean, nullable=False, default=False),
    PrimaryKeyConstraint("batch_id", "first_record"),
)
_DUE = slices.c.due_at.is_not(None)
Index("slices_due", slices.c.due_at, sqlite_where=_DUE, postgresql_where=_DUE)

#: The modes of elepay for which somebody has created this ledger by a command; test mode needs none.
created_for = Table(
    "created_for",
    metadata,
    Column("live", Boolean, primary_key=True),
    Column("created_at", Float(53), nullable=False),
)

#: Which ledger this is, and a number that only grows while it is written to: one that is older than what was seen of it
#: before, or another one in its place, does not know of every source (`tasks/ledger/memory.py`). One line.
ledger_identity = Table(
    "ledger_identity",
    metadata,
    Column("ledger_id", String(32), primary_key=True),
    Column("change_counter", BigInteger, nullable=False, server_default="0"),
)

#: A process that holds rows. Its rows are its own until `lease_ends_at`, or until it is surely dead; those that it is
#: sending stay so for its `longest_request_seconds` more, whatever the settings of whoever takes them back. Its number,
#: like a batch's, is never given twice: a process that wakes after its line was deleted must not pass for another one.
#: `account` is where it sends (`models.Account.key`), and `runner` the command that it works for: the number under
#: which that command registered first, itself as one that sends nothing (NULL: the fleet, or a watcher).
workers = Table(
    "workers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", Text, nullable=False),
    Column("lease_ends_at", Float(53), nullable=False),
    Column("longest_request_seconds", Float(53), nullable=False),
    Column("account", String(16), nullable=False),
    Column("runner", Integer),
    sqlite_autoincrement=True,
)

#: A payment method (with "" as resource: whatever the resource) that elepay does not take: until a time, or for good.
closed_methods = Table(
    "closed_methods",
    metadata,
    Column("batch_id", _Id, nullable=False),
    Column("payment_method", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("until", Float(53)),
    PrimaryKeyConstraint("batch_id", "payment_method", "resource"),
)

#: What happened to a row besides a plain success, and what people did to a batch (`record` 0).
history = Table(
    "history",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("batch_id", _Id, nullable=False),
    Column("record", Integer, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("what", Text, nullable=False),
    Column("attempt", SmallInteger),
    Column("code", Text),
    Column("request_id", Text),
    Column("latency_ms", Integer),
    Column("who", Text),
)
Index("history_by_row", history.c.batch_id, history.c.record)

#: Notifications (`models.NotificationKind`), each written together with what happened. `once` keeps one that several
#: processes notice from being added twice.
notifications = Table(
    "news",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("batch_id", _Id),
    Column("code", Text, nullable=False, server_default=""),
    Column("why", Text, nullable=False, server_default=""),
    Column("once", Text, unique=True),
)

#: A notification channel, and since when it is known: it delivers nothing that happened before.
channels = Table(
    "channels",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since", Float(53), nullable=False),
)

#: One notification for one channel. `due_at` is when it may be delivered (again); whoever delivers it moves it on,
#: so it is the lease as well; NULL: delivered, or abandoned.
deliveries = Table(
    "tellings",
    metadata,
    Column("news_id", _Id, nullable=False),
    Column("channel", Text, nullable=False),
    Column("due_at", Float(53)),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("told_at", Float(53)),
    PrimaryKeyConstraint("news_id", "channel"),
)
_UNDELIVERED = deliveries.c.due_at.is_not(None)
Index("tellings_due", deliveries.c.due_at, sqlite_where=_UNDELIVERED, postgresql_where=_UNDELIVERED)

#: Who is signed in to the console: a digest of the secret that their browser has, their name as it is shown, and as
#: people are compared (`operations/four_eyes.py`).
console_sessions = Table(
    "console_sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("role", String(16), nullable=False),
    Column("ends_at", Float(53), nullable=False),
)
