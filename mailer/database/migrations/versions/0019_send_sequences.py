"""Send sequences of messages."""

import sqlalchemy as sa
from alembic import op


revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("issues", sa.Column("sequence_id", big, nullable=True))
    op.create_table(
        "sequences",
        sa.Column("id", big, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("trigger", sa.String(length=200), nullable=False),
        sa.Column("goal", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("zone", sa.String(length=64), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("mark", big, server_default=sa.text("0"), nullable=False),
        sa.Column("floor", big, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequences")),
        sa.UniqueConstraint("name", name=op.f("uq_sequences_name")),
    )
    op.create_table(
        "sequence_steps",
        sa.Column("id", big, nullable=False),
        sa.Column("sequence_id", big, nullable=False),
        sa.Column("issue_id", big, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("after_seconds", big, nullable=False),
        sa.Column("minute", sa.Integer(), nullable=True),
        sa.Column("days", sa.String(length=7), server_default=sa.text("''"), nullable=False),
        sa.Column("segment", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["issue_id"], ["issues.id"], name=op.f("fk_sequence_steps_issue_id")),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_steps_sequence_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sequence_steps")),
    )
    op.create_index(op.f("ix_sequence_steps_sequence_id"), "sequence_steps", ["sequence_id"])
    op.create_table(
        "sequence_members",
        sa.Column("sequence_id", big, nullable=False),
        sa.Column("subscriber_id", big, nullable=False),
        sa.Column("entered_at", sa.BigInteger(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("next_step_id", big, nullable=True),
        sa.Column("zone", sa.String(length=64), server_default=sa.text("''"), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.String(length=16), server_default=sa.text("''"), nullable=False),
        sa.Column("line", big, server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["sequence_id"], ["sequences.id"], name=op.f("fk_sequence_members_sequence_id")),
        sa.PrimaryKeyConstraint("sequence_id", "subscriber_id", name=op.f("pk_sequence_members")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_sequence_members_next_step_id_zone_due_at",
        "sequence_members",
        ["next_step_id", "zone", "due_at"],
    )
