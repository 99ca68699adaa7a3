"""Records on their way in: one owner for every identity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    String,
    and_,
    cast,
    exists,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from tasks.identities import own_identity_of
from tasks.ledger.batches import hold_reading
from tasks.ledger.schema import OWNING, batches, rows
from tasks.ledger.schema import own_spellings as own_spellings_table
from tasks.ledger.scope import LedgerPart
from tasks.models import (
    ENDED_STATUSES,
    BatchState,
    NewRow,
    Reason,
    ReportRow,
    RowState,
    decode_reasons,
    encode_reasons,
)

#: Identities that are asked for by one statement.
_PAGE = 500
#: The batch of rows that are only foreseen.
_NO_BATCH = 0


#: Those fields of a new row that are columns of the ledger, and their values.
_COLUMNS = NewRow._fields[: NewRow._fields.index("origin")]
_values = itemgetter(slice(len(_COLUMNS)))


#: What must be known of a row that owns an identity.
_OWNER = (
    rows.c.batch_id,
    rows.c.record,
    rows.c.line,
    rows.c.state,
    rows.c.attempts,
    rows.c.identity,
    rows.c.generation,
    rows.c.source_generation,
    rows.c.spelling,
    rows.c.content,
    rows.c.source_id,
    rows.c.source_status,
)


@dataclass(slots=True)
class _Known:
    """What the ledger knows of one identity, in all of its spellings."""

    owners: list[Row[Any]] = field(default_factory=list)  #: of each spelling in the order of generations
    own_spellings: set[bytes | None] = field(default_factory=set)  #: those that go by an identity of their own

    def owner(self, spelling: bytes | None) -> Row[Any] | None:
        """Return the row of the latest generation that owns the identity in a spelling."""
        return next((owner for owner in reversed(self.owners) if owner.spelling == spelling), None)


@dataclass(frozen=True, slots=True)
class InsertRows(LedgerPart):
    """Adds the rows of a batch that is being read."""

    def add(
        self, batch_id: int, new_rows: Sequence[NewRow], *, again: bool = False, own_spellings: bool = False
    ) -> None:
        """Add records to a batch that is being read.

        A row whose identity is owned already becomes `skipped` and says where, unless its earlier source has ended or
        `again` asks for one more: then it is added with the next generation. If the identity is owned in other
        spellings only, the row becomes `invalid` (`other_spelling`), whatever `again` says; with `own_spellings` it
        gets an identity of its own, by which this spelling goes from then on. Raises LedgerError if the batch is not
        being read any more, because its reader was taken for dead.
        """
        with self.engine.write() as connection:
            hold_reading(connection, batch_id)
            added = self._insert_rows(connection, batch_id, _without_own_spellings(connection, new_rows))
            if added != len(new_rows):
                self._add_owned(connection, batch_id, new_rows, again=again, own_spellings=own_spellings)

    def foresee(self, new_rows: Sequence[NewRow], *, own_spellings: bool = False) -> dict[int, ReportRow]:
        """Return, by record, those of some rows that `add` would not let be sent, as reports would show them.

        Nothing is written, and the rows are not compared with each other.
        """
        with self.engine.read() as connection:
            if connection.execute(select(rows.c.record).limit(1)).first() is None:
                return {}
            known = _known(connection, [row.identity for row in new_rows if row.identity])
            for each, owner in _owners_in_cancelled_batches(connection, known.values()):
                each.owners.remove(owner)
        found = {}
        for row in new_rows:
            owners = known.get(row.identity or b"", _Known())
            if not _may_own(owners, row, _NO_BATCH, again=False, own_spellings=own_spellings):
                found[row.record] = _foreseen(row, owners)
        return found

    def holders_of(self, new_rows: Sequence[NewRow]) -> list[tuple[int, int]]:
        """Return (batch, record) of every row that holds a living source of one of these identities.

        Of each of them `add` makes one more source with `again`, and none without.
        """
        able = [row for row in new_rows if row.identity]
        with self.engine.read() as connection:
            known = _known(connection, [row.identity or b"" for row in able])
        owners = (known[row.identity or b""].owner(row.spelling) for row in able)
        return [(int(owner.batch_id), int(owner.record)) for owner in owners if owner is not None and _lives(owner)]

    def _insert_rows(self, connection: Connection, batch_id: int, new_rows: Sequence[NewRow]) -> int:
        """Insert rows, without those whose identity is owned; return how many."""
        if not new_rows:
            return 0
        if self.engine.is_sqlite:  # plain tuples: the driver takes half a second longer over a million named ones
            names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
            statement = f"INSERT INTO rows (batch_id, {names}) VALUES ({batch_id:d}, {marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - constants and a number
            return connection.exec_driver_sql(statement, list(map(_values, new_rows))).rowcount
        added = connection.execute(
            postgresql.insert(rows).on_conflict_do_nothing().returning(rows.c.record),
            [{"batch_id": batch_id, **_named(row)} for row in new_rows],
        )
        return len(added.all())

    def _add_owned(
        self, connection: Connection, batch_id: int, new_rows: Sequence[NewRow], *, again: bool, own_spellings: bool
    ) -> None:
        """Add those of `new_rows` that `_insert_rows` left out."""
        first, last = new_rows[0].record, new_rows[-1].record
        in_range = and_(rows.c.batch_id == batch_id, rows.c.record.between(first, last))
        listed = select(func.aggregate_strings(cast(rows.c.record, String), ",")).where(in_range)
        there = set(map(int, filter(None, (connection.execute(listed).scalar_one() or "").split(","))))
        left_out = [row for row in new_rows if row.record not in there]
        all_known = _known(connection, [row.identity for row in left_out if row.identity])
        self._give_up_cancelled(connection, all_known.values())
        add: list[dict[str, Any]] = []
        for row in left_out:
            known = all_known[row.identity or b""]
            if self._take(connection, batch_id, known, row, again=again, own_spellings=own_spellings):
                continue
            owner = known.owner(row.spelling)
            add.append(
                {
                    "batch_id": batch_id,
                    "record": row.record,
                    "line": row.line,
                    "customer_id": row.customer_id,
                    "payment_method": row.payment_method,
                    "resource": row.resource,
                    **(_skipped(row, owner, batch_id) if owner else _other_spelling(known.owners, batch_id)),
                }
            )
        if add:
            connection.execute(insert(rows), add)

    def _take(
        self, connection: Connection, batch_id: int, known: _Known, row: NewRow, *, again: bool, own_spellings: bool
    ) -> bool:
        """Insert a row as the owner of its identity, if it may be sent; return whether it was."""
        while owned := _may_own(known, row, batch_id, again=again, own_spellings=own_spellings):
            identity, generation = owned
            values = {"batch_id": batch_id, **_named(row), "identity": identity, "generation": generation}
            taking = self.engine.insert(rows).values(values)
            added = connection.execute(taking.on_conflict_do_nothing().returning(*_OWNER)).one_or_none()
            if added is None:  # another reader was quicker
                known.owners = _known(connection, [row.identity or b""])[row.identity or b""].owners
                continue
            known.owners.append(added)
            if identity != row.identity:
                known.own_spellings.add(row.spelling)
                spelled = {"identity": row.identity, "spelling": row.spelling or b""}
                connection.execute(self.engine.insert(own_spellings_table).values(spelled).on_conflict_do_nothing())
            return True
        return False

    @staticmethod
    def _give_up_cancelled(connection: Connection, known: Iterable[_Known]) -> None:
        """Take identities from rows that will never be sent because their batch was cancelled."""
        for each, owner in _owners_in_cancelled_batches(connection, known):
            if _give_up(connection, owner):
                each.owners.remove(owner)


def _owners_in_cancelled_batches(connection: Connection, known: Iterable[_Known]) -> list[tuple[_Known, Row[Any]]]:
    """Return the owners that will never be sent because their batch was cancelled, with what is known of each."""
    never_sent = [(each, owner) for each in known for owner in each.owners if _never_sent(owner)]
    named = {owner.batch_id for _, owner in never_sent}
    query = select(batches.c.id).where(batches.c.id.in_(named), batches.c.state == BatchState.CANCELLED)
    cancelled = set(connection.execute(query).scalars()) if named else set()
    return [(each, owner) for each, owner in never_sent if owner.batch_id in cancelled]


def _named(row: NewRow) -> dict[str, Any]:
    return dict(zip(_COLUMNS, row, strict=False))


def _pages(identities: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (identities[start : start + _PAGE] for start in range(0, len(identities), _PAGE))


def _has_own_spellings(connection: Connection) -> bool:
    """Return whether any spelling goes by an identity of its own; in almost every ledger none does."""
    return bool(connection.execute(select(exists(select(own_spellings_table)))).scalar_one())


def _without_own_spellings(connection: Connection, new_rows: Sequence[NewRow]) -> Sequence[NewRow]:
    """Return the rows of whose identity no spelling goes by its own: the unique index alone decides about these."""
    if not _has_own_spellings(connection):
        return new_rows
    found: set[bytes] = set()
    for page in _pages([row.identity for row in new_rows if row.identity]):
        query = select(own_spellings_table.c.identity).where(own_spellings_table.c.identity.in_(page))
        found.update(map(bytes, connection.execute(query).scalars()))
    return [row for row in new_rows if row.identity not in found]


def _known(connection: Connection, identities: Sequence[bytes]) -> defaultdict[bytes, _Known]:
    """Return what the ledger knows of each of some (folded) identities."""
    known: defaultdict[bytes, _Known] = defaultdict(_Known)
    folded: dict[bytes, bytes] = {}  # identity of a spelling -> the one that it is a spelling of
    for page in _pages(identities) if _has_own_spellings(connection) else ():
        query = select(own_spellings_table).where(own_spellings_table.c.identity.in_(page))
        for identity, spelling in connection.execute(query):
            known[bytes(identity)].own_spellings.add(bytes(spelling) or None)
            folded[own_identity_of(bytes(identity), bytes(spelling))] = bytes(identity)
    for page in _pages([*identities, *folded]):
        query = select(*_OWNER).where(rows.c.identity.in_(page), OWNING).order_by(rows.c.generation)
        for owner in connection.execute(query):
            identity = bytes(owner.identity)
            known[folded.get(identity, identity)].owners.append(owner)
    return known


def _may_own(
    known: _Known, row: NewRow, batch_id: int, *, again: bool, own_spellings: bool
) -> tuple[bytes, int] | None:
    """Return identity and generation under which a row is to be sent; None if it must not be.

    1. owned in this spelling: one more only if the source has ended or `again` asks for it
    2. owned in other spellings: only as its own
    3. owned by nobody: under the identity by which this spelling goes
    """
    identity = row.identity or b""
    if owner := known.owner(row.spelling):
        once_more = again or owner.source_status in ENDED_STATUSES
        if owner.batch_id == batch_id or not once_more or owner.state != RowState.CREATED:
            return None
        return bytes(owner.identity), _generation(owner) + 1
    if known.owners and not own_spellings:
        return None
    if known.owners or row.spelling in known.own_spellings:
        identity = own_identity_of(identity, row.spelling)
    return identity, 1


def _give_up(connection: Connection, owner: Row[Any]) -> bool:
    """Take the identity from a row of a cancelled batch; False if the row has moved on or somebody holds it."""
    cancelled = exists().where(batches.c.id == owner.batch_id, batches.c.state == BatchState.CANCELLED)
    return bool(
        connection.execute(
            update(rows)
            .where(rows.c.batch_id == owner.batch_id, rows.c.record == owner.record)
            .where(rows.c.state == owner.state, rows.c.attempts == owner.attempts, cancelled)
            .where(rows.c.worker.is_(None))
            .values(
                identity=None, intended_identity=rows.c.identity, state=RowState.WAITING, code=None, not_before=None
            )
        ).rowcount
    )


def _never_sent(owner: Row[Any]) -> bool:
    """Return whether a row waits for its (next) sending, or was being looked up before its first."""
    return bool(owner.state == RowState.WAITING or (owner.state == RowState.UNCLEAR and owner.attempts == 0))


def _lives(owner: Row[Any]) -> bool:
    """Return whether a row has a source that has not ended."""
    return owner.state == RowState.CREATED and owner.source_status not in ENDED_STATUSES


def _generation(owner: Row[Any]) -> int:
    return int(owner.source_generation or owner.generation)


def _skipped(row: NewRow, owner: Row[Any], batch_id: int) -> dict[str, Any]:
    """Return what turns a new row into a skipped one that says where its identity stands already."""
    here = owner.batch_id == batch_id
    changed = owner.content is not None and row.content is not None and bytes(owner.content) != row.content
    code = "changed" if changed else "duplicate_in_file" if here else "onboarded_before"
    detail = f"record {owner.record}" if here else f"batch {owner.batch_id} record {owner.record}"
    return {
        "state": RowState.SKIPPED,
        "identity": owner.identity,
        "generation": _generation(owner),
        "code": code,
        "content": row.content,
        "reasons": encode_reasons([Reason(code, detail=detail)]),
        "source_id": owner.source_id,
        "source_status": owner.source_status,
        "yielded": True,
    }


def _other_spelling(owners: Iterable[Row[Any]], batch_id: int) -> dict[str, Any]:
    """Return what turns a new row into an invalid one that says where its identity stands in another spelling.

    It names the columns that `_skipped` does: one statement inserts both kinds.
    """
    owner = min(owners, key=lambda each: (int(each.batch_id), int(each.record)))
    line = f"line {owner.line}" if owner.batch_id == batch_id else f"batch {owner.batch_id} line {owner.line}"
    return {
        "state": RowState.INVALID,
        "identity": None,
        "generation": 1,
        "code": None,
        "content": None,
        "reasons": encode_reasons([Reason("other_spelling", detail=line)]),
        "source_id": None,
        "source_status": None,
        "yielded": None,
    }


def _foreseen(row: NewRow, known: _Known) -> ReportRow:
    """Return what would become of a row that may not be sent."""
    owner = known.owner(row.spelling)
    values = _skipped(row, owner, _NO_BATCH) if owner else _other_spelling(known.owners, _NO_BATCH)
    return ReportRow(
        record=row.record,
        line=row.line,
        state=str(values["state"]),
        reference="",
        payment_method=row.payment_method or "",
        source_id=values["source_id"] or "",
        source_status=values["source_status"] or "",
        adopted=False,
        code=values["code"] or "",
        parameter="",
        request_id="",
        attempts=0,
        reasons=decode_reasons(values["reasons"]),
        customer_id=row.customer_id or "",
    )
