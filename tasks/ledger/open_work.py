"""Rows that need a person, over all batches: carried over to the row that took their work up, set aside, or open."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from tasks.errors import LedgerError
from tasks.ledger.conditions import (
    CAN_BE_CARRIED,
    FOUND_BY_STATE,
    GIVEN_UP,
    IS_CARRIED,
    IS_DISMISSED,
    IS_OPEN,
    MAY_NEED_A_PERSON,
    NEEDS_PERSON,
    found_that_need_a_person,
    indexed,
    need_a_person,
)
from tasks.ledger.history import History
from tasks.ledger.queries import REPORTED, report_row_of
from tasks.ledger.schema import batches, carried_over, dismissals, rows
from tasks.ledger.scope import LedgerPart
from tasks.models import BatchState, ReportRow, RowState, Successor, Work

#: Rows that are named in one statement.
_PAGE = 500
#: Rows that are read by one.
_ROWS_AT_ONCE = 5000


def batches_to_look_at(connection: Connection, here: ColumnElement[bool]) -> list[tuple[int, str]]:
    """Return number and state of those of some batches that have rows that may need a person, in their order.

    One statement for all of them: most batches of a ledger have none.
    """
    query = select(batches.c.id, batches.c.state).where(here, MAY_NEED_A_PERSON).order_by(batches.c.id)
    return [(number, state) for number, state in connection.execute(query)]


def _state_of(connection: Connection, batch_id: int) -> str:
    return str(connection.execute(select(batches.c.state).where(batches.c.id == batch_id)).scalar_one())


Key = tuple[int, int]
"""Batch and record."""


class OpenRow(NamedTuple):
    """A row that needs a person now."""

    batch_id: int
    since: float  #: when the first batch was accepted in which its work was open
    row: ReportRow


class OpenCounts(NamedTuple):
    """How much needs a person now."""

    by_state: Mapping[str, int]  #: state -> rows; `waiting`: of cancelled batches
    since: float | None  #: as `OpenRow.since`, of the oldest of them

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.by_state.values())


@dataclass(frozen=True, slots=True)
class OpenWork(LedgerPart):
    """Links rows that need a person to the rows that take their work up, and counts what is left."""

    history: History

    def carry_over(self, connection: Connection, links: Mapping[Key, Key]) -> None:
        """Note which rows (the keys) are taken up, and by which.

        A row that was carried over before carries that on, if it needs a person itself. A row that was skipped because
        its identity has an owner stands for that owner.
        """
        last = _last_of(connection, list(links))
        owners = _owners(connection, list(links.values()))
        pairs = {last[row]: owner for row, by in links.items() if (owner := owners.get(by, by)) is not None}
        needing = _that_can_be_carried(connection, list(pairs))
        values = [
            {"batch_id": row[0], "record": row[1], "by_batch": by[0], "by_record": by[1]}
            for row, by in pairs.items()
            if row in needing and row != by
        ]
        if values:
            connection.execute(insert(carried_over), values)
            moved = [dict(zip(_MOVED, each.values(), strict=True)) for each in values]
            self.engine.execute_many(connection, _MOVE_ON, moved)

    def of_batch(self, batch_id: int) -> Work:
        """Return what became of the rows of a batch that needed a person."""
        query = (
            select(_WHAT_BECAME, carried_over.c.by_batch, func.count())
            .select_from(_with_successors(FOUND_BY_STATE))
            .group_by(_WHAT_BECAME, carried_over.c.by_batch)
        )
        count: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        with self.engine.read() as connection:
            needing = found_that_need_a_person(batch_id, _state_of(connection, batch_id))
            for what, by_batch, rows_of in connection.execute(query.where(needing)):
                count[what][by_batch or 0] += rows_of
        return Work(
            open=sum(count["open"].values()),
            dismissed=sum(count["dismissed"].values()),
            resolved=dict(count["resolved"]),
            under_way=dict(count["under_way"]),
            carried_over=dict(count["carried_over"]),
        )

    def successors(self, batch_id: int, record: int | None = None) -> dict[int, Successor]:
        """Return the records of a batch that needed a person and need none here any more: what became of them.

        With `record` only that one is looked at.
        """
        query = (
            select(rows.c.record, _WHAT_BECAME, carried_over.c.by_batch, _WHY_DISMISSED)
            .select_from(_with_successors(rows))
            .where(or_(carried_over.c.by_batch.is_not(None), dismissals.c.at.is_not(None), rows.c.code == GIVEN_UP))
        )
        if record is not None:
            query = query.where(rows.c.record == record)
        with self.engine.read() as connection:
            needing = need_a_person(batch_id, _state_of(connection, batch_id))
            found = connection.execute(query.where(needing))
            return {
                record: Successor(what, by_batch, reason if what == "dismissed" else "")
                for record, what, by_batch, reason in found
            }

    def open_rows(self, batch_id: int | None = None) -> Iterator[OpenRow]:
        """Yield the rows of this account that need a person now, in the order of batch and record.

        It holds no transaction meanwhile.
        """
        here = self.scope.of_account if batch_id is None else and_(self.scope.of_account, batches.c.id == batch_id)
        with self.engine.read() as connection:
            found = batches_to_look_at(connection, here)
        for number, state in found:
            yield from self._open_rows(number, state)

    def count(self) -> OpenCounts:
        """Count what `open_rows` yields, by the indexes; a hundred thousand rows take two tenths of a second."""
        by_state: dict[str, int] = defaultdict(int)
        since: list[float] = []
        with self.engine.read() as connection:
            found = batches_to_look_at(connection, self.scope.of_account)
        for number, state in found:
            with self.engine.read() as connection:
                counted = _counted(connection, number, state)
                for each, count in counted:
                    by_state[each] += count
                if counted:
                    since.append(_oldest(connection, number, state))
        return OpenCounts(dict(by_state), min(since, default=None))

    def _open_rows(self, batch_id: int, state: str) -> Iterator[OpenRow]:
        query = (
            select(SINCE, *REPORTED)
            .join(batches, batches.c.id == rows.c.batch_id)
            .where(_open_rows_of(batch_id, state))
            .order_by(rows.c.record)
            .limit(_ROWS_AT_ONCE)
        )
        last = 0
        while True:
            with self.engine.read() as connection:
                page = connection.execute(query.where(rows.c.record > last)).all()
            for since, *row in page:
                yield OpenRow(batch_id, float(since), report_row_of(row))
            if len(page) < _ROWS_AT_ONCE:
                return
            last = page[-1].record

    def dismiss(self, batch_id: int, records: Sequence[int], reason: str, who: str) -> None:
        """Set rows aside that need a person, with the reason; all or none. Raises LedgerError if one is not open."""
        with self.engine.write() as connection:
            for page in pages(list(dict.fromkeys(records))):
                query = select(rows.c.record).where(
                    rows.c.batch_id == batch_id, rows.c.record.in_(page), NEEDS_PERSON, ~IS_CARRIED, ~IS_DISMISSED
                )
                is_open = set(connection.execute(query).scalars())
                for record in page:
                    if record not in is_open:
                        raise LedgerError(
                            "record {record} of batch {batch} does not need a person", record=record, batch=batch_id
                        )
                values = {"batch_id": batch_id, "at": self.engine.now(), "reason": reason, "who": who}
                connection.execute(insert(dismissals), [{**values, "record": record} for record in page])
                for record in page:
                    self.history.add(connection, batch_id, record, f"dismissed: {reason}", who)

    def take_back_dismissals(self, batch_id: int, records: Sequence[int], who: str) -> None:
        """Let rows that were set aside need a person again; all or none. Raises LedgerError if one was not."""
        with self.engine.write() as connection:
            for record in dict.fromkeys(records):
                gone = connection.execute(
                    delete(dismissals).where(dismissals.c.batch_id == batch_id, dismissals.c.record == record)
                ).rowcount
                if not gone:
                    raise LedgerError(
                        "record {record} of batch {batch} was not dismissed", record=record, batch=batch_id
                    )
                self.history.add(connection, batch_id, record, "dismissal taken back", who)


_successor = rows.alias("successor")
_dismissed_later = dismissals.alias("dismissed_later")


def _open_rows_of(batch_id: int, state: str) -> ColumnElement[bool]:
    return and_(need_a_person(batch_id, state), IS_OPEN)


def _with_successors(found: FromClause) -> FromClause:
    return (
        found.outerjoin(
            carried_over, and_(carried_over.c.batch_id == rows.c.batch_id, carried_over.c.record == rows.c.record)
        )
        .outerjoin(
            _successor,
            and_(_successor.c.batch_id == carried_over.c.by_batch, _successor.c.record == carried_over.c.by_record),
        )
        .outerjoin(dismissals, and_(dismissals.c.batch_id == rows.c.batch_id, dismissals.c.record == rows.c.record))
        .outerjoin(
            _dismissed_later,
            and_(
                _dismissed_later.c.batch_id == carried_over.c.by_batch,
                _dismissed_later.c.record == carried_over.c.by_record,
            ),
        )
    )


_successor_batch = batches.alias("successor_batch")
_GOES_ON_LATER = exists().where(
    _successor_batch.c.id == _successor.c.batch_id, _successor_batch.c.state != BatchState.CANCELLED
)
_WHAT_BECAME: ColumnElement[str] = case(
    (or_(dismissals.c.at.is_not(None), _dismissed_later.c.at.is_not(None)), literal("dismissed")),
    (and_(carried_over.c.by_batch.is_(None), rows.c.code == GIVEN_UP), literal("dismissed")),
    (carried_over.c.by_batch.is_(None), literal("open")),
    (_successor.c.state == RowState.CREATED, literal("resolved")),
    (_successor.c.code == GIVEN_UP, literal("dismissed")),
    (_successor.c.state.in_([RowState.INVALID, RowState.REFUSED]), literal("carried_over")),
    (and_(_successor.c.state == RowState.UNCLEAR, _successor.c.not_before.is_(None)), literal("carried_over")),
    (_GOES_ON_LATER, literal("under_way")),
    else_=literal("carried_over"),
)
_WHY_DISMISSED = func.coalesce(dismissals.c.reason, _dismissed_later.c.reason, "")
_first = batches.alias("first")
SINCE = func.coalesce(
    select(func.min(_first.c.created_at))
    .join(carried_over, carried_over.c.batch_id == _first.c.id)
    .where(carried_over.c.by_batch == rows.c.batch_id, carried_over.c.by_record == rows.c.record)
    .correlate(rows)
    .scalar_subquery(),
    batches.c.created_at,
)
"""When the first of the rows that were carried over to a row was accepted, or the row itself."""


def _counted(connection: Connection, batch_id: int, state: str) -> list[tuple[str, int]]:
    query = (
        select(indexed.c.state, func.count())
        .select_from(FOUND_BY_STATE)
        .where(found_that_need_a_person(batch_id, state), IS_OPEN)
        .group_by(indexed.c.state)
    )
    return [(each, int(count)) for each, count in connection.execute(query)]


def _oldest(connection: Connection, batch_id: int, state: str) -> float:
    """Return since when the oldest open row of a batch is open, which has some."""
    taken_up = carried_over.alias()
    carried_on = (
        select(func.min(_first.c.created_at))
        .select_from(taken_up)
        .join(_first, _first.c.id == taken_up.c.batch_id)
        .join(rows, and_(rows.c.batch_id == taken_up.c.by_batch, rows.c.record == taken_up.c.by_record))
        .where(taken_up.c.by_batch == batch_id, _open_rows_of(batch_id, state))
    )
    here = select(batches.c.created_at).where(batches.c.id == batch_id)
    found = (connection.execute(query).scalar_one() for query in (carried_on, here))
    return min(float(at) for at in found if at is not None)


def these(table: Table, keys: Iterable[Key]) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions that name some lines of a table, each for one statement.

    SQLite finds no index for pairs of columns in a list.
    """
    by_batch: dict[int, list[int]] = defaultdict(list)
    for batch_id, record in keys:
        by_batch[batch_id].append(record)
    for batch_id, records in by_batch.items():
        for page in pages(records):
            yield and_(table.c.batch_id == batch_id, table.c.record.in_(page))


