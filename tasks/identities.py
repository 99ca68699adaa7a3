"""What one row is about, whatever its spelling: the identity, and the reference that its source carries."""

from __future__ import annotations

import base64
import hashlib

from tasks.spelling import fold

IDENTITY_BYTES = 16


def identity_of(customer_id: str, payment_method: str, resource: str, reference: str, live: bool = False) -> bytes:
    """Return the 16 bytes that name what one row is about, however it is spelled, in test or in live mode.

    The folded fields are hashed with U+001F between them, which intake lets into none of them.
    """
    mode = "live" if live else "test"
    key = f"{mode}\x1f{customer_id}\x1f{payment_method}\x1f{resource}\x1f{reference}"
    if not key.isascii():
        key = "\x1f".join((mode, *map(fold, (customer_id, payment_method, resource, reference))))
    return hashlib.blake2b(key.encode(), digest_size=IDENTITY_BYTES).digest()


def spelling_of(customer_id: str, payment_method: str, resource: str, reference: str) -> bytes | None:
    """Return 8 bytes that distinguish the spellings of one identity; None for the folded spelling."""
    written = f"{customer_id}\x1f{payment_method}\x1f{resource}\x1f{reference}"
    if written.isascii() or written == "\x1f".join(map(fold, (customer_id, payment_method, resource, reference))):
        return None
    return hashlib.blake2b(written.encode(), digest_size=8).digest()


def own_identity_of(identity: bytes, spelling: bytes | None) -> bytes:
    """Return the identity of one spelling that is onboarded beside another one (ONBOARD_OTHER_SPELLING=own).

    It is no folded identity, also for the folded spelling.
    """
    return hashlib.blake2b(identity + (spelling or b""), digest_size=IDENTITY_BYTES).digest()


#: Base 32 by ten bits at a time, twice as quick as `base64.b32encode`.
_PAIRS = [
    first + second for first in "abcdefghijklmnopqrstuvwxyz234567" for second in "abcdefghijklmnopqrstuvwxyz234567"
]
_SHIFTS = range(120, -1, -10)


def reference_of(identity: bytes, generation: int) -> str:
    """Return the `metadata.onboarding_ref` of an identity: at most 32 characters (docs/reference/elepay-api.md §4).

    26 characters for the first source of an identity; a later one (after the earlier was deleted, or by `--again`)
    carries its generation behind a dash.
    """
    number = int.from_bytes(identity, "big") << 2
    name = "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
    return name if generation == 1 else f"{name}-{generation}"


def identity_and_generation(reference: str) -> tuple[bytes, int] | None:
    """Return what `reference_of` made this of; None for any other text."""
    name, dash, number = reference.partition("-")
    if len(name) != 26 or (dash and not (number.isascii() and number.isdigit() and len(number) < 5)):
        return None
    try:
        identity = base64.b32decode(name.upper() + "======")
    except ValueError:
        return None
    generation = int(number) if dash else 1
    return (identity, generation) if reference_of(identity, generation) == reference else None


#: The key under which a source carries our reference.
REFERENCE_KEY = "onboarding_ref"
