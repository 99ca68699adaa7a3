"""Batches that verify first or were dropped; created rows that are followed up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

FIRST_LOOK_SECONDS = 3600.0


def upgrade() -> None:
    """Go forward; pending sources of earlier runs are followed up from now on, an hour after their creation."""
    op.add_column("batches", sa.Column("verify", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("batches", sa.Column("dropped_at", sa.Float(precision=53), nullable=True))
    op.add_column("rows", sa.Column("follow_up_at", sa.Float(precision=53), nullable=True))
    op.add_column("rows", sa.Column("follow_ups", sa.SmallInteger(), nullable=True))
    op.add_column("rows", sa.Column("source_generation", sa.SmallInteger(), nullable=True))
    op.add_column("rows", sa.Column("status_at", sa.Float(precision=53), nullable=True))
    rows = sa.table(
        "rows",
        sa.column("state", sa.Text()),
        sa.column("source_id", sa.Text()),
        sa.column("source_status", sa.Text()),
        sa.column("sent_at", sa.Float(53)),
        sa.column("follow_up_at", sa.Float(53)),
    )
    ended = ["active", "deleted", "failed", "inactive"]
    op.execute(
        rows.update()
        .where(rows.c.state == "created", rows.c.source_id.is_not(None))
        .where(sa.func.coalesce(rows.c.source_status, "").not_in(ended))
        .values(follow_up_at=sa.func.coalesce(rows.c.sent_at, 0.0) + FIRST_LOOK_SECONDS)
    )
    op.create_index(
        "rows_followed",
        "rows",
        ["follow_up_at"],
        sqlite_where=sa.text("follow_up_at IS NOT NULL"),
        postgresql_where=sa.text("follow_up_at IS NOT NULL"),
    )
