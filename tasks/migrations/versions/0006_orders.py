"""Where and when a batch is sent, a worker's longest request, and for which modes the ledger was created."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go forward; unfinished batches wait for the first command that names them."""
    op.add_column("batches", sa.Column("address", sa.Text(), nullable=True))
    op.add_column("batches", sa.Column("window", sa.Text(), nullable=True))
    longest = sa.Column("longest_request_seconds", sa.Float(precision=53), nullable=False, server_default="60")
    op.add_column("workers", longest)
    op.create_table(
        "created_for",
        sa.Column("live", sa.Boolean(), primary_key=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
    )
    op.execute("INSERT INTO created_for SELECT live, min(created_at) FROM batches WHERE live GROUP BY live")
