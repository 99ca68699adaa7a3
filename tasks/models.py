"""The nouns: Batch, Row, RowState, SourceRequest, Outcome, Reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson


class RowState(StrEnum):
    """Where a row is (ours; elepay's own word stands in `source_status`)."""

    WAITING = "waiting"  #: in the ledger, in nobody's hands
    CLAIMED = "claimed"  #: leased by one worker, certainly not sent
    SENDING = "sending"  #: committed before the request leaves: it may have been sent
    CREATED = "created"  #: the source exists and its id is known
    SKIPPED = "skipped"  #: this identity was onboarded before, or stands earlier in the file
    INVALID = "invalid"  #: never sent; the file must be corrected
    REFUSED = "refused"  #: elepay said no for good
    UNCLEAR = "unclear"  #: sent, outcome unknown; never sent again blindly


#: In somebody's care or still to be done; the batch is not finished while one of these is left.
OPEN_STATES = frozenset({RowState.WAITING, RowState.CLAIMED, RowState.SENDING})
#: States in which a row owns its identity: no other row may be sent for it (a unique index of the ledger).
OWNING_STATES = frozenset({*OPEN_STATES, RowState.CREATED, RowState.UNCLEAR})


#: What a source's end looks like; its identity may then be onboarded again (docs/reference/elepay-api.md §2.4).
ENDED_STATUSES = frozenset({"failed", "inactive", "deleted"})
#: The customer has authorised the source, or it has ended: it is not followed up any more.
SETTLED_STATUSES = ENDED_STATUSES | {"active"}


def counted_as(state: str) -> str:
    """Return how the reconciliation counts a row in this state: `open` for each of the three open ones."""
    return "open" if state in OPEN_STATES else str(state)


class BatchState(StrEnum):
    """Where a batch is."""

    READING = "reading"  #: its file is being read into the ledger
    RUNNING = "running"  #: its rows are being sent
    INTERRUPTED = "interrupted"  #: the command that ran it is gone; never stored, see `Batch.state`
    FINISHED = "finished"  #: no row is left to be sent or looked up
    PAUSED = "paused"  #: stopped for the reason that `StopCode` says; goes on with `onboard resume`
    HALTED = (
        "halted"  #: key, account, maintenance or elepay out of reach; nothing is lost, goes on with `onboard resume`
    )
    CANCELLED = "cancelled"  #: given up by a person; what was not sent stays unsent
    UNUSABLE = "unusable"  #: the file as a whole


class StopCode(StrEnum):
    """Why a batch does not go on; `tasks/stop_texts.py` has the sentences."""

    PERSON = "person"  #: `onboard pause`
    INTERRUPT = "interrupt"  #: Ctrl-C or SIGTERM ended the command that ran it
    DEADLINE = "deadline"  #: its time was over
    CANARY = "canary"  #: its canary rows have run: `onboard approve`
    APPROVAL = "approval"  #: none of its rows is sent before somebody approves it (ONBOARD_FOUR_EYES)
    BREAKER = "breaker"  #: too many of the last answers were refusals
    FORGOTTEN = "forgotten"  #: elepay has sources of its new rows that the ledger does not know
    GUARD = "guard"  #: its first answers all say "does not exist"
    WRONG_MODE = "wrong_mode"  #: elepay answered in the other mode
    SILENT = "silent"  #: nothing definite came back for too long
    UNREACHABLE = "unreachable"  #: no request left for too long
    THROTTLED = "throttled"  #: nothing but "too many requests" for too long
    MAINTENANCE = "maintenance"  #: elepay was under maintenance for too long
    ACCOUNT_SETUP = "account_setup"  #: M001000
    BAD_CALL = "bad_call"  #: M003000
    KEY_INVALID = "key_invalid"  #: M004001
    KEY_MISSING = "key_missing"  #: M004002
    KEY_FORBIDDEN = "key_forbidden"  #: M004003
    KEY_REFUSED = "key_refused"  #: HTTP 401
    ACCESS_FORBIDDEN = "access_forbidden"  #: HTTP 403
    NOT_ELEPAY = "not_elepay"  #: no answer that elepay gives
    CANCELLED = "cancelled"  #: `onboard cancel`
    UNUSABLE = "unusable"  #: its file as a whole
    REHEARSAL = "rehearsal"  #: a rehearsal was interrupted; never stored
    COMMAND_ENDED = "command_ended"  #: the command that sent it has ended; only in notifications
    UNATTENDED = "unattended"  #: nobody takes its rows; only in notifications


#: `Batch.canary` of a batch none of whose rows is sent before somebody approves it.
HOLDS_ALL = -1


class ShellName(str):
    """The name of a user of a machine, `user@host`: nobody that is known, unless ONBOARD_SHELL_NAMES says who it is."""

    __slots__ = ()


class Stop(NamedTuple):
    """Why a batch does not go on: a code, and the values of its sentence (ids, codes, numbers, who)."""

    code: StopCode
    values: Mapping[str, Any] = MappingProxyType({})

    def encode(self) -> str:
        """Return it as a notification carries it."""
        return orjson.dumps({"stop": self.code, **self.values}).decode()

    @classmethod
    def decode(cls, text: str) -> Stop | None:
        """Return what `encode` encoded; None for an empty text."""
        values = orjson.loads(text) if text else {}
        return cls(StopCode(values.pop("stop")), values) if values else None


class NotificationKind(StrEnum):
    """What people are notified of (`worker/notifier.py`)."""

    FINISHED = "finished"  #: a batch came to its end
    PAUSED = "paused"  #: a batch waits for a person: the breaker, the canary, its deadline, or somebody's wish
    HALTED = "halted"  #: a batch was stopped by key, account, maintenance or the network
    REJECTED = "rejected"  #: a file as a whole cannot be onboarded
    REPEATED = "repeated"  #: a dropped file has exactly the content of a batch
    NOTHING_ARRIVED = "nothing_arrived"  #: no file came by the time that was agreed
    INTERRUPTED = "interrupted"  #: the command that sent a batch is gone
    UNATTENDED = "unattended"  #: rows of a batch are due, and for long nobody has taken one
    NOT_TAKEN = "not_taken"  #: dropped files cannot be taken out of the inbox
    WENT_ON = "went_on"  #: a dropped file changed after it was read
    DIGEST = "digest"  #: what is open over all batches, once a day (ONBOARD_DIGEST_AT)
    TEST = "test"  #: `onboard doctor --notify`


@dataclass(frozen=True, slots=True)
class Notification:
    """An event that is delivered once through each channel; it names no customer and quotes no file."""

    id: int
    kind: NotificationKind
    at: float
    batch_id: int | None = None
    code: str = ""  #: why a file was rejected; of a digest: whose (`Account.key`)
    #: Why the batch stopped (`Stop.encode`); when a file should have come; what the log calls a file that was
    #: rejected; the name of a repeated one, and of one that changed after it was read; which cannot be taken, and why.
    why: str = ""


class Reason(NamedTuple):
    """Why a record is not `created`: a stable code and where it applies.

    The sentence and the hint for people come from `tasks/reason_texts.py` by `code`.
    """

    code: str  #: stable, e.g. "missing_value"
    column: str = ""  #: the column as the file spells it, or "" when the whole record is meant
    value: str = ""  #: the rejected value, shortened, masked where it looks like a card number
    detail: str = ""  #: what the sentence needs besides, e.g. the limit or the earlier record


class Origin(NamedTuple):
    """The row of an earlier batch that a record corrects, as the columns of its report say."""

    batch_id: int
    record: int
    line: int
    reference: str  #: `metadata.onboarding_ref`; "" of a row that was never to be sent


class NewRow(NamedTuple):
    """One record of a file on its way into the ledger, in the order of the ledger's columns."""

    record: int  #: number of the record in the file; the first after the header is 1
    line: int  #: physical line on which the record starts; the header is usually line 1
    state: str  #: `waiting` or `invalid` (the ledger itself decides on `skipped`)
    identity: bytes | None  #: 16 bytes, see `identity_of`; None when invalid
    customer_id: str | None
    payment_method: str | None
    resource: str | None
    request: bytes | None  #: JSON of description, extra and metadata, see `SourceRequest`
    content: bytes | None  #: 8 bytes, a digest of `request`: same identity, other content is flagged `changed`
    reasons: bytes | None  #: JSON list of `Reason` lists; all of them, for invalid rows (and warnings)
    spelling: bytes | None = None  #: see `spelling_of`
    intended_identity: bytes | None = None  #: of an invalid row; see `ledger/schema.py`
    origin: Origin | None = None  #: no column of the ledger's `rows`


def compact_json(value: object) -> bytes:
    """Return a value as JSON in bytes of its own length.

    What `orjson` returns occupies 4 KB however short it is (seen in 3.11): 80 MB for 20,000 rows.
    """
    return memoryview(orjson.dumps(value)).tobytes()


def encode_reasons(reasons: Iterable[Reason]) -> bytes:
    """Return reasons as the JSON that the ledger keeps."""
    return compact_json([list(reason) for reason in reasons])


@lru_cache(maxsize=1024)
def decode_reasons(stored: bytes | None) -> tuple[Reason, ...]:
    """Return what `encode_reasons` encoded."""
    return tuple(Reason(*parts) for parts in orjson.loads(stored)) if stored else ()


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """The body of `POST /customers/{customerId}/sources` (docs/reference/elepay-api.md §2.2)."""

    customer_id: str
    payment_method: str
    resource: str
    description: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """What we keep of a source (docs/reference/elepay-api.md §2.3): never `credential`, never card data."""

    id: str
    status: str
    live_mode: bool | None = None
    payment_method: str = ""
    reference: str | None = None  #: its `metadata.onboarding_ref`
    has_metadata: bool = False
    customer_id: str = ""  #: "": the answer does not say (edition A lacks it)


class Account(NamedTuple):
    """Where requests go: elepay's test or live mode, and its address. A batch is sent there and nowhere else."""

    live: bool = False
    address: str = ""  #: scheme, host, port and path

    @property
    def key(self) -> str:
        """What stands for it in the names of things that are shared through Redis: `test:1f0c93aa`."""
        return f"{'live' if self.live else 'test'}:{hashlib.sha256(self.address.encode()).hexdigest()[:8]}"

    def __str__(self) -> str:
        return f"{'live' if self.live else 'test'} mode" + (f" at {self.address}" if self.address else "")


#: A ledger that nothing is sent from may do without one.
NO_ACCOUNT = Account()


@dataclass(frozen=True, slots=True)
class Batch:
    """One accepted file."""

    id: int
    name: str  #: the file's own name, without folders
    sha256: str
    state: BatchState  #: `interrupted` if it runs, and belongs to a command of which nothing is at work any more
    account: Account  #: where it is sent
    records: int
    created_at: float  #: UTC epoch seconds, like every `_at`
    finished_at: float | None = None
    stop: Stop | None = None  #: why it does not go on
    parent_id: int | None = None
    file_format: Mapping[str, Any] = field(default_factory=dict)
    deadline_at: float | None = None
    window: str = ""  #: its nightly window, as `window.Window` writes it
    runner: int | None = None  #: the command whose workers send it; None: the fleet's, and those of watchers
    brought_by: str = ""  #: the command that accepted it
    is_worked_on: bool = False  #: its command, or else a fleet or a watcher, is at work for it
    verify: bool = False  #: its rows are looked up before they are sent
    dropped_at: float | None = None  #: when its file and personal data were dropped (ONBOARD_KEEP_DAYS)
    #: Last record that runs before a person approves the rest; 0: none, or approved; `HOLDS_ALL`: no record does.
    canary: int = 0
    who: str = ""  #: who gave the command that accepted it
    person: str = (
        ""  #: that person, as four eyes compare them (`operations.four_eyes.person_key`); "": nobody that is known
    )
    four_eyes: bool = False  #: two people stand behind it: who brought it does not decide about it alone
    first_approver: str = ""  #: of two who have to approve it, the one who has
    warnings: tuple[tuple[Any, ...], ...] = ()  #: (code, column, count, first line, detail) of each oddity of the file

    @property
    def stop_code(self) -> StopCode | None:
        """The code of `stop`."""
        return None if self.stop is None else self.stop.code


class Slice(NamedTuple):
    """A range of records, both ends included: the work of one message."""

    batch_id: int
    first_record: int
    last_record: int


@dataclass(slots=True)
class LeasedRow:
    """A row in a worker's hands, to be sent or (`look_up`) to be looked up."""

    batch_id: int
    record: int
    line: int
    reference: str
    customer_id: str
    payment_method: str
    resource: str
    request: bytes
    attempts: int  #: how often it was marked `sending`; every mark makes older answers recognisable as late
    look_ups: int
    resends: int
    sent_at: float | None  #: when it was last marked `sending`
    code: str | None
    ended_at: float | None = None  #: when its last request ended, whose outcome is unclear
    absent_at: float | None = None  #: when a complete list first lacked its source since then
    look_up: bool = False

    @property
    def never_sent(self) -> bool:
        """True of a row that is looked up before its first sending (`onboard run --verify-first`)."""
        return self.look_up and self.attempts == 0


@dataclass(slots=True)
class Outcome:
    """What one attempt (or look-up) means for a row, as the ledger writes it.

    It is applied only if the row still is what `attempts` says, so an answer that comes too late changes nothing.
    """

    batch_id: int
    record: int
    attempts: int
    state: RowState
    worker: int | None = None  #: who goes on holding it; None gives it back
    source_id: str | None = None
    source_status: str | None = None
    adopted: bool | None = None
    names_row: bool = False  #: elepay's answer to the create carried the row's reference
    code: str | None = None
    parameter: str | None = None
    request_id: str | None = None
    latency_ms: int | None = None
    not_before: float | None = None
    look_ups: int = 0
    resends: int = 0
    ended_at: float | None = None  #: when the request ended whose outcome is unclear
    absent_at: float | None = None  #: when a complete list first lacked the source since then
    source_generation: int | None = None  #: of a source that was found, if it is not the row's own
    follow_up_after: float | None = None  #: seconds until elepay is asked what became of a source
    what: str = ""  #: the line for the history; "" for a plain success


class ReportRow(NamedTuple):
    """One row as the reports show it, in the order of records."""

    record: int
    line: int
    state: str
    reference: str  #: `metadata.onboarding_ref`, or ""
    payment_method: str
    source_id: str
    source_status: str
    adopted: bool
    code: str  #: elepay's code, or ours
    parameter: str
    request_id: str
    attempts: int
    reasons: tuple[Reason, ...]
    needs_person: bool = False  #: it is unclear, and no look-up of it is to come or under way
    customer_id: str = ""  #: "": not readable, or dropped


@dataclass(frozen=True, slots=True)
class RowCounts:
    """How many records of a batch stand where; `records` is what the file has."""

    records: int
    created: int = 0
    skipped: int = 0
    invalid: int = 0
    refused: int = 0
    unclear: int = 0
    open: int = 0

    @property
    def balance(self) -> bool:
        """True if every record stands in exactly one place."""
        return self.records == self.created + self.skipped + self.invalid + self.refused + self.unclear + self.open


class Successor(NamedTuple):
    """What became of a row that needed a person."""

    what: str  #: resolved, under_way, carried_over or dismissed
    batch_id: int | None  #: where; None: it was dismissed
    reason: str = ""  #: why it was dismissed, if somebody has said so


@dataclass(frozen=True, slots=True)
class Work:
    """What became of the rows of a batch that needed a person; `needed` is the sum of all others."""

    open: int = 0
    dismissed: int = 0  #: set aside by a person, who may have given a row up
    resolved: Mapping[int, int] = field(default_factory=dict)  #: batch -> rows whose source stands there
    under_way: Mapping[int, int] = field(default_factory=dict)  #: batch -> rows that are still to be sent there
    carried_over: Mapping[int, int] = field(default_factory=dict)  #: batch -> rows that need a person there

    @property
    def needed(self) -> int:
        """Rows that needed a person."""
        others = (self.resolved, self.under_way, self.carried_over)
        return self.open + self.dismissed + sum(sum(each.values()) for each in others)
