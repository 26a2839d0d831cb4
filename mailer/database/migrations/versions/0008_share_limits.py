"""Keep limits that several runs share."""

import sqlalchemy as sa
from alembic import op


revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one version up."""
    op.create_table(
        "limits",
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("free_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("not_before", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("slowed_at", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("share", sa.Float(), server_default=sa.text("1"), nullable=False),
        sa.Column("usual_per_second", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_limits")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "seats",
        sa.Column("limit_name", sa.String(length=300), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("connections", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("limit_name", "holder", name=op.f("pk_seats")),
        sqlite_with_rowid=False,
    )
