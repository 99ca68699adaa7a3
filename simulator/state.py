"""The sources that exist, small enough for a million.

A source is a tuple of texts and a byte for its status; its id and credential are computed from its position, and its
free texts are kept as JSON only while `remember_bodies` is on.
"""

from __future__ import annotations

import secrets
import sys
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from simulator.catalogue import STATUSES
from simulator.validation import SourceFields

_ID_BITS = 96
_ID_MASK = (1 << _ID_BITS) - 1
#: An odd number, so that multiplying by it can be undone modulo a power of two: positions become ids and back.
_SPREAD = 0x9E3779B97F4A7C15F39CC061
_UNSPREAD = pow(_SPREAD, -1, 1 << _ID_BITS)
_ID_PREFIX = "src_"
_DELETED = STATUSES.index("deleted")


class SourceRecord(NamedTuple):
    """What never changes about a source."""

    customer_id: str
    payment_method: str
    resource: str
    reference: str | None
    live_mode: bool


class Sources:
    """Every source ever created, by position; positions are the order of creation."""

    def __init__(self) -> None:
        #: Differs from start to start, so that no two runs hand out the same ids.
        self._salt = secrets.randbits(_ID_BITS)
        #: Plain tuples of texts: the garbage collector soon leaves them alone, which it does not do for named ones.
        self._records: list[tuple[str, str, str, str | None, bool]] = []
        self._statuses = bytearray()
        self._created_at = array("d")
        self._bodies: dict[int, str] = {}
        self._of_customer: dict[str, int | tuple[int, ...]] = {}
        self._of_reference: dict[str, int | tuple[int, ...]] = {}
        self._repeated_references: set[str] = set()
        self._without_reference = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: SourceRecord, status: str, created_at: float, body: SourceFields | None) -> int:
        """Create a source and return its position; `body` is kept if given."""
        position = len(self._records)
        method, resource = sys.intern(record.payment_method), sys.intern(record.resource)
        self._records.append((record.customer_id, method, resource, record.reference, record.live_mode))
        self._statuses.append(STATUSES.index(status))
        self._created_at.append(created_at)
        if body is not None:
            # As text: a fresh copy of the right size, where orjson's bytes keep the memory of their working buffer.
            self._bodies[position] = orjson.dumps([body.description, body.extra, body.metadata]).decode()
        _append(self._of_customer, record.customer_id, position)
        if record.reference is None:
            self._without_reference += 1
        elif _append(self._of_reference, record.reference, position):
            self._repeated_references.add(record.reference)
        return position

    def id_of(self, position: int) -> str:
        """Return the id of the source at a position: `src_` and 24 hexadecimal digits."""
        return f"{_ID_PREFIX}{((position + 1) * _SPREAD + self._salt) & _ID_MASK:024x}"

    def position_of(self, source_id: str) -> int | None:
        """Return where the source with this id stands, or None."""
        if len(source_id) != len(_ID_PREFIX) + _ID_BITS // 4 or not source_id.startswith(_ID_PREFIX):
            return None
        try:
            spread = int(source_id[len(_ID_PREFIX) :], 16)
        except ValueError:
            return None
        position = ((spread - self._salt) * _UNSPREAD & _ID_MASK) - 1
        return position if 0 <= position < len(self._records) and self.id_of(position) == source_id else None

    def credential_of(self, position: int) -> str:
        """Return the secret of the source at a position; it begins with `cred_`."""
        return f"cred_{(position + 1) * _UNSPREAD ^ self._salt:040x}"

    def record(self, position: int) -> SourceRecord:
        """Return what never changes about the source at a position."""
        return SourceRecord(*self._records[position])

    def status(self, position: int) -> str:
        """Return the status of the source at a position (docs/reference/elepay-api.md §2.4)."""
        return STATUSES[self._statuses[position]]

    def set_status(self, position: int, status: str) -> None:
        """Change the status of the source at a position."""
        self._statuses[position] = STATUSES.index(status)

    def created_at(self, position: int) -> float:
        """Return when the source came into being, in seconds of the caller's clock."""
        return self._created_at[position]

    def body(self, position: int) -> tuple[str | None, dict[str, Any], dict[str, Any]] | None:
        """Return description, extra and metadata of a source, or None if they were not kept."""
        kept = self._bodies.get(position)
        if kept is None:
            return None
        description, extra, metadata = orjson.loads(kept)
        return description, extra, metadata

    def of_customer(self, customer_id: str) -> tuple[int, ...]:
        """Return the positions of a customer's sources, in the order of creation."""
        return _positions(self._of_customer.get(customer_id, ()))

    def doubled_references(self) -> Iterator[str]:
        """Yield the references that more than one source carries which is not deleted."""
        for reference in sorted(self._repeated_references):
            positions = _positions(self._of_reference[reference])
            if sum(self._statuses[position] != _DELETED for position in positions) > 1:
                yield reference

    @property
    def references(self) -> int:
        """How many different references there are."""
        return len(self._of_reference)

    @property
    def without_reference(self) -> int:
        """How many sources carry no reference."""
        return self._without_reference


def _append(index: dict[str, int | tuple[int, ...]], key: str, position: int) -> bool:
    """Add a position under `key` and return True if it is not the first; a lone position is kept without a tuple."""
    before = index.get(key)
    if before is None:
        index[key] = position
        return False
    index[key] = (*_positions(before), position)
    return True


def _positions(entry: int | tuple[int, ...]) -> tuple[int, ...]:
    return (entry,) if isinstance(entry, int) else entry
