"""When the request of an unclear row ended and was first found absent; created rows can be found by their source."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

#: Longer than any request took with the default settings of earlier versions.
LONGEST_REQUEST_SECONDS = 60.0


def upgrade() -> None:
    """Go forward; a request whose outcome is unclear is taken to have ended a request's longest time after it left."""
    op.add_column("rows", sa.Column("ended_at", sa.Float(precision=53), nullable=True))
    op.add_column("rows", sa.Column("absent_at", sa.Float(precision=53), nullable=True))
    rows = sa.table(
        "rows", sa.column("state", sa.Text()), sa.column("sent_at", sa.Float(53)), sa.column("ended_at", sa.Float(53))
    )
    op.execute(
        rows.update()
        .where(rows.c.state == "unclear", rows.c.sent_at.is_not(None))
        .values(ended_at=rows.c.sent_at + LONGEST_REQUEST_SECONDS)
    )
    op.create_table(
        "sources",
        sa.Column("source_id", sa.Text(), primary_key=True),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO sources SELECT source_id, batch_id, record FROM rows"
        " WHERE state = 'created' AND source_id IS NOT NULL ORDER BY source_id, batch_id, record"
        " ON CONFLICT DO NOTHING"
    )
