"""A customer, a source or a reference, found over all batches."""

from __future__ import annotations

from tasks.ledger import FoundRow
from tasks.services import Services


def find(services: Services, wanted: str) -> tuple[FoundRow, ...]:
    """Return the rows of this account that are about a customer, a source or a reference, newest batch first."""
    finder, wanted = services.ledger.finder, wanted.strip()
    for look in (finder.by_reference, finder.by_customer, finder.by_source):  # the last one may look at each row
        if found := look(wanted):
            return tuple(found)
    return ()
