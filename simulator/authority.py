"""Which key opens which door (docs/reference/elepay-api.md §1)."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from simulator.profile import Profile
from simulator.validation import Problem

MISSING = Problem("M004002")
WRONG = Problem("M004001")
#: A publishable key is a right key, but not for this.
NOT_ALLOWED = Problem("M004003")

_REMEMBERED = 1000


class Permit(NamedTuple):
    """What an Authorization header is good for."""

    problem: Problem | None  #: why it is good for nothing
    http_status: int | None = None  #: if another one than the problem's own
    live_mode: bool = False
    publishable: bool = False


class Doorkeeper:
    """Judges Authorization headers by the profile's knobs, and remembers its judgements until they change."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._judged: dict[bytes, Permit] = {}

    def change(self, profile: Profile) -> None:
        """Judge by other knobs from now on."""
        self._profile = profile
        self._judged.clear()

    def judge(self, header: bytes) -> Permit:
        """Return what the header is good for; an empty one is a missing one."""
        permit = self._judged.get(header)
        if permit is None:
            permit = self._judge(header)
            if len(self._judged) < _REMEMBERED:
                self._judged[header] = permit
        return permit

    def _judge(self, header: bytes) -> Permit:
        status = 401 if self._profile.strict401 else None
        if not header.strip():
            return Permit(MISSING, status)
        scheme, _, value = header.decode("latin-1").strip().partition(" ")
        key: str | None = value.strip()
        if scheme.lower() == "basic":
            key, _, password = (_decoded(value) or "").partition(":")
            if password:
                return Permit(WRONG, 401)
        elif scheme.lower() != "bearer":
            return Permit(WRONG, status)
        return self._judge_key(key or "", status)

    def _judge_key(self, key: str, status: int | None) -> Permit:
        kind, _, rest = key.partition("_")
        mode, _, secret = rest.partition("_")
        known = kind in ("sk", "pk") and bool(secret) and (mode == "test" or (mode == "live" and self._profile.live))
        accepted = self._profile.accepted_keys
        if not known or (accepted and key not in accepted):
            return Permit(WRONG, status)
        return Permit(None, None, live_mode=mode == "live", publishable=kind == "pk")


def _decoded(value: str) -> str | None:
    try:
        return base64.b64decode(value.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
