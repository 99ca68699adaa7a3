"""The first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Go forward; there is no way back but the backup taken before."""
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("state_reason", sa.Text(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("parent_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("reader", sa.Integer(), nullable=True),
        sa.Column("file_format", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("finished_at", sa.Float(precision=53), nullable=True),
        sa.Column("deadline_at", sa.Float(precision=53), nullable=True),
        sa.Column("warnings", sa.Text(), server_default="[]", nullable=False),
        sa.Column("canary", sa.Integer(), server_default="0", nullable=False),
        sa.Column("verify", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("dropped_at", sa.Float(precision=53), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("window", sa.Text(), server_default="", nullable=False),
        sa.Column("runner", sa.Integer(), nullable=True),
        sa.Column("brought_by", sa.String(length=16), server_default="", nullable=False),
        sa.Column("stop_code", sa.String(length=16), nullable=True),
        sa.Column("sample_due_at", sa.Float(precision=53), nullable=True),
        sa.Column("who", sa.Text(), server_default="", nullable=False),
        sa.Column("person", sa.Text(), nullable=True),
        sa.Column("four_eyes", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("first_approver", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["parent_id"],
            ["batches.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_batches_sha256"), "batches", ["sha256"], unique=False)
    op.create_table(
        "channels",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "closed_methods",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "payment_method", "resource"),
    )
    op.create_table(
        "created_for",
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("live"),
    )
    op.create_table(
        "history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("who", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("history_by_row", "history", ["batch_id", "record"], unique=False)
    op.create_table(
        "ledger_identity",
        sa.Column("ledger_id", sa.String(length=32), nullable=False),
        sa.Column("change_counter", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("ledger_id"),
    )
    op.create_table(
        "news",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("code", sa.Text(), server_default="", nullable=False),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("once", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("once"),
    )
    op.create_table(
        "carried_over",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("by_batch", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("by_record", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "record"),
        sqlite_with_rowid=False,
    )
    op.create_index("carried_over_by", "carried_over", ["by_batch", "by_record"], unique=False)
    op.create_table(
        "dismissals",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "record"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "customer_pages",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("numbers", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "first_number"),
    )
    op.create_table(
        "own_spellings",
        sa.Column("identity", sa.LargeBinary(length=16), nullable=False),
        sa.Column("spelling", sa.LargeBinary(length=8), nullable=False),
        sa.PrimaryKeyConstraint("identity", "spelling"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rows",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("identity", sa.LargeBinary(length=16), nullable=True),
        sa.Column("generation", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("payment_method", sa.Text(), nullable=True),
        sa.Column("resource", sa.Text(), nullable=True),
        sa.Column("request", sa.LargeBinary(), nullable=True),
        sa.Column("content", sa.LargeBinary(length=8), nullable=True),
        sa.Column("reasons", sa.LargeBinary(), nullable=True),
        sa.Column("worker", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("look_ups", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("resends", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("not_before", sa.Float(precision=53), nullable=True),
        sa.Column("sent_at", sa.Float(precision=53), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.Column("source_status", sa.Text(), nullable=True),
        sa.Column("adopted", sa.Boolean(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("parameter", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("follow_up_at", sa.Float(precision=53), nullable=True),
        sa.Column("follow_ups", sa.SmallInteger(), nullable=True),
        sa.Column("source_generation", sa.SmallInteger(), nullable=True),
        sa.Column("status_at", sa.Float(precision=53), nullable=True),
        sa.Column("yielded", sa.Boolean(), nullable=True),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("absent_at", sa.Float(precision=53), nullable=True),
        sa.Column("spelling", sa.LargeBinary(length=8), nullable=True),
        sa.Column("intended_identity", sa.LargeBinary(length=16), nullable=True),
        sa.CheckConstraint(
            "yielded IS NULL OR (state NOT IN ('claimed', 'created', 'sending', 'unclear', 'waiting'))",
            name="rows_owners_do_not_yield",
        ),
        sa.PrimaryKeyConstraint("batch_id", "record"),
        sqlite_with_rowid=False,
    )
    op.create_index("rows_by_state", "rows", ["batch_id", "state", "record"], unique=False)
    op.create_index(
        "rows_followed",
        "rows",
        ["follow_up_at"],
        unique=False,
        sqlite_where=sa.text("follow_up_at IS NOT NULL"),
        postgresql_where=sa.text("follow_up_at IS NOT NULL"),
    )
    op.create_index(
        "rows_held",
        "rows",
        ["worker"],
        unique=False,
        sqlite_where=sa.text("worker IS NOT NULL"),
        postgresql_where=sa.text("worker IS NOT NULL"),
    )
    op.create_index(
        "rows_one_owner",
        "rows",
        ["identity", "generation"],
        unique=True,
        sqlite_where=sa.text("yielded IS NULL"),
        postgresql_where=sa.text("yielded IS NULL"),
    )
    op.create_table(
        "slices",
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("first_record", sa.Integer(), nullable=False),
        sa.Column("last_record", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=True),
        sa.Column("rung", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "first_record"),
    )
    op.create_index(
        "slices_due",
        "slices",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "sources",
        sa.Column("source_id", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tellings",
        sa.Column("news_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("due_at", sa.Float(precision=53), nullable=True),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("told_at", sa.Float(precision=53), nullable=True),
        sa.PrimaryKeyConstraint("news_id", "channel"),
    )
    op.create_index(
        "tellings_due",
        "tellings",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("process_started", sa.Text(), nullable=False),
        sa.Column("lease_ends_at", sa.Float(precision=53), nullable=False),
        sa.Column("longest_request_seconds", sa.Float(precision=53), nullable=False),
        sa.Column("account", sa.String(length=16), nullable=False),
        sa.Column("runner", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("ends_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
