"""What is asked about rows in several places."""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    and_,
    exists,
    func,
    or_,
    select,
)

from tasks.ledger.schema import batches, rows
from tasks.models import (
    BatchState,
    RowState,
)

#: The generation that a row's source carries.
GENERATION = func.coalesce(rows.c.source_generation, rows.c.generation)

#: Not leased and still to be sent or looked up.
TO_DO = and_(
    rows.c.worker.is_(None),
    or_(
        rows.c.state == RowState.WAITING,
        and_(rows.c.state == RowState.UNCLEAR, rows.c.not_before.is_not(None)),
    ),
)


#: The code of an unclear row that a person has given up.
GIVEN_UP = "given_up"
#: Unclear, and nothing but a person can settle it: no look-up is to come, or its batch is cancelled and makes none.
UNDECIDED = and_(
    rows.c.state == RowState.UNCLEAR,
    rows.c.worker.is_(None),
    or_(
        rows.c.not_before.is_(None),
        exists()
        .where(batches.c.id == rows.c.batch_id, batches.c.state == BatchState.CANCELLED)
        .correlate_except(batches),
    ),
)


_unclear = rows.alias()
_OPEN = rows.c.state.in_([RowState.WAITING, RowState.CLAIMED, RowState.SENDING])
_LOOKED_UP = and_(rows.c.state == RowState.UNCLEAR, or_(rows.c.not_before.is_not(None), rows.c.worker.is_not(None)))
#: Will still move without a person.
NOT_SETTLED = or_(_OPEN, _LOOKED_UP)


def some_not_settled(batch_id: int) -> ColumnElement[bool]:
    """Return whether a batch has a row that is not settled, by the index of states.

    Asked for `NOT_SETTLED` as a whole, SQLite looks at every row of a batch that is nearly done.
    """
    of_batch = rows.c.batch_id == batch_id
    unclear = select(_unclear.c.record).where(_unclear.c.batch_id == batch_id, _unclear.c.state == RowState.UNCLEAR)
    return or_(
        exists(select(rows.c.record).where(of_batch, _OPEN)),
        exists().where(of_batch, rows.c.record.in_(unclear), _LOOKED_UP),
    )
