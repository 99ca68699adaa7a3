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
)
#: Faults of every other request.
LOOK_UP_FAULTS: tuple[str, ...] = ("S002000_window", "throttled", "list_500")
#: States of the server and not bad luck: neither counted nor bounded by `max_faults_per_key`.
WINDOWS = frozenset({"S002000_window", "S002001_window"})

_SLOT_BYTES = 3
_SLOT_RANGE = float(1 << (8 * _SLOT_BYTES))
_JITTER_SLOT = 19
_SPARE_SLOT = 20


class Strike(NamedTuple):
    """What happens to one attempt; the two numbers are drawn between 0 and 1."""

    fault: str | None
    jitter: float = 0.0  #: how much of the jitter this answer waits
    spare: float = 0.0  #: which variant of the fault


def draw(seed: int, key: str, attempt: int) -> bytes:
    """Return 64 bytes that belong to this attempt at this key alone."""
    return blake2b(f"{seed}\0{attempt}\0{key}".encode(), digest_size=64).digest()


def number(drawn: bytes, slot: int) -> float:
    """Return the number between 0 and 1 in one of the 21 slots of a draw."""
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
        self._prepare()

    @property
    def distinct_keys(self) -> int:
        """How many different rows createSource has seen."""
        return len(self._attempts)

    def change(self, profile: Profile) -> None:
        """Use other knobs from now on; the windows of faults that changed count from now."""
        now = self._clock()
        for name in {*CREATE_FAULTS, *LOOK_UP_FAULTS}:
            if getattr(profile, name) != getattr(self._profile, name):
                self._since[name] = (now, self._creates)
                self._opened_at.pop(name, None)
        self._profile = profile
        self._prepare()

    def strike_create(self, key: str, payment_method: str) -> Strike:
        """Count an attempt to create the row `key` and return what happens to it."""
        short = hash(key)
        attempt = self._attempts.get(short, 0)
        self._attempts[short] = attempt + 1
        self._creates += 1
        if self._first_create_at is None:
            self._first_create_at = self._clock()
        if not self._draws:
            return Strike(None)
        drawn = draw(self._seed, key, attempt)
        fault = self._first_hit(drawn, self._create_faults, short, payment_method)
        return Strike(fault, number(drawn, _JITTER_SLOT), number(drawn, _SPARE_SLOT))

    def strike_look_up(self, operation: str, path: str) -> Strike:
        """Count an attempt at anything but createSource and return what happens to it."""
        if not self._draws:
            return Strike(None)
        key = f"{operation}\0{path}"
        short = hash(key)
        attempt = self._look_up_attempts.get(short, 0)
        self._look_up_attempts[short] = attempt + 1
        drawn = draw(self._seed, key, attempt)
        faults = self._look_up_faults if operation == "listSources" else self._look_up_faults_elsewhere
        return Strike(self._first_hit(drawn, faults, short, ""), number(drawn, _JITTER_SLOT))

    def refusal(self, key: str) -> str | None:
        """Return the errorCode with which this row is always refused, or None."""
        return refusal_of(self._seed, key, self._refusals) if self._refusals else None

    def _prepare(self) -> None:
        profile = self._profile
        self._create_faults = _wanted(profile, CREATE_FAULTS)
        self._look_up_faults = _wanted(profile, LOOK_UP_FAULTS)
        self._look_up_faults_elsewhere = [each for each in self._look_up_faults if each[1] != "list_500"]
        self._refusals = [(code, share) for code, share in sorted(profile.refuse.items()) if share > 0]
        self._draws = bool(self._create_faults or self._look_up_faults or profile.jitter_ms)

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
            if fault.after_creates and self._creates - begun_creates <= fault.after_creates:
                return False
            opened_at = now if fault.after_creates else begun_at + fault.after_seconds
            self._opened_at[name] = opened_at
        return fault.for_seconds is None or now < opened_at + fault.for_seconds


def _wanted(profile: Profile, names: tuple[str, ...]) -> list[tuple[int, str, Fault]]:
    return [(slot, name, getattr(profile, name)) for slot, name in enumerate(names) if getattr(profile, name).share > 0]
