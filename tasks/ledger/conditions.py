"""What is asked about rows in several places."""

from __future__ import annotations

from sqlalchemy import (
    and_,
    or_,
)

from tasks.models import (
    OWNING_STATES,
    RowState,
)
from tasks.schema import rows

#: Owns its identity.
OWNING = rows.c.state.in_(sorted(OWNING_STATES))


#: In nobody's hands and still to be sent or looked up.
TO_DO = and_(
    rows.c.worker.is_(None),
    or_(
        rows.c.state == RowState.WAITING,
        and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before.is_not(None)),
    ),
)


#: Will still move without a person.
NOT_SETTLED = or_(
    rows.c.state.in_([RowState.WAITING, RowState.CLAIMED, RowState.SENDING]),
    and_(rows.c.state == RowState.UNCLEAR, or_(rows.c.not_before.is_not(None), rows.c.worker.is_not(None))),
)