def pages(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield some items in as many as one statement asks for."""
    return (items[start : start + _PAGE] for start in range(0, len(items), _PAGE))


def _last_of(connection: Connection, keys: Sequence[Key]) -> dict[Key, Key]:
    """Return the row that carries on the work of each row now: itself, unless it was carried over."""
    there: dict[Key, Key] = {}
    for here in these(carried_over, keys):
        query = select(carried_over).where(here)
        there |= {(row.batch_id, row.record): (row.by_batch, row.by_record) for row in connection.execute(query)}
    return {key: there.get(key, key) for key in keys}


def _owners(connection: Connection, keys: Sequence[Key]) -> dict[Key, Key | None]:
    """Return, of those rows that were skipped, the row that owns their identity; None: no row does any more."""
    owner = rows.alias()
    found: dict[Key, Key | None] = {}
    for here in these(rows, keys):
        query = (
            select(rows.c.batch_id, rows.c.record, owner.c.batch_id, owner.c.record)
            .outerjoin(owner, and_(owner.c.identity == rows.c.identity, owner.c.yielded.is_(None)))
            .where(here, rows.c.state == RowState.SKIPPED)
            .order_by(owner.c.generation)
        )
        for batch_id, record, by_batch, by_record in connection.execute(query):
            found[batch_id, record] = None if by_batch is None else (by_batch, by_record)
    return found


def _that_can_be_carried(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    found: set[Key] = set()
    for here in these(rows, keys):
        query = select(rows.c.batch_id, rows.c.record).where(here, CAN_BE_CARRIED, ~IS_CARRIED)
        found.update((batch_id, record) for batch_id, record in connection.execute(query))
    return found


_MOVED = ("of_batch", "of_record", "to_batch", "to_record")
_MOVE_ON = (
    update(carried_over)
    .where(carried_over.c.by_batch == bindparam("of_batch"), carried_over.c.by_record == bindparam("of_record"))
    .values(by_batch=bindparam("to_batch"), by_record=bindparam("to_record"))
)
