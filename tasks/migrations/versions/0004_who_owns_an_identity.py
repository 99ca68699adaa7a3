"""Whether a row owns its identity stands in a column of its own, not in its state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go forward; rows that are refused or skipped have yielded their identities, all others own them."""
    op.drop_index("rows_one_owner", "rows")
    op.execute(
        "ALTER TABLE rows ADD COLUMN yielded BOOLEAN CONSTRAINT rows_owners_do_not_yield CHECK"
        " (yielded IS NULL OR state NOT IN ('claimed', 'created', 'sending', 'unclear', 'waiting'))"
    )
    op.execute("UPDATE rows SET yielded = true WHERE state IN ('refused', 'skipped')")
    op.create_index(
        "rows_one_owner",
        "rows",
        ["identity", "generation"],
        unique=True,
        sqlite_where=sa.text("yielded IS NULL"),
        postgresql_where=sa.text("yielded IS NULL"),
    )
