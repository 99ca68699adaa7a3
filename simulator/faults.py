"""Which fault strikes which attempt, drawn from the seed.

A draw depends on the seed, the row's key and the number of the attempt at that key, and on nothing else: neither on the
order in which rows arrive nor on the faults of others. Only windows depend on the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from simulator.profile import Fault, Profile

#: Faults of createSource, in the order in which they are asked; the position is the fault's place in the draw, so that
#: a changed share of one leaves the others' draws alone.
CREATE_FAULTS: tuple[str, ...] = (
    "S002000_window",
    "S002001_window",
    "throttled",
    "http_429_with_retry_after",
    "drop_before_commit",
    "hang_before_commit",
    "error_500_before_commit",
    "html_502",
    "late_commit",
    "commit_then_drop_connection",
    "commit_then_500_S001000",
    "commit_then_hang",
    "html_502_after_commit",
    "malformed_201",
    "empty_201",
    "wrong_live_mode",
    "slow_drip",
    "bare_status_before_commit",
    "bare_status_after_commit",
    "repeated_answer",
    "surplus_bytes",
    "http_1_0",
    "earlier_source",
    "earlier_id",
    "repeated_error",
    "bad_id",
    "bad_status",
    "odd_json",
)
#: Faults of every other request.
LOOK_UP_FAULTS: tuple[str, ...] = ("S002000_window", "throttled", "list_500")
#: The fault of what stands in front of elepay: asked before a request is read.
PAGE = "page"
#: States of the server and not bad luck: neither counted nor bounded by `max_faults_per_key`.
WINDOWS = frozenset({"S002000_window", "S002001_window", PAGE})
#: Places in a draw: 21 come from each hash.
SLOTS = 42

_SLOT_BYTES = 3
_SLOT_RANGE = float(1 << (8 * _SLOT_BYTES))
_JITTER_SLOT = 19
_SPARE_SLOT = 20
_SLOTS_OF_A_HASH = 21
_PAGE_OPERATIONS = {"creates": "createSource", "lists": "listSources"}


class Strike(NamedTuple):
    """What happens to one attempt; the two numbers are drawn between 0 and 1."""

    fault: str | None
    jitter: float = 0.0  #: how much of the jitter this answer waits
    spare: float = 0.0  #: which variant of the fault, which replica


_NONE = Strike(None)


def draw(seed: int, key: str, attempt: int, slots: int = _SLOTS_OF_A_HASH) -> bytes:
    """Return bytes for so many slots that belong to this attempt at this key alone.

    The second hash is computed only for whoever needs its slots, and leaves the first ones as they are.
    """
    text = f"{seed}\0{attempt}\0{key}".encode()
    drawn = blake2b(text, digest_size=64).digest()
    if slots > _SLOTS_OF_A_HASH:
        drawn = drawn[: _SLOTS_OF_A_HASH * _SLOT_BYTES] + blake2b(text, digest_size=64, person=b"second").digest()
    return drawn


def number(drawn: bytes, slot: int) -> float:
    """Return the number between 0 and 1 in one of the slots of a draw."""
    start = slot * _SLOT_BYTES
    return int.from_bytes(drawn[start : start + _SLOT_BYTES], "big") / _SLOT_RANGE


def refusal_of(seed: int, key: str, shares: list[tuple[str, float]]) -> str | None:
    """Return the errorCode with which this key is refused, at every attempt, or None."""
    drawn = number(draw(seed, key, -1), 0)
    reached = 0.0
    for code, share in shares:
        reached += share
        if drawn < reached:
            return code
    return None


class Faults:
    """The draws of one run: counts attempts and faults of each key, and watches the windows."""

    def __init__(self, profile: Profile, seed: int, clock: Callable[[], float]) -> None:
        self._seed = seed
        self._clock = clock
        self._attempts: dict[int, int] = {}
        self._look_up_attempts: dict[int, int] = {}
        self._struck: dict[int, int] = {}
        self._first_create_at: float | None = None
        self._creates = 0
        self._since: dict[str, tuple[float, int]] = {}
        self._opened_at: dict[str, float] = {}
        self._profile = profile
        #: Whether `strike_page` has to be asked at all.
        self.may_page = False
        self._prepare()

    @property
    def distinct_keys(self) -> int:
        """How many different rows createSource has seen."""
        return len(self._attempts)

    def change(self, profile: Profile) -> None:
        """Use other knobs from now on; the windows of faults that changed count from now."""
        now = self._clock()
        for name in {*CREATE_FAULTS, *LOOK_UP_FAULTS, PAGE}:
            if getattr(profile, name) != getattr(self._profile, name):
                self._since[name] = (now, self._creates)
                self._opened_at.pop(name, None)
        self._profile = profile
        self._prepare()

    def strike_page(self, operation: str, path: str, body: bytes) -> Strike | None:
        """Return the strike of `page`, which answers a request before anybody has read it, or None.

        A createSource that it answers counts as one that has come.
        """
        if self._page_operation not in ("", operation):
            return None
        if operation == "createSource" and self._first_create_at is None:
            self._first_create_at = self._clock()
        key = f"{PAGE}\0{operation}\0{path}\0{body.decode('latin-1')}"
        drawn = draw(self._seed, key, self._count(self._look_up_attempts, hash(key)))
        fault = self._profile.page
        if number(drawn, 0) >= fault.share or not self._open(PAGE, fault):
            return None
        self._creates += operation == "createSource"
        return Strike(PAGE, number(drawn, _JITTER_SLOT), number(drawn, _SPARE_SLOT))

    def strike_create(self, key: str, payment_method: str) -> Strike:
        """Count an attempt to create the row `key` and return what happens to it."""
        short = hash(key)
        attempt = self._count(self._attempts, short)
        if self._first_create_at is None:
            self._first_create_at = self._clock()
        strike = _NONE
        if self._draws:
            drawn = draw(self._seed, key, attempt, self._create_slots)
            fault = self._first_hit(drawn, self._create_faults, short, payment_method)
            strike = Strike(fault, number(drawn, _JITTER_SLOT), number(drawn, _SPARE_SLOT))
        self._creates += 1
        return strike

    def strike_look_up(self, operation: str, path: str) -> Strike:
        """Count an attempt at anything but createSource and return what happens to it."""
        if not self._draws:
            return _NONE
        key = f"{operation}\0{path}"
        short = hash(key)
        drawn = draw(self._seed, key, self._count(self._look_up_attempts, short))
        faults = self._look_up_faults if operation == "listSources" else self._look_up_faults_elsewhere
        fault = self._first_hit(drawn, faults, short, "")
        return Strike(fault, number(drawn, _JITTER_SLOT), number(drawn, _SPARE_SLOT))

    def refusal(self, key: str) -> str | None:
        """Return the errorCode with which this row is always refused, or None."""
        return refusal_of(self._seed, key, self._refusals) if self._refusals else None

    def _prepare(self) -> None:
        profile = self._profile
        self._create_faults = _wanted(profile, CREATE_FAULTS)
        self._look_up_faults = _wanted(profile, LOOK_UP_FAULTS)
        self._look_up_faults_elsewhere = [each for each in self._look_up_faults if each[1] != "list_500"]
        self._refusals = [(code, share) for code, share in sorted(profile.refuse.items()) if share > 0]
        self._draws = bool(self._create_faults or self._look_up_faults or profile.jitter_ms or profile.replica_lags_ms)
        last = max((slot for slot, _, _ in self._create_faults), default=0)
        self._create_slots = SLOTS if last >= _SLOTS_OF_A_HASH else _SLOTS_OF_A_HASH
        self.may_page = profile.page.share > 0
        self._page_operation = _PAGE_OPERATIONS.get(profile.page_scope, "")

    def _count(self, attempts: dict[int, int], short: int) -> int:
        """Count an attempt and return how many came before it."""
        attempt = attempts.get(short, 0)
        attempts[short] = attempt + 1
        return attempt

    def _first_hit(
        self, drawn: bytes, faults: list[tuple[int, str, Fault]], short: int, payment_method: str
    ) -> str | None:
        may_strike = self._struck.get(short, 0) < self._profile.max_faults_per_key
        for slot, name, fault in faults:
            if name not in WINDOWS and not may_strike:
                continue
            if name == "S002001_window" and payment_method not in self._profile.S002001_methods:
                continue
            if number(drawn, slot) < fault.share and self._open(name, fault):
                if name not in WINDOWS:
                    self._struck[short] = self._struck.get(short, 0) + 1
                return name
        return None

    def _open(self, name: str, fault: Fault) -> bool:
        """True while the window of a fault is open; one without a window is always open."""
        if not (fault.after_creates or fault.after_seconds or fault.for_seconds is not None):
            return True
        now = self._clock()
        opened_at = self._opened_at.get(name)
        if opened_at is None:
            begun_at, begun_creates = self._since.get(name, (self._first_create_at, 0))
            if begun_at is None or now < begun_at + fault.after_seconds:
                return False
            if self._creates - begun_creates < fault.after_creates:
                return False
            opened_at = now if fault.after_creates else begun_at + fault.after_seconds
            self._opened_at[name] = opened_at
        return fault.for_seconds is None or now < opened_at + fault.for_seconds


def slot_of(position: int) -> int:
    """Return the place in the draw of the fault at a position: two places are the jitter's and the variant's."""
    return position if position < _JITTER_SLOT else position + 2


def _wanted(profile: Profile, names: tuple[str, ...]) -> list[tuple[int, str, Fault]]:
    named = [(slot_of(position), name, getattr(profile, name)) for position, name in enumerate(names)]
    return [each for each in named if each[2].share > 0]
