"""Measure how long connections, replies and deliveries take."""

import sqlalchemy as sa
from alembic import op


revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.create_table(
        "latencies",
        sa.Column("measure", sa.String(length=16), nullable=False),
        sa.Column("relay", sa.String(length=64), nullable=False),
        sa.Column("provider", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("up_to_ms", sa.Integer(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("measure", "relay", "provider", "kind", "up_to_ms", name=op.f("pk_latencies")),
        sqlite_with_rowid=False,
    )
