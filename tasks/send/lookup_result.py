"""What a look-up says of a row's source: plain values."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from tasks.models import Source


class Finding(Enum):
    """What a look-up says."""

    FOUND = "found"  #: a source with the row's reference is there
    ABSENT = "absent"  #: the list is complete and does not have it
    UNKNOWN = "unknown"  #: nothing is proved: the list is not complete, or lists were not seen to show references


class LookUp(NamedTuple):
    """A finding; `source` is the row's if found, `copies` how many carry its reference (more than one: report it)."""

    finding: Finding
    source: Source | None = None
    copies: int = 0
    generation: int | None = None  #: of the source, if it is not the row's own
    proved: bool = False  #: absent, and lists are known not to be behind the row's request
    proved_at: float = 0.0  #: else: by when they are known not to be, by the ledger's clock
