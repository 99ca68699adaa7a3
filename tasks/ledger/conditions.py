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

from tasks.ledger.schema import batches, carried_over, dismissals, rows
from tasks.models import (
    BatchState,
    RowState,
)

#: The generation that a row's source carries.
GENERATION = func.coalesce(rows.c.source_generation, rows.c.generation)

#: Rows as the index of states has them, which knows only where they are and in which state.
indexed = rows.alias("indexed")
#: The same rows with all that is known of them, found by that index: SQLite would look at every row of a batch. The
#: sums keep it from beginning with `rows`.
FOUND_BY_STATE = rows.join(
    indexed, and_(rows.c.batch_id == indexed.c.batch_id + 0, rows.c.record == indexed.c.record + 0)
)

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


def some_not_settled(batch_id: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Return whether a batch (its id, or `batches.c.id`) has a row that is not settled, by the index of states.

    Asked for `NOT_SETTLED` as a whole, SQLite looks at every row of a batch that is nearly done.
    """
    of_batch = rows.c.batch_id == batch_id
    unclear = (
        select(_unclear.c.record)
        .where(_unclear.c.batch_id == batch_id, _unclear.c.state == RowState.UNCLEAR)
        .correlate(batches)
    )
    return or_(
        exists(select(rows.c.record).where(of_batch, _OPEN)),
        exists().where(of_batch, rows.c.record.in_(unclear), _LOOKED_UP),
    )


#: What a person must settle: corrected, retried, decided, or set aside.
_CANCELLED = (
    exists().where(batches.c.id == rows.c.batch_id, batches.c.state == BatchState.CANCELLED).correlate_except(batches)
)
NEEDS_PERSON = or_(
    rows.c.state.in_([RowState.INVALID, RowState.REFUSED]),
    UNDECIDED,
    and_(rows.c.state == RowState.WAITING, _CANCELLED),
)
#: Of these another row can take the work up. An unclear row is decided itself.
CAN_BE_CARRIED = or_(
    rows.c.state.in_([RowState.INVALID, RowState.REFUSED]), and_(rows.c.state == RowState.WAITING, _CANCELLED)
)


def need_a_person(batch_id: int, state: str) -> ColumnElement[bool]:
    """Return the condition of the rows of a batch in a state that need a person.

    It looks at waiting rows only where they need one: a running batch may have a million.
    """
    return and_(rows.c.batch_id == batch_id, rows.c.state.in_(states_that_need_a_person(state)), NEEDS_PERSON)


def found_that_need_a_person(batch_id: int, state: str) -> ColumnElement[bool]:
    """Return the same of `FOUND_BY_STATE`, for whoever wants all of them in no order."""
    in_state = indexed.c.state.in_(states_that_need_a_person(state))
    return and_(indexed.c.batch_id == batch_id, in_state, NEEDS_PERSON)


def states_that_need_a_person(state: str) -> list[RowState]:
    """Return in which states rows of a batch that is in a state may need a person."""
    found = [RowState.INVALID, RowState.REFUSED, RowState.UNCLEAR]
    return [*found, RowState.WAITING] if state == BatchState.CANCELLED else found


_of_batch = select(indexed.c.record).where(indexed.c.batch_id == batches.c.id).correlate(batches)
#: A batch has rows in a state in which they may need a person, by the index of states.
MAY_NEED_A_PERSON = or_(
    exists(_of_batch.where(indexed.c.state.in_(states_that_need_a_person("")))),
    and_(batches.c.state == BatchState.CANCELLED, exists(_of_batch.where(indexed.c.state == RowState.WAITING))),
)
IS_CARRIED = exists().where(carried_over.c.batch_id == rows.c.batch_id, carried_over.c.record == rows.c.record)
IS_DISMISSED = exists().where(dismissals.c.batch_id == rows.c.batch_id, dismissals.c.record == rows.c.record)
#: Nobody has taken it up, nor set it aside.
IS_OPEN = and_(~IS_CARRIED, ~IS_DISMISSED, rows.c.code.is_distinct_from(GIVEN_UP))
