"""What is asked about rows in several places."""

from __future__ import annotations

from sqlalchemy import (
    and_,
    bindparam,
    exists,
    func,
    or_,
)

from tasks.models import (
    OWNING_STATES,
    BatchState,
    RowState,
)
from tasks.schema import batches, rows

#: The generation that a row's source carries.
GENERATION = func.coalesce(rows.c.source_generation, rows.c.generation)

#: Owns its identity. The states stand in the statement itself: given as parameters SQLite would not see that this is
#: the condition of the index `rows_one_owner`, and look at every row of the ledger.
OWNING = rows.c.state.in_(bindparam("owning", sorted(OWNING_STATES), expanding=True, literal_execute=True))


#: In nobody's hands and still to be sent or looked up.
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
        exists().where(batches.c.id == rows.c.batch_id, batches.c.state == BatchState.CANCELLED),
    ),
)


#: Will still move without a person.
NOT_SETTLED = or_(
    rows.c.state.in_([RowState.WAITING, RowState.CLAIMED, RowState.SENDING]),
    and_(rows.c.state == RowState.UNCLEAR, or_(rows.c.not_before.is_not(None), rows.c.worker.is_not(None))),
)
